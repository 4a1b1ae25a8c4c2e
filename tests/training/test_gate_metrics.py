"""The figures about routers, on gates whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from cuma.training.gate_metrics import GateMeter
from helpers.tiny import adapted, people, tokens


def one_hot(experts: list[list[int]], count: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(experts), count).float()


def report(
    gates: torch.Tensor, mask: torch.Tensor | None = None, embeds: torch.Tensor | None = None
) -> dict[str, float]:
    meter = GateMeter()
    meter.add({"layer": gates}, mask, embeds)
    return meter.report()


def test_one_expert_for_all_is_no_choice() -> None:
    figures = report(one_hot([[1, 1], [1, 1]]))
    assert figures == pytest.approx({"gate_entropy": 0, "effective_experts": 1, "dead_experts": 3})


def test_even_gates_use_every_expert() -> None:
    figures = report(torch.full((2, 3, 4), 0.25))
    assert figures == pytest.approx({"gate_entropy": math.log(4), "effective_experts": 4, "dead_experts": 0}, rel=1e-5)


def test_padding_does_not_count() -> None:
    gates, mask = one_hot([[0, 3], [1, 3]]), torch.tensor([[1, 0], [1, 0]])
    assert report(gates, mask) == pytest.approx(
        {"gate_entropy": 0, "effective_experts": 2, "dead_experts": 2}, rel=1e-5
    )


def test_experts_that_follow_people_tell_and_others_do_not() -> None:
    embeds = torch.eye(2).repeat(20, 1)
    follows = one_hot([[0, 0], [1, 1]]).repeat(20, 1, 1)
    told = report(follows, embeds=embeds)["expert_group_mi"]
    assert math.log(2) - 0.05 < told <= math.log(2)
    torch.manual_seed(0)
    chance = one_hot(torch.randint(4, (40, 2)).tolist())
    assert abs(report(chance, embeds=embeds)["expert_group_mi"]) < 0.08


def test_a_report_starts_anew() -> None:
    meter = GateMeter()
    assert meter.report() == {}
    meter.add({"layer": one_hot([[0]])}, None, None)
    assert meter.report()
    assert meter.report() == {}


def test_only_forwards_with_gradients_are_watched() -> None:
    model, meter = adapted().train(), GateMeter()
    with meter.watching(model.base_model):
        with torch.no_grad():
            model(input_ids=tokens(2), profile_embeds=people(2))
        assert meter.report() == {}
        model(input_ids=tokens(2), profile_embeds=people(2))
    figures = meter.report()
    assert set(figures) == {"gate_entropy", "effective_experts", "dead_experts", "expert_group_mi"}
    assert 1 <= figures["effective_experts"] <= 4
    model(input_ids=tokens(2), profile_embeds=people(2))
    assert meter.report() == {}
