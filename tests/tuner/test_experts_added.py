"""`add_mixture_of_lora_` against the readable reference: the same sums, in place, with little kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cuma.tuner import experts
from cuma.tuner.experts import add_mixture_of_lora_, mixture_of_lora
from cuma.tuner.router import top_k_gates
from helpers.counting import kept_bytes, kernels

M, E, H, OUT = 11, 4, 10, 6
FORMS = {"dense": 10**9, "gathered": 0}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(experts, "GATHER_FROM", FORMS[request.param])
    monkeypatch.setattr(experts, "GATHER_TOKENS", 0)
    return request.param


def parts(shared: bool, dtype: torch.dtype = torch.float64, rank: int = 3) -> list[Tensor]:
    """base_out, hidden, gates, lora_A, lora_B; one expert is chosen by nobody."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    logits = draw(M, E).index_fill(1, torch.tensor([2]), -50)
    gates = top_k_gates(logits, 2).to(torch.float64 if dtype == torch.float64 else torch.float32)
    lora_A = draw(rank, H) if shared else draw(E, rank, H)
    return [draw(M, OUT), draw(M, H), gates, lora_A, draw(E, OUT, rank)]


def gradients(function: Callable[..., Tensor], tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    leaves = [tensor.clone().requires_grad_(True) for tensor in tensors]
    base_out, *others = leaves
    out = function(base_out * 1, *others)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
    (out.double() * weight).sum().backward()
    return out.detach(), [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_outputs_and_all_gradients_are_the_references(form: str, dtype: torch.dtype, shared: bool) -> None:
    """bf16: the base's output and the layer's input are bf16, the adapter is fp32, as in training."""
    tensors = parts(shared, dtype)
    tensors[3:] = [tensor.to(torch.float32 if dtype == torch.bfloat16 else dtype) for tensor in tensors[3:]]

    def reference(base_out: Tensor, hidden: Tensor, gates: Tensor, lora_A: Tensor, lora_B: Tensor) -> Tensor:
        delta = mixture_of_lora(hidden.to(lora_A.dtype), gates, lora_A, lora_B, 2.0)
        return base_out + delta.to(base_out.dtype)

    expected, wanted = gradients(reference, tensors)
    found, ours = gradients(lambda *given: add_mixture_of_lora_(*given, 2.0), tensors)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    if form == "gathered":
        wanted[2] = wanted[2] * (tensors[2] != 0)  # a softmax before the gates would do the same
    for name, mine, theirs in zip(("base_out", "hidden", "gates", "A", "B"), ours, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("with_offset", [False, True])
def test_gradcheck(form: str, shared: bool, with_offset: bool) -> None:
    base_out, hidden, _, lora_A, lora_B = parts(shared)
    logits = torch.randn(M, E, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3
    offset = torch.randn(M, lora_A.shape[0] * (1 if shared else lora_A.shape[1]), dtype=torch.float64)

    def function(base: Tensor, hidden: Tensor, logits: Tensor, A: Tensor, B: Tensor, beside: Tensor) -> Tensor:
        gates = logits.masked_fill(logits < logits.topk(2).values[..., 1:], float("-inf")).softmax(-1)
        return add_mixture_of_lora_(base * 1, hidden, gates, A, B, 2.0, beside if with_offset else None)

    inputs = [tensor.requires_grad_(True) for tensor in (base_out, hidden, logits, lora_A, lora_B, offset)]
    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)  # random projections of all entries


def test_it_is_in_place_and_returns_what_it_was_given(form: str) -> None:
    base_out, *others = parts(False, torch.float32)
    expected = base_out + mixture_of_lora(*others, 2.0)
    with torch.no_grad():
        assert add_mixture_of_lora_(base_out, *others, 2.0) is base_out
    torch.testing.assert_close(base_out, expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 2)])
def test_any_leading_shape_and_layout(form: str, shape: tuple[int, ...]) -> None:
    *_, lora_A, lora_B = parts(False)
    hidden, gates = torch.randn(*shape, H, dtype=torch.float64), torch.rand(*shape, E, dtype=torch.float64)
    wide = torch.zeros(*shape, 2 * OUT, dtype=torch.float64)
    every_other = wide[..., ::2]  # nothing that could be flattened without a copy
    add_mixture_of_lora_(every_other, hidden, gates, lora_A, lora_B, 2.0)
    torch.testing.assert_close(wide[..., ::2], mixture_of_lora(hidden, gates, lora_A, lora_B, 2.0))
    assert not wide[..., 1::2].any()


def test_a_base_whose_backward_needs_its_output_fails_loudly() -> None:
    base_out, *others = parts(False)
    out = add_mixture_of_lora_(base_out.requires_grad_(True).exp(), *others, 2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_which_form_runs_is_a_rule_of_shape() -> None:
    hidden = torch.zeros(64, 4)
    assert not experts._gathers(hidden[1:], torch.zeros(8, 4, 32))
    assert experts._gathers(hidden, torch.zeros(8, 4, 32))
    assert not experts._gathers(hidden, torch.zeros(8, 4, 31))
    assert not experts._gathers(hidden.to("meta"), torch.zeros(8, 4, 32))


def test_autocast_sets_the_precision_of_the_products_and_nothing_else() -> None:
    base_out, *others = (tensor.requires_grad_(True) for tensor in parts(False, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = add_mixture_of_lora_(base_out * 1, *others, 2.0)
    out.sum().backward()
    assert out.dtype == torch.float32
    assert {tensor.grad.dtype for tensor in others} == {torch.float32}
    exact = base_out + mixture_of_lora(*others, 2.0)
    torch.testing.assert_close(out, exact, rtol=5e-2, atol=2e-1)
    assert not torch.equal(out, exact)


# ---- what it costs, without a clock ------------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [False, True])
def test_nothing_as_wide_as_the_output_is_kept(form: str, shared: bool) -> None:
    tokens, wide = 50, 4096
    base_out, hidden = torch.zeros(tokens, wide, requires_grad=True), torch.randn(tokens, H, requires_grad=True)
    _, _, _, lora_A, lora_B = parts(shared, torch.float32)
    lora_B = torch.randn(E, wide, lora_B.shape[-1])
    gates = top_k_gates(torch.randn(tokens, E), 2)
    kept = kept_bytes(
        lambda: add_mixture_of_lora_(base_out * 1, hidden, gates, lora_A, lora_B, 2.0), [hidden, lora_A, lora_B]
    )
    assert kept <= tokens * (4 * E + 4 * E * lora_B.shape[-1] + 8 * 2)


def test_the_dense_form_is_three_products_forward_and_four_backward() -> None:
    """A h; the experts' matrices side by side; and the sum into the base's output, where it lies."""
    base_out, *others = (tensor.requires_grad_(True) for tensor in parts(False, torch.float32))
    start = base_out * 1
    forward, out = kernels(lambda: add_mixture_of_lora_(start, *others, 2.0))
    assert [name for name in forward if "mm" in name] == ["aten.mm", "aten.addmm_"]
    assert len(forward) <= 6
    backward, _ = kernels(lambda: out.sum().backward())
    assert sum(name == "aten.mm" for name in backward) == 4


@pytest.mark.parametrize("people", ["equal", "different"])
def test_the_gathered_form_does_the_work_of_the_chosen_experts_only(people: str) -> None:
    tokens, rank, width = 64, 64, 32
    lora_A, lora_B = torch.randn(8, rank, width), torch.randn(8, width, rank)
    logits = torch.randn(1, 8).expand(tokens, -1) if people == "equal" else torch.randn(tokens, 8)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        add_mixture_of_lora_(
            torch.zeros(tokens, width), torch.randn(tokens, width), top_k_gates(logits, 2), lora_A, lora_B, 2.0
        )
    assert counter.get_total_flops() == 2 * tokens * 2 * rank * (width + width)  # K = 2 experts a token, A and B


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["contiguous", "view", "strided"])
def test_compiled_is_plain(layout: str, dtype: torch.dtype) -> None:
    """Inductor has lost the `alpha` of in-place sums. The output is the base layer's, in its dtype and layout."""
    _, hidden, gates, lora_A, lora_B = parts(False, dtype)
    weight = torch.randn(OUT, H, generator=torch.Generator().manual_seed(1)).to(dtype)
    torch.compiler.reset()

    def function(hidden: Tensor, gates: Tensor, lora_A: Tensor, lora_B: Tensor) -> Tensor:
        base_out = hidden @ weight.T
        if layout == "view":  # as GPT-2's Conv1D returns it
            base_out, hidden, gates = (tensor.view(1, M, -1) for tensor in (base_out, hidden, gates))
        elif layout == "strided":
            base_out = (weight @ hidden.T).T
        return add_mixture_of_lora_(base_out, hidden, gates, lora_A, lora_B, 3.0)

    given = [hidden, gates, lora_A.float(), lora_B.float()]
    compiled = torch.compile(function, fullgraph=True)
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 5e-2, "atol": 0.2}
    for make in (torch.no_grad, torch.enable_grad):
        outcomes = []
        for run in (function, compiled):
            leaves = [tensor.clone().requires_grad_(True) for tensor in given]
            with make():
                out = run(*leaves)
            if out.requires_grad:
                out.float().square().sum().backward()
            outcomes.append([out, *(leaf.grad for leaf in leaves if leaf.grad is not None)])
        plain, other = outcomes
        assert len(plain) == len(other) == (1 if make is torch.no_grad else 5)
        assert plain[0].stride() == other[0].stride()
        torch.testing.assert_close(other, plain, **tolerance)
