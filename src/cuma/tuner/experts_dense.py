"""The mixture as one product each way: [H → E·R], gates, [E·R → O] added to the base layer's output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cuma.tuner.precision import no_autocast


def add_dense_(
    base_out: Tensor,
    hidden: Tensor,
    gates: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    offset: Tensor | None,
    scaling: float,
    dtype: torch.dtype,
    side_by_side: Tensor | None = None,
) -> Tensor:
    """base_out [..., O] += scaling · Σ_i g_i B_i (A_i h + offset_i), all in `dtype`.

    `side_by_side` is `beside(lora_B)` in `dtype`, if it is known already.

    Returns:
        low [M, E, R] (shared A: [M, 1, R]): A h + offset of the M tokens.
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
        base_out.view(-1, out_features).addmm_(weighted, side_by_side.T, alpha=scaling)
    else:
        base_out.add_((weighted @ side_by_side.T).view(base_out.shape), alpha=scaling)
    return low


class DenseMixture(torch.autograd.Function):
    """`add_dense_` with its gradient. Keeps the layer's input as it came, the gates, and A h: 4(E + E·R) bytes a token
    in fp32 beside the input."""

    @staticmethod
    def forward(
        ctx: Any,
        base_out: Tensor,
        hidden: Tensor,
        gates: Tensor,
        lora_A: Tensor,
        lora_B: Tensor,
        offset: Tensor | None,
        scaling: float,
        dtype: torch.dtype,
    ) -> Tensor:
        low = add_dense_(base_out, hidden, gates, lora_A, lora_B, offset, scaling, dtype)
        ctx.mark_dirty(base_out)
        ctx.save_for_backward(hidden, gates, lora_A, lora_B, low)
        ctx.scaling, ctx.dtype = scaling, dtype
        ctx.offset = None if offset is None else (offset.shape, offset.dtype)
        return base_out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        hidden, gates, lora_A, lora_B, low = ctx.saved_tensors
        dtype, (experts, out_features, rank) = ctx.dtype, lora_B.shape
        with no_autocast(hidden.device.type):
            grad = grad_out.reshape(-1, out_features).to(dtype)
            weights = _weights(gates, dtype) * ctx.scaling
            grad_gates = grad_A = grad_B = grad_hidden = grad_offset = None
            if ctx.needs_input_grad[4]:
                weighted = (low * weights).view(-1, experts * rank)
                grad_B = (grad.T @ weighted).view(out_features, experts, rank).transpose(0, 1).to(lora_B.dtype)
            grad_weighted = (grad @ beside(lora_B.to(dtype))).view(-1, experts, rank)
            if ctx.needs_input_grad[2]:
                grad_gates = ((grad_weighted * low).sum(-1) * ctx.scaling).view(gates.shape).to(gates.dtype)
            grad_low = grad_weighted * weights
            grad_low = grad_low.sum(1) if lora_A.dim() == 2 else grad_low.view(-1, experts * rank)
            if ctx.needs_input_grad[3]:
                flat = hidden.reshape(-1, hidden.shape[-1]).to(dtype)
                grad_A = (grad_low.T @ flat).view(lora_A.shape).to(lora_A.dtype)
            if ctx.needs_input_grad[1]:
                grad_hidden = (grad_low @ lora_A.to(dtype).flatten(0, -2)).view(hidden.shape).to(hidden.dtype)
            if ctx.offset is not None and ctx.needs_input_grad[5]:
                shape, offset_dtype = ctx.offset
                grad_offset = grad_low.view(shape).to(offset_dtype)
        return grad_out, grad_hidden, grad_gates, grad_A, grad_B, grad_offset, None, None


def beside(lora_B: Tensor) -> Tensor:
    """[E, O, R] → [O, E·R]: the experts' matrices beside one another (a copy, but a small one)."""
    return torch.stack(lora_B.unbind(0), dim=1).flatten(1)  # twice as fast as transposing, on CPUs


def _weights(gates: Tensor, dtype: torch.dtype) -> Tensor:
    """[M, E, 1]."""
    return gates.reshape(-1, gates.shape[-1], 1).to(dtype)
