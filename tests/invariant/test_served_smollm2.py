"""The promises of server and export on a real model: SmolLM2-135M-Instruct, adapters on the last two layers."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from cuma import CumaConfig, Profile
from cuma.answering.adapter_files import take_off
from cuma.answering.answerer import Answerer, Source
from cuma.exchange.export import export_person
from cuma.models.backbones import load_backbone
from cuma.recipes.schema import BackboneSection
from cuma.serving.engine import Engine
from cuma.serving.generation import Ended, Order
from cuma.serving.sampling import Sampling
from helpers.served import encoder, profile_rows

TIE = 1e-3
PEOPLE = [Profile(country=name, age=age) for name in ("Peru", "Japan", "Kenya", "Norway") for age in (25, 75)]
QUESTIONS = ["May one lie?", "Why vote?", "Is work a duty?", "Who should care for the old?", "What is a family?"]


@pytest.fixture(params=["joint", "profile"])
def answerer(request: pytest.FixtureRequest) -> Answerer:
    backbone = load_backbone("smollm2-135m")
    torch.manual_seed(0)
    options: dict[str, Any] = {"layers_to_transform": [28, 29], "target_modules": ["q_proj", "v_proj"]}
    options |= {"init_weights": False, "router_input": request.param, "profile_dim": encoder().dim}
    model = get_peft_model(backbone.model, CumaConfig(**options))
    model.fit_profiles(profile_rows(PEOPLE))
    model.eval().requires_grad_(False)
    source = Source(Path("smollm2"), None, BackboneSection(), "router")
    return Answerer("smollm2", source, backbone, model, "default", encoder())


def orders(answerer: Answerer, count: int) -> list[Order]:
    made = []
    for number in range(count):
        prompt = answerer.tokenizer.encode(f"Question {number}: {QUESTIONS[number % 5]} Answer:")
        embeds = profile_rows([PEOPLE[number % 8]])
        made.append(Order(answerer, prompt, embeds, 3, Sampling(temperature=0), top_logprobs=2))
    return made


def replies(engine: Engine, asked: list[Order]) -> list[list[Any]]:
    queues: list[queue.Queue[Any]] = [queue.Queue() for _ in asked]
    engine.submit(asked, [each.put for each in queues])
    found = []
    for each in queues:
        events = []
        while not isinstance(event := each.get(timeout=120), Ended):
            events.append(event.choice)
        assert event.reason in ("length", "stop")
        found.append(events)
    return found


@pytest.mark.parametrize("answerer", ["joint"], indirect=True)
def test_a_request_says_the_same_alone_and_among_63_others(answerer: Answerer) -> None:
    asked = orders(answerer, 64)
    with Engine([answerer]) as engine:
        together = replies(engine, asked)
        for number in range(0, 64, 15):
            (alone,) = replies(engine, [asked[number]])
            for many, one in zip(together[number], alone, strict=False):
                if many.token != one.token:
                    assert one.top[0][1] - one.top[1][1] <= TIE, number
                    break
                assert many.logprob == pytest.approx(one.logprob, abs=TIE)


@pytest.mark.parametrize("answerer", ["profile"], indirect=True)
@torch.no_grad()
def test_an_export_computes_the_same_in_stock_peft_and_merged(answerer: Answerer, tmp_path: Path) -> None:
    ids = answerer.tokenizer("Who should care for the old?", return_tensors="pt")["input_ids"]
    whole = answerer.model(input_ids=ids, profile_embeds=profile_rows(PEOPLE[:1])).logits
    export_person(answerer, PEOPLE[0], tmp_path / "merged", merge=True)
    with answerer.model.disable_adapter():
        assert (answerer.model(input_ids=ids).logits - whole).abs().max() > 0.1, "the adapter must say something"
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(merged(input_ids=ids).logits, whole, rtol=0, atol=1e-3)
    base = take_off(answerer.model)
    stock = PeftModel.from_pretrained(base, str(tmp_path / "merged" / "lora"))
    torch.testing.assert_close(stock(input_ids=ids).logits, whole, rtol=0, atol=2e-4)
