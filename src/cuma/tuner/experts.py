"""What the experts say: the mixture-of-LoRA product, as the paper writes it and as the layers compute it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cuma.tuner.experts_dense import add_dense_, beside, dense_gradients
from cuma.tuner.experts_gathered import add_gathered_, gathered_gradients
from cuma.tuner.precision import autocasts, no_autocast

GATHER_FROM = 256
"""E·R from which, on CPUs, each expert is computed for its own tokens only. Below it the work saved is less than the
copying of rows; on a GPU sorting tokens costs more than the products that it saves."""
GATHER_TOKENS = 64
"""And from so many tokens: with few, most of the time is the launching of kernels, E times as many."""


def mixture_of_lora(hidden: Tensor, gates: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    """Δ(h) = scaling · Σ_i g_i B_i A_i h, the second term of the paper's layer equation (arXiv 2601.04885).

    The readable reference: `add_mixture_of_lora_` is what runs, and is tested against this.

    Args:
        hidden: [B, T, H], or [..., H].
        gates: [B, T, E], or [..., E]: the weight of each expert for each token.
        lora_A: [E, R, H], or [R, H] shared by all experts.
        lora_B: [E, O, R].
        scaling: lora_alpha / r.

    Returns:
        delta [B, T, O], or [..., O], in the dtype of `lora_B`.
    """
    gates = gates.to(lora_B.dtype)
    if lora_A.dim() == 2:
        low = torch.einsum("...h,rh->...r", hidden, lora_A).unsqueeze(-2)
    else:
        low = torch.einsum("...h,erh->...er", hidden, lora_A)
    return torch.einsum("...er,eor->...o", low * gates.unsqueeze(-1), lora_B) * scaling


def add_mixture_of_lora_(
    base_out: Tensor,
    hidden: Tensor,
    gates: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: float,
    offset: Tensor | None = None,
    once: Callable[[Callable[[], Tensor]], Tensor] | None = None,
) -> Tensor:
    """base_out += Δ(h), in place, with few kernels and little kept for the backward.

    People share the experts and differ in the gates only, so a batch of many people costs what a batch of one person
    costs. The sums are made in `lora_A`'s dtype (fp32), or in autocast's where that is on, as PEFT's LoRA does. Kept
    for the backward: `hidden` itself, the scaled gates, and A h. Never anything as wide as the output.

    The scaling goes into the gates, or without gradients into B, which `generate` lays out once; never into the last
    sum: compilers have lost the `alpha` of one in place.

    With E·R ≥ GATHER_FROM and GATHER_TOKENS tokens on a CPU each expert is run on its own tokens; there an expert whose
    gate is exactly zero gets no gradient through that gate (a softmax in front of the gates would multiply it by zero).

    Args:
        base_out: [..., O], what the base layer returned; overwritten. Its backward must not need its own output.
        hidden: [..., H], in any floating dtype.
        gates: [..., E].
        lora_A: [E, R, H], or [R, H] shared by all experts.
        lora_B: [E, O, R].
        scaling: lora_alpha / r.
        offset: [..., E·R] (shared A: [..., R]), added to A h: what experts read beside the hidden state.
        once: given how to lay the experts' B side by side, does it, or returns what it did before (`generate`).

    Returns:
        base_out, or in a compiled graph with gradients a new tensor.
    """
    dtype = _product_dtype(hidden.device.type, lora_A.dtype)
    gathers = _gathers(hidden, lora_B)
    with no_autocast(hidden.device.type):
        if torch.is_grad_enabled():
            if torch.compiler.is_compiling():  # AOTAutograd loses the shape of a view that is written to
                base_out = base_out.clone()
            return _Mixture.apply(base_out, hidden, gates * scaling, lora_A, lora_B, offset, dtype, gathers)
        if gathers:
            add_gathered_(base_out, hidden, gates * scaling, lora_A, lora_B, offset, dtype)
            return base_out

        def scaled() -> Tensor:
            return (beside(lora_B) * scaling).to(dtype)

        add_dense_(base_out, hidden, gates, lora_A, lora_B, offset, dtype, scaled() if once is None else once(scaled))
        return base_out


class _Mixture(torch.autograd.Function):
    """The sum with its gradient, dense or gathered. Keeps the layer's input as it came, the gates, and what the form
    itself keeps: dense, A h, that is 4(E + E·R) bytes a token in fp32 beside the input."""

    @staticmethod
    def forward(
        ctx: Any,
        base_out: Tensor,
        hidden: Tensor,
        gates: Tensor,
        lora_A: Tensor,
        lora_B: Tensor,
        offset: Tensor | None,
        dtype: torch.dtype,
        gathers: bool,
    ) -> Tensor:
        kept = (add_gathered_ if gathers else add_dense_)(base_out, hidden, gates, lora_A, lora_B, offset, dtype)
        ctx.mark_dirty(base_out)
        ctx.save_for_backward(hidden, gates, lora_A, lora_B, *kept)
        ctx.dtype, ctx.gathers = dtype, gathers
        ctx.offset = None if offset is None else (offset.shape, offset.dtype)
        return base_out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        hidden, gates, lora_A, lora_B, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[1:5]
        with no_autocast(hidden.device.type):
            gradients = gathered_gradients if ctx.gathers else dense_gradients
            found, grad_low = gradients(grad_out, hidden, gates, lora_A, lora_B, ctx.dtype, wanted, *kept)
            whole = [
                None if gradient is None else gradient.view(of.shape).to(of.dtype)
                for gradient, of in zip(found, (hidden, gates, lora_A, lora_B), strict=True)
            ]
            grad_offset = None if ctx.offset is None else grad_low.view(ctx.offset[0]).to(ctx.offset[1])
        return grad_out, *whole, grad_offset, None, None


def _gathers(hidden: Tensor, lora_B: Tensor) -> bool:
    """A rule of shape and device alone. A compiled graph is always dense: its shapes must not depend on the gates."""
    if lora_B.shape[0] * lora_B.shape[-1] < GATHER_FROM or hidden.numel() < GATHER_TOKENS * hidden.shape[-1]:
        return False
    return hidden.device.type == "cpu" and not torch.compiler.is_compiling()


def _product_dtype(device: str, own: torch.dtype) -> torch.dtype:
    return torch.get_autocast_dtype(device) if autocasts(device) else own
