"""The official client against the server: chat, streams, logprobs, seeds, stops and profiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
import torch

from cuma.people.profiles import Profile
from cuma.serving.engine import Engine
from helpers.served import PERUVIAN, THAI, idle, profile_rows, serving, tiny_answerer, tokenizer

ASK = [{"role": "user", "content": "May one lie to a friend?"}]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Engine]]:
    with serving([tiny_answerer(), tiny_answerer("other", seed=2)]) as running:
        yield running


@pytest.fixture(scope="module")
def client(served: tuple[str, Engine]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served[0]}/v1", api_key="none", max_retries=0) as made:
        yield made


def chat(client: openai.OpenAI, profile: Any = None, **options: Any) -> Any:
    extra = {"extra_body": {"profile": profile, **options.pop("extra", {})}}
    defaults = {"model": "tiny", "messages": ASK, "max_tokens": 12, "temperature": 0}
    return client.chat.completions.create(**{**defaults, **options, **extra})


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "other"]
    assert client.models.retrieve("other").owned_by == "cuma"


def test_a_reply_is_the_models_own_greedy_text_for_that_person(client: openai.OpenAI) -> None:
    answerer = tiny_answerer()
    prompt = tokenizer().apply_chat_template(ASK, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    for profile in (THAI, PERUVIAN, None):
        who = profile_rows([Profile.parse(profile)])
        mask = torch.ones_like(prompt)
        written = answerer.model.generate(
            input_ids=prompt, attention_mask=mask, profile_embeds=who, max_new_tokens=12, do_sample=False
        )
        expected = tokenizer().decode(written[0, prompt.shape[1] :], skip_special_tokens=True)
        assert chat(client, profile).choices[0].message.content == expected
    texts = {chat(client, profile).choices[0].message.content for profile in (THAI, PERUVIAN, None)}
    assert len(texts) == 3


def test_a_sentence_is_a_profile_too_and_equals_its_fields(client: openai.OpenAI) -> None:
    sentence = Profile(**THAI).sentence
    assert chat(client, sentence).choices[0].message.content == chat(client, THAI).choices[0].message.content


def test_a_stream_is_the_whole_reply_in_pieces(client: openai.OpenAI) -> None:
    whole = chat(client, THAI, temperature=0.9, seed=5, logprobs=True, top_logprobs=2)
    stream = chat(
        client, THAI, temperature=0.9, seed=5, logprobs=True, top_logprobs=2, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) > 3
    told = [entry.token for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert told == [entry.token for entry in whole.choices[0].logprobs.content]
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert (last.choices, last.usage.completion_tokens) == ([], 12)


def test_logprobs_are_the_models(client: openai.OpenAI) -> None:
    answerer, reply = tiny_answerer(), chat(client, THAI, logprobs=True, top_logprobs=3).choices[0]
    prompt = tokenizer().apply_chat_template(ASK, add_generation_prompt=True, return_dict=False)
    entries = reply.logprobs.content
    with torch.no_grad():
        logits = answerer.model(
            input_ids=torch.tensor([prompt]), profile_embeds=profile_rows([Profile(**THAI)])
        ).logits[0, -1]
    values, ids = logits.log_softmax(-1).topk(3)
    assert [top.token for top in entries[0].top_logprobs] == [tokenizer().decode([token]) for token in ids]
    assert [top.logprob for top in entries[0].top_logprobs] == pytest.approx(values.tolist(), abs=1e-4)
    for entry in entries:  # greedy: the likeliest is the one that was said
        assert entry.logprob == entry.top_logprobs[0].logprob
    assert bytes(entries[0].bytes).decode() == entries[0].token


def test_the_same_seed_gives_the_same_text_and_choices_differ(client: openai.OpenAI) -> None:
    options = {"temperature": 1.0, "top_p": 0.9, "seed": 3}
    first, again = (chat(client, THAI, n=3, **options) for _ in range(2))
    texts = [choice.message.content for choice in first.choices]
    assert texts == [choice.message.content for choice in again.choices]
    assert len(set(texts)) == 3
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert chat(client, THAI, **options).choices[0].message.content == texts[0]
    assert chat(client, THAI, **(options | {"seed": 99})).choices[0].message.content != texts[0]


def test_text_ends_before_a_stop_string_in_both_forms(client: openai.OpenAI) -> None:
    text = chat(client, THAI).choices[0].message.content
    stop = text[5:9]
    reply = chat(client, THAI, stop=[stop, "never said"]).choices[0]
    assert reply.message.content == text[: text.index(stop)]
    assert reply.finish_reason == "stop"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chat(client, THAI, stop=stop, stream=True)]
    assert "".join(pieces) == reply.message.content


def test_completions_go_on_with_texts_and_tokens(client: openai.OpenAI) -> None:
    def complete(prompt: Any, **options: Any) -> Any:
        options = {"max_tokens": 6, "temperature": 0, "extra_body": {"profile": PERUVIAN}} | options
        return client.completions.create(model="other", prompt=prompt, **options)

    one, two = complete("People should").choices[0].text, complete("God is").choices[0].text
    both = complete(["People should", "God is"])
    assert [choice.text for choice in both.choices] == [one, two]
    assert complete(tokenizer().encode("God is")).choices[0].text == two
    assert both.usage.completion_tokens == 12
    told = complete("God is", logprobs=2).choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == 6
    assert "".join(chunk.choices[0].text for chunk in complete("God is", stream=True)) == two


def test_who_spoke_is_told_on_request(client: openai.OpenAI) -> None:
    plain, told = chat(client, THAI).choices[0], chat(client, THAI, extra={"routing": True}).choices[0]
    assert "experts" not in (plain.model_extra or {})
    experts = told.model_extra["experts"]
    assert len(experts) == 2  # one router in each of the two layers
    for gates in experts.values():
        assert sum(gates) == pytest.approx(1, abs=1e-5)
    assert told.message.content == plain.message.content


def test_a_penalty_keeps_the_model_from_repeating_itself(client: openai.OpenAI) -> None:
    reply = chat(client, THAI, max_tokens=40, frequency_penalty=2.0, presence_penalty=2.0, logprobs=True).choices[0]
    plain = chat(client, THAI, max_tokens=40, logprobs=True).choices[0]
    distinct = [len({entry.token for entry in choice.logprobs.content}) for choice in (reply, plain)]
    assert distinct[0] >= distinct[1]
    assert reply.message.content != plain.message.content or distinct[1] == 40


def test_wrong_requests_are_told_in_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Available: other, tiny"):
        chat(client, model="tyni")
    with pytest.raises(openai.UnprocessableEntityError, match=r"profile.*Did you mean 'sex'"):
        chat(client, {"gender": "Female"})
    with pytest.raises(openai.UnprocessableEntityError, match="tools: this server cannot do that"):
        chat(client, extra={"tools": [{"type": "function", "function": {"name": "f"}}]})
    with pytest.raises(openai.UnprocessableEntityError, match="at most"):
        chat(client, max_tokens=100_000)
    with pytest.raises(openai.UnprocessableEntityError, match="Shorten it"):
        chat(client, messages=[{"role": "user", "content": "why? " * 600}])


def test_a_client_that_leaves_frees_its_slot(client: openai.OpenAI, served: tuple[str, Engine]) -> None:
    stream = chat(client, THAI, max_tokens=400, stream=True)
    next(iter(stream))
    stream.close()
    assert idle(served[1], seconds=10)
