"""The mixture-of-LoRA product against a double loop over the paper's equation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cuma.tuner.experts import mixture_of_lora
from cuma.tuner.router import top_k_gates

B, T, E, R, H, OUT = 2, 3, 4, 2, 5, 6


def parts(shared: bool, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    gates = top_k_gates(draw(B, T, E), 2).to(dtype)
    return draw(B, T, H), gates, draw(R, H) if shared else draw(E, R, H), draw(E, OUT, R)


@pytest.mark.parametrize("shared", [False, True])
def test_equals_the_equation(shared: bool) -> None:
    hidden, gates, lora_a, lora_b = parts(shared)
    expected = torch.zeros(B, T, OUT, dtype=torch.float64)
    for row in range(B):
        for token in range(T):
            for expert in range(E):
                own = lora_a if shared else lora_a[expert]
                expected[row, token] += gates[row, token, expert] * (lora_b[expert] @ (own @ hidden[row, token]))
    torch.testing.assert_close(mixture_of_lora(hidden, gates, lora_a, lora_b, 2.5), 2.5 * expected)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients(shared: bool) -> None:
    inputs = [tensor.requires_grad_(True) for tensor in parts(shared)]
    assert torch.autograd.gradcheck(lambda *tensors: mixture_of_lora(*tensors, 2.0), inputs)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shape", [(), (T,), (B, T), (B, T, 2)])
def test_any_leading_shape(shape: tuple[int, ...], shared: bool) -> None:
    _, _, lora_a, lora_b = parts(shared)
    hidden, gates = torch.randn(*shape, H, dtype=torch.float64), torch.rand(*shape, E, dtype=torch.float64)
    delta = mixture_of_lora(hidden, gates, lora_a, lora_b, 1.0)
    assert delta.shape == (*shape, OUT)
    flat = mixture_of_lora(hidden.reshape(1, -1, H), gates.reshape(1, -1, E), lora_a, lora_b, 1.0)
    torch.testing.assert_close(delta.reshape(-1, OUT), flat[0])


def test_an_expert_without_gate_says_nothing() -> None:
    hidden, gates, lora_a, lora_b = parts(False)
    before = mixture_of_lora(hidden, gates, lora_a, lora_b, 1.0)
    for expert in range(E):
        louder = lora_b.clone()
        louder[expert] *= 1e3
        moved = (mixture_of_lora(hidden, gates, lora_a, louder, 1.0) != before).any(-1)
        assert torch.equal(moved, gates[..., expert] > 0)


def test_soft_equal_gates_are_the_mean_of_the_loras() -> None:
    hidden, _, lora_a, lora_b = parts(False)
    gates = torch.full((B, T, E), 1 / E, dtype=torch.float64)
    each = [hidden @ lora_a[expert].T @ lora_b[expert].T for expert in range(E)]
    torch.testing.assert_close(mixture_of_lora(hidden, gates, lora_a, lora_b, 1.0), torch.stack(each).mean(0))
