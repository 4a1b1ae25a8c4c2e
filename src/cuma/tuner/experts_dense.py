"""The mixture as one product each way: [H → E·R], gates, [E·R → O] added to the base layer's output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def add_dense_(
    base_out: Tensor,
    hidden: Tensor,
    gates: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    offset: Tensor | None,
    dtype: torch.dtype,
    side_by_side: Tensor | None = None,
) -> tuple[Tensor]:
    """base_out [..., O] += Σ_i g_i B_i (A_i h + offset_i), all in `dtype`.

    `side_by_side` is `beside(lora_B)` in `dtype`, if it is known already. It, or the gates [..., E], hold the scaling.

    Returns:
        What the backward needs: low [M, E, R] (shared A: [M, 1, R]), A h + offset of the M tokens.
    """
    experts, out_features, rank = lora_B.shape
    low = hidden.reshape(-1, hidden.shape[-1]).to(dtype) @ lora_A.to(dtype).flatten(0, -2).T
    if offset is not None:
        low += offset.reshape(low.shape).to(dtype)
    low = low.view(low.shape[0], -1, rank)
    weighted = (low * _weights(gates, dtype)).view(-1, experts * rank)
    if side_by_side is None:
        side_by_side = beside(lora_B.to(dtype))
    if base_out.dtype == dtype and base_out.is_contiguous():
        base_out.view(-1, out_features).addmm_(weighted, side_by_side.T)
    else:
        base_out.add_((weighted @ side_by_side.T).view(base_out.shape))
    return (low,)


def dense_gradients(
    grad_out: Tensor,
    hidden: Tensor,
    gates: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    dtype: torch.dtype,
    wanted: Sequence[bool],
    low: Tensor,
) -> tuple[tuple[Tensor | None, ...], Tensor]:
    """Of hidden, gates, lora_A, lora_B, as far as each is wanted; and of A h [M, E·R] (shared A: [M, R])."""
    experts, out_features, rank = lora_B.shape
    grad, weights = grad_out.reshape(-1, out_features).to(dtype), _weights(gates, dtype)
    grad_hidden = grad_gates = grad_A = grad_B = None
    if wanted[3]:
        weighted = (low * weights).view(-1, experts * rank)
        grad_B = (grad.T @ weighted).view(out_features, experts, rank).transpose(0, 1).contiguous()
    grad_weighted = (grad @ beside(lora_B.to(dtype))).view(-1, experts, rank)
    if wanted[1]:
        grad_gates = (grad_weighted * low).sum(-1)
    grad_low = grad_weighted * weights
    grad_low = grad_low.sum(1) if lora_A.dim() == 2 else grad_low.view(-1, experts * rank)
    if wanted[2]:
        grad_A = grad_low.T @ hidden.reshape(-1, hidden.shape[-1]).to(dtype)
    if wanted[0]:
        grad_hidden = grad_low @ lora_A.to(dtype).flatten(0, -2)
    return (grad_hidden, grad_gates, grad_A, grad_B), grad_low


def beside(lora_B: Tensor) -> Tensor:
    """[E, O, R] → [O, E·R]: the experts' matrices beside one another (a copy, but a small one)."""
    return torch.stack(lora_B.unbind(0), dim=1).flatten(1)  # twice as fast as transposing, on CPUs


def _weights(gates: Tensor, dtype: torch.dtype) -> Tensor:
    """[M, E, 1]."""
    return gates.reshape(-1, gates.shape[-1], 1).to(dtype)
