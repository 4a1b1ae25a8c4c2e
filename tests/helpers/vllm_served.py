"""What vLLM's server must say over HTTP: a tiny model with SmolLM2's words and a random mixture, and cuma's answers.

Written beside the cases of `helpers.vllm_reference`, by its `main`: `server/base/`, `server/adapter/` (as PEFT writes
it; its encoder is MiniLM) and `server/expected.json`.
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import torch

from cuma.answering.answerer import Answerer, Answerers
from cuma.models.backbones import load_backbone
from cuma.people.profiles import Profile
from cuma.serving.opinions import OpinionBatch, ask, reply_of
from cuma.serving.schemas import OpinionsRequest, profile_of
from cuma.serving.service import chat_prompt
from helpers.served import encoder, tokenizer
from helpers.tiny import adapted, llama

NEW = 12
PEOPLE: list[Any] = [
    {"country": "Japan", "age": 30}, {"country": "Peru", "age": 70}, {"country": "Kenya", "religion": "Catholic"},
    {"religion": "Muslim", "sex": "Female"}, {"age": 20, "party": "strong Democrat"},
    {"age": 20, "party": "strong Republican"}, "A 55-year-old Buddhist woman living in Thailand",
    '{"country": "Norway"}', {"country": None}, "", None, {"description": "A fisherman who lives by a lake"},
]  # fmt: skip
QUESTIONS = ["May one lie?", "Who should care for the old?", "Why vote?"]
OPTIONS = ["Always", "Sometimes", "Never"]


def bodies() -> list[dict[str, Any]]:
    """Chat requests: every person, three long beginnings, three questions."""
    rng = random.Random(0)
    words = [" ".join(rng.choices(["rice", "river", "law", "son", "debt", "vote"], k=120)) for _ in range(3)]
    asked = itertools.product(PEOPLE, words, QUESTIONS)
    return [
        {"messages": [{"role": "system", "content": prefix}, {"role": "user", "content": question}], "profile": person,
         "temperature": 0, "max_tokens": NEW, "logprobs": True, "top_logprobs": 2}
        for person, prefix, question in asked
    ]  # fmt: skip


def opinions_body() -> dict[str, Any]:
    return {"question": "May one lie to a friend?", "options": OPTIONS, "profiles": PEOPLE, "ordinal": True}


def write(folder: Path) -> None:
    """The whole case."""
    base = llama(
        vocab_size=len(tokenizer()), hidden_size=128, num_attention_heads=4, max_position_embeddings=512,
        pad_token_id=None, bos_token_id=None, eos_token_id=tokenizer().eos_token_id,
    )  # fmt: skip
    base.save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    named = load_backbone(str((folder / "base").resolve()))
    options = {"profile_dim": encoder().dim, "profile_scale": 20.0, "profile_encoder": dict(encoder().spec)}
    adapted(named.model, **options).save_pretrained(folder / "adapter")
    answerer = Answerers(device="cpu").load(folder / "adapter")
    expected = {"chat": [{"body": body, **_said(answerer, body)} for body in bodies()], "opinions": _opinions(answerer)}
    (folder / "expected.json").write_text(json.dumps(expected), encoding="utf-8")


@torch.inference_mode()
def _said(answerer: Answerer, body: dict[str, Any]) -> dict[str, Any]:
    """What transformers with cuma says, alone: tokens, log-probabilities, and how far the likeliest was ahead."""
    person = profile_of(body["profile"])
    prompt = torch.tensor([chat_prompt(answerer, answerer.messages(body["messages"], person))])
    done = answerer.model.generate(
        input_ids=prompt, attention_mask=torch.ones_like(prompt), profile_embeds=answerer.embeds([person]),
        do_sample=False, max_new_tokens=NEW, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    scores = torch.cat(done.logits).float()
    tokens, best = done.sequences[0, prompt.shape[1] :], scores.topk(2).values
    return {
        "tokens": tokens.tolist(),
        "logprobs": scores.log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist(),
        "ahead": (best[:, 0] - best[:, 1]).tolist(),
    }


def _opinions(answerer: Answerer) -> dict[str, Any]:
    request = OpinionsRequest.model_validate(opinions_body())
    people: list[Profile] = [profile_of(member.profile) for member in request.members]
    batch = OpinionBatch(answerer, request.question, request.options, people, ordinal=request.ordinal)

    class Now:
        def __init__(self, work: Any) -> None:
            self.result = work

    return reply_of("adapter", request, ask(batch, Now))  # type: ignore[arg-type]
