"""The gates and the load-balancing loss, against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from cuma.tuner.router import Router, load_balancing_loss, released_gates, top_k_gates, top_k_mask
from helpers.tiny import HIDDEN, PROFILE, config, people

FLOATS = st.floats(-30, 30, width=32)
LOGITS = npst.arrays("float32", st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=FLOATS)


@given(LOGITS, st.integers(1, 8))
@settings(deadline=None)
def test_gates_are_one_softmax_over_the_selected_logits(values: object, top_k: int) -> None:
    logits = torch.as_tensor(values)
    top_k = min(top_k, logits.shape[-1])
    gates = top_k_gates(logits, top_k)
    assert gates.dtype == torch.float32
    assert (gates >= 0).all()
    assert ((gates > 0).sum(-1) <= top_k).all()
    torch.testing.assert_close(gates.sum(-1), torch.ones(len(logits)))
    for row, gate in zip(logits.tolist(), gates, strict=True):
        chosen = sorted(range(len(row)), key=lambda expert: (-row[expert], expert))[:top_k]
        expected = torch.zeros(len(row))
        expected[chosen] = torch.tensor([row[expert] for expert in chosen]).softmax(-1)
        torch.testing.assert_close(gate, expected)


@given(LOGITS, st.integers(-20, 20))
@settings(deadline=None)
def test_shifting_all_logits_changes_nothing(values: object, shift: int) -> None:
    logits = torch.as_tensor(values).round()  # whole numbers: the shift itself is exact
    torch.testing.assert_close(top_k_gates(logits + shift, 1), top_k_gates(logits, 1), rtol=0, atol=0)
    torch.testing.assert_close(
        load_balancing_loss(logits + shift, 1), load_balancing_loss(logits, 1), rtol=1e-5, atol=1e-6
    )


def test_ties_go_to_the_lowest_index() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [3.0, 1.0, 3.0, 1.0]])
    assert top_k_mask(logits, 2).tolist() == [
        [False, True, True, False],
        [True, True, False, False],
        [True, False, True, False],
    ]
    many = torch.zeros(1, 500)
    assert top_k_mask(many, 3)[0].nonzero().flatten().tolist() == [0, 1, 2]


def test_bf16_logits_are_weighed_in_fp32() -> None:
    logits = torch.randn(50, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    gates = top_k_gates(logits, 2)
    assert gates.dtype == torch.float32
    assert torch.equal(gates, top_k_gates(logits.float(), 2))
    assert load_balancing_loss(logits, 2).dtype == torch.float32


def test_all_experts_is_plain_softmax() -> None:
    logits = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(top_k_gates(logits, 8), logits.softmax(-1))


@given(npst.arrays("float32", (4, 8), elements=st.floats(-1e4, 1e4, width=32)))
@settings(deadline=None)
def test_released_gates_never_leave_their_narrow_band(values: object) -> None:
    gates = released_gates(torch.as_tensor(values), 2)
    used = gates[gates > 0]
    assert len(used) == 8
    # softmax of two probabilities: at most e / (1 + e), whatever the logits say
    assert ((used > 0.268) & (used < 0.732)).all()


def test_only_chosen_experts_move_the_gates() -> None:
    logits = torch.randn(6, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    top_k_gates(logits, 2).square().sum().backward()
    assert torch.equal(logits.grad != 0, top_k_mask(logits.detach(), 2))


def test_gate_gradient_is_right() -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(3))
    direction = torch.randn(4, 5, generator=torch.Generator().manual_seed(4))
    logits.requires_grad_(True)
    (top_k_gates(logits, 2) * direction).sum().backward()
    gates = top_k_gates(logits.detach(), 2)
    expected = gates * (direction - (gates * direction).sum(-1, keepdim=True))  # the softmax's Jacobian
    torch.testing.assert_close(logits.grad, expected)


def by_hand(logits: torch.Tensor, top_k: int, mask: torch.Tensor) -> float:
    """E Σ_i f_i P_i in plain loops."""
    experts, slots, chance, real = logits.shape[-1], [0.0] * logits.shape[-1], [0.0] * logits.shape[-1], 0
    for row, keep in zip(logits.flatten(0, -2), mask.flatten(), strict=True):
        if keep:
            real += 1
            for expert in sorted(range(experts), key=lambda i: (-float(row[i]), i))[:top_k]:
                slots[expert] += 1 / top_k
            for expert, probability in enumerate(row.softmax(-1).tolist()):
                chance[expert] += probability
    return experts * sum(f / real * p / real for f, p in zip(slots, chance, strict=True))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_load_balancing_loss_by_hand(top_k: int) -> None:
    generator = torch.Generator().manual_seed(top_k)
    logits = torch.randn(3, 5, 4, generator=generator)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [1, 0, 0, 0, 0]])
    assert float(load_balancing_loss(logits, top_k, mask)) == pytest.approx(by_hand(logits, top_k, mask), rel=1e-5)
    everyone = torch.ones(3, 5)
    assert float(load_balancing_loss(logits, top_k)) == pytest.approx(by_hand(logits, top_k, everyone), rel=1e-5)


@pytest.mark.parametrize("top_k", [1, 2])
def test_load_balancing_loss_is_mixtrals(top_k: int) -> None:
    """transformers counts each of the K slots in full, we their share: a factor of K."""
    logits = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
    theirs = load_balancing_loss_func((logits.flatten(0, 1),), 8, top_k, mask)
    torch.testing.assert_close(load_balancing_loss(logits, top_k, mask) * top_k, theirs)


def test_load_balancing_loss_ignores_what_is_padded() -> None:
    logits = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]])
    other = torch.where(mask.bool().unsqueeze(-1), logits, 50 * torch.randn_like(logits))
    assert torch.equal(load_balancing_loss(other, 2, mask), load_balancing_loss(logits, 2, mask))


def test_load_balancing_loss_range() -> None:
    assert float(load_balancing_loss(torch.zeros(9, 8), 8)) == pytest.approx(1.0)
    alone = torch.full((9, 8), -50.0)
    alone[:, 3] = 50.0
    assert float(load_balancing_loss(alone, 1)) == pytest.approx(8.0)
    assert float(load_balancing_loss(alone, 1, torch.zeros(9))) == 0.0


@pytest.mark.parametrize("hidden_dim", [16, None])
@pytest.mark.parametrize("router_input", ["joint", "profile", "semantic"])
def test_router_is_the_papers_equation(router_input: str, hidden_dim: int | None) -> None:
    """Split as it is, the router computes W_r [h ⊕ e]."""
    torch.manual_seed(0)
    router = Router(HIDDEN, config(router_input=router_input, router_hidden_dim=hidden_dim))
    hidden, profile = torch.randn(2, 5, HIDDEN), people(2)
    seen = {
        "joint": torch.cat([hidden, profile.unsqueeze(1).expand(2, 5, PROFILE)], -1),
        "profile": profile.unsqueeze(1).expand(2, 5, PROFILE),
        "semantic": hidden,
    }[router_input]
    expected = router.input(seen)
    if router.output is not None:
        expected = router.output(expected.relu())
    logits, gates = router(hidden, None if router_input == "semantic" else profile)
    assert logits.shape == gates.shape == (2, 5, 4)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(gates, top_k_gates(expected, 2))


def test_router_ignores_autocast_and_low_precision() -> None:
    torch.manual_seed(0)
    router = Router(HIDDEN, config())
    hidden, profile = torch.randn(2, 5, HIDDEN).bfloat16(), people(2)
    expected = router(hidden.float(), profile)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, gates = router(hidden, profile)
    assert logits.dtype == gates.dtype == torch.float32
    assert torch.equal(logits, expected.logits)
    assert torch.equal(gates, expected.gates)


def test_released_gating_is_an_option() -> None:
    torch.manual_seed(0)
    router = Router(HIDDEN, config(gating="released"))
    logits, gates = router(torch.randn(2, 5, HIDDEN), people(2))
    assert torch.equal(gates, released_gates(logits, 2))
