"""What clients read: log-probabilities, events and counts, with the official client on a real server."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from cuma.answering.answerer import Answerer
from helpers.scripted import scripted, sentencepiece
from helpers.served import serving, tiny_answerer, tokenizer

ASK = [{"role": "user", "content": "one"}]
SPLIT = "ok 🫠 龜 ✓"
"""Text whose characters need several tokens each."""
BREAKS = "one\u2028two\u2029three\u0085four\u000bfive\u000csix\u001cseven"
"""Whatever Python takes for the end of a line, and JSON does not."""


@contextmanager
def client_of(*answerers: Answerer) -> Iterator[openai.OpenAI]:
    with (
        serving(answerers) as (url, _),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def tokens_of(text: str, vocabulary: Any = None) -> list[int]:
    return list((vocabulary or tokenizer()).encode(text, add_special_tokens=False))


def chat(client: openai.OpenAI, **options: Any) -> Any:
    defaults = {"model": "tiny", "messages": ASK, "max_tokens": 40, "temperature": 0}
    return client.chat.completions.create(**{**defaults, **options})


VOCABULARIES = {"byte level": tokenizer, "as Llama's": sentencepiece, "as Gemma's": lambda: sentencepiece(False)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_bytes_and_whole_tokens_make_up_the_text(name: str, stream: bool) -> None:
    vocabulary = VOCABULARIES[name]()
    text = f"one two {SPLIT}"
    steps = [*tokens_of(text, vocabulary), vocabulary.eos_token_id]
    with client_of(scripted(vocabulary, steps)) as client:
        reply = chat(client, max_tokens=len(steps), logprobs=True, top_logprobs=2, stream=stream)
        if stream:
            choices = [chunk.choices[0] for chunk in reply]
            content = "".join(choice.delta.content or "" for choice in choices)
            entries = [entry for choice in choices if choice.logprobs for entry in choice.logprobs.content]
        else:
            content, entries = reply.choices[0].message.content, reply.choices[0].logprobs.content
    assert content == text
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == text
    assert "".join(entry.token for entry in entries).startswith("one two ok ")
    assert "�" not in "".join(entry.token for entry in entries)
    for entry in entries:
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].bytes == entry.bytes


def test_a_special_token_has_no_bytes() -> None:
    special = tokenizer().convert_tokens_to_ids("<|im_start|>")
    steps = [tokens_of("ok")[0], special, tokens_of("yes")[0]]
    with client_of(scripted(tokenizer(), steps)) as client:
        choice = chat(client, max_tokens=3, logprobs=True).choices[0]
    assert choice.message.content == "okyes"
    assert [entry.token for entry in choice.logprobs.content] == ["ok", "<|im_start|>", "yes"]
    assert choice.logprobs.content[1].bytes is None


# ---- completions ----------------------------------------------------------------------------------------------------


def complete(client: openai.OpenAI, **options: Any) -> Any:
    defaults = {"model": "tiny", "prompt": "one", "max_tokens": 1, "temperature": 0}
    return client.completions.create(**{**defaults, **options}).choices[0]


def test_tokens_that_are_parts_of_characters_are_told_apart() -> None:
    parts = [token for token in range(1000) if tokenizer().decode([token]) == "�"][:6]
    step = {token: 5 - place / 5 for place, token in enumerate(parts)}
    with client_of(scripted(tokenizer(), [step])) as client:
        logprobs = complete(client, logprobs=5).logprobs
    assert len(logprobs.top_logprobs[0]) == 5
    assert all(key.startswith("bytes:\\x") for key in logprobs.top_logprobs[0])
    assert logprobs.top_logprobs[0][logprobs.tokens[0]] == logprobs.token_logprobs[0]
    assert max(logprobs.top_logprobs[0].values()) == logprobs.token_logprobs[0]


def test_tokens_of_one_text_are_all_told_and_the_chosen_one_has_its_own_value() -> None:
    """A byte and a letter that read "A": the second has its id for a name."""
    vocabulary = sentencepiece()
    byte, letter, other = vocabulary.convert_tokens_to_ids(["<0x41>", "A", "B"])
    steps = [{byte: 5.0, letter: 6.0, other: 4.0}, {byte: 6.0, letter: 5.0, other: 4.0}]
    with client_of(scripted(vocabulary, steps)) as client:
        logprobs = complete(client, max_tokens=2, logprobs=3).logprobs
    assert logprobs.tokens == ["A", "A"]
    for (value, top), alike in zip(
        zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True), (byte, letter), strict=True
    ):
        assert set(top) == {"A", "B", f"token_id:{alike}"}
        assert top["A"] == value > top[f"token_id:{alike}"] > top["B"]
        assert sum(map(math.exp, top.values())) <= 1 + 1e-6


def test_the_chosen_token_is_told_beside_the_likeliest() -> None:
    with client_of(tiny_answerer()) as client:
        logprobs = complete(client, max_tokens=8, temperature=2, seed=3, logprobs=1).logprobs
        none, without = complete(client, logprobs=0).logprobs, complete(client, extra_body={"logprobs": False}).logprobs
    for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert top[token] == value
        assert len(top) == (1 if value == max(top.values()) else 2)
    assert any(len(top) == 2 for top in logprobs.top_logprobs), "nothing unlikely was drawn, and nothing is tested"
    assert len(none.top_logprobs[0]) == 1
    assert without is None


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_text_goes_on_with_the_space_that_its_next_token_has(name: str) -> None:
    vocabulary = VOCABULARIES[name]()
    steps = tokens_of("true ?" if name == "as Llama's" else " true ?", vocabulary)
    with client_of(scripted(vocabulary, [*steps, vocabulary.eos_token_id])) as client:
        choice = complete(client, max_tokens=9, logprobs=1)
    assert choice.text == "".join(choice.logprobs.tokens) == " true ?"
    assert choice.logprobs.text_offset[:2] == [0, 5]


def test_offsets_of_a_stream_go_on() -> None:
    steps = tokens_of(SPLIT)
    with client_of(scripted(tokenizer(), steps)) as client:
        options = {"model": "tiny", "prompt": "one", "max_tokens": len(steps), "temperature": 0, "logprobs": 0}
        pieces = [chunk.choices[0].logprobs for chunk in client.completions.create(stream=True, **options)]
    offsets = [offset for piece in pieces if piece for offset in piece.text_offset]
    assert offsets == sorted(offsets)
    assert [offsets[0], offsets[-1]] == [0, len(SPLIT) - 1]


# ---- events, counts -------------------------------------------------------------------------------------------------


def test_line_separators_cut_no_event_in_two() -> None:
    steps = tokens_of(BREAKS)
    answerer = scripted(tokenizer(), [*steps, tokenizer().eos_token_id])
    body = {"model": "tiny", "messages": ASK, "max_tokens": len(steps), "temperature": 0, "stream": True}
    with serving([answerer]) as (url, _):
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            lines = reply.read().decode().splitlines()
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events.pop() == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content") or "" for delta in deltas) == BREAKS


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_counts_once_however_many_choices_it_has(stream: bool) -> None:
    def usage(client: openai.OpenAI, **options: Any) -> Any:
        extra = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        reply = client.completions.create(model="tiny", max_tokens=3, seed=1, **extra, **options)
        return [*reply][-1].usage if stream else reply.usage

    prompts = ["May one lie to a friend?", "Hm"]
    lengths = [len(tokenizer().encode(prompt)) for prompt in prompts]
    with client_of(tiny_answerer()) as client:
        for n in (1, 3):
            told = usage(client, prompt=prompts, n=n)
            assert told.prompt_tokens == sum(lengths)
            assert told.completion_tokens == 3 * 2 * n
            assert told.total_tokens == told.prompt_tokens + told.completion_tokens
            assert told.prompt_tokens_details.cached_tokens <= told.prompt_tokens


def test_a_token_that_cannot_come_has_a_number() -> None:
    """JSON knows no infinity."""
    with client_of(scripted(tokenizer(), [tokens_of("one")[0]], others=-math.inf)) as client:
        top = complete(client, logprobs=2).logprobs.top_logprobs[0]
        streamed = [*chat(client, max_tokens=1, logprobs=True, top_logprobs=2, stream=True)]
    assert list(top.values()) == [0, -9999]
    (entry,) = [entry for chunk in streamed if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [each.logprob for each in entry.top_logprobs] == [0, -9999]
