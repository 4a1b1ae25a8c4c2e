"""What the experts say: the mixture-of-LoRA product, as the paper writes it and as the layers compute it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cuma.tuner.experts_dense import DenseMixture, add_dense_, beside
from cuma.tuner.experts_gathered import GatheredMixture, add_gathered_
from cuma.tuner.precision import no_autocast

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
    for the backward: `hidden` itself, the gates, and A h. Never anything as wide as the output.

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
        base_out.
    """
    dtype = _product_dtype(hidden.device.type, lora_A.dtype)
    gathers = _gathers(hidden, lora_B)
    given = (base_out, hidden, gates, lora_A, lora_B, offset, scaling, dtype)
    with no_autocast(hidden.device.type):
        if torch.is_grad_enabled():
            return (GatheredMixture if gathers else DenseMixture).apply(*given)
        if gathers:
            add_gathered_(*given)
        else:
            add_dense_(*given, None if once is None else once(lambda: beside(lora_B.to(dtype))))
    return base_out


def _gathers(hidden: Tensor, lora_B: Tensor) -> bool:
    """A rule of shape and device alone. A compiled graph is always dense: its shapes must not depend on the gates."""
    if lora_B.shape[0] * lora_B.shape[-1] < GATHER_FROM or hidden.numel() < GATHER_TOKENS * hidden.shape[-1]:
        return False
    return hidden.device.type == "cpu" and not torch.compiler.is_compiling()


def _product_dtype(device: str, own: torch.dtype) -> torch.dtype:
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else own
