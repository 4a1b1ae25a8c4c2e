"""The mixture expert by expert, each on the tokens that chose it: K/E of the dense product's work.

Its shapes depend on the gates, so it is for CPUs, where nothing has to wait for them, and for large ranks, where the
work saved is more than the copying of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Assignments(NamedTuple):
    """The (expert, token) pairs with a gate, sorted by expert; n of them, about K a token."""

    tokens: Tensor
    """[n] which token."""
    counts: Tensor
    """[E] how many tokens each expert has."""

    @classmethod
    def of(cls, gates: Tensor) -> Assignments:
        """gates [M, E] → slots."""
        chosen = gates != 0
        return cls(chosen.T.nonzero()[:, 1], chosen.sum(0))

    def parts(self) -> Iterator[tuple[int, slice, Tensor]]:
        """(expert, its part of the n slots, its tokens), without the experts that nobody chose."""
        start = 0
        for expert, count in enumerate(self.counts.tolist()):
            if count:
                part = slice(start, start + count)
                yield expert, part, self.tokens[part]
            start += count


def add_gathered_(
    base_out: Tensor,
    hidden: Tensor,
    gates: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    offset: Tensor | None,
    dtype: torch.dtype,
) -> tuple[Tensor, ...]:
    """base_out [..., O] += Σ_i g_i B_i (A_i h + offset_i), all in `dtype`; the gates [..., E] hold the scaling.

    Returns:
        What the backward needs: low [n, R], A h + offset of each slot, and the slots.
    """
    _, out_features, rank = lora_B.shape
    flat, weights = _flat(hidden).to(dtype), _flat(gates).to(dtype)
    beside_hidden = None if offset is None else offset.reshape(flat.shape[0], -1, rank).to(dtype)
    slots = Assignments.of(weights)
    low = flat.new_empty(len(slots.tokens), rank)
    shared = flat @ lora_A.to(dtype).T if lora_A.dim() == 2 else None
    direct = base_out.dtype == dtype and base_out.is_contiguous()
    total = base_out.view(-1, out_features) if direct else flat.new_zeros(flat.shape[0], out_features)
    for expert, part, tokens in slots.parts():
        if shared is None:
            torch.mm(flat.index_select(0, tokens), lora_A[expert].to(dtype).T, out=low[part])
        else:
            torch.index_select(shared, 0, tokens, out=low[part])
        if beside_hidden is not None:
            low[part] += beside_hidden[tokens, expert if shared is None else 0]
        weighted = low[part] * weights[tokens, expert].unsqueeze(1)
        total.index_add_(0, tokens, weighted @ lora_B[expert].to(dtype).T)
    if not direct:
        base_out.add_(total.view(base_out.shape))
    return (low, *slots)


def gathered_gradients(
    grad_out: Tensor,
    hidden: Tensor,
    gates: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    dtype: torch.dtype,
    wanted: Sequence[bool],
    low: Tensor,
    *slots: Tensor,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Of hidden [M, H], gates [M, E], lora_A, lora_B (`wanted` or not); and of A h for every token and expert
    [M, E·R] (or [M, R])."""
    (experts, _, rank), shared = lora_B.shape, lora_A.dim() == 2
    flat, grad, weights = _flat(hidden).to(dtype), _flat(grad_out).to(dtype), _flat(gates).to(dtype)
    grad_low = flat.new_zeros(flat.shape[0], 1 if shared else experts, rank)
    grad_gates = torch.zeros_like(weights)
    grad_A, grad_B = torch.zeros_like(lora_A, dtype=dtype), torch.zeros_like(lora_B, dtype=dtype)
    grad_hidden = torch.zeros_like(flat)
    for expert, part, tokens in Assignments(*slots).parts():
        weight, grad_here = weights[tokens, expert].unsqueeze(1), grad.index_select(0, tokens)
        torch.mm(grad_here.T, low[part] * weight, out=grad_B[expert])
        grad_weighted = grad_here @ lora_B[expert].to(dtype)
        grad_gates[tokens, expert] = (grad_weighted * low[part]).sum(-1)
        grad_weighted *= weight
        if shared:
            grad_low[:, 0].index_add_(0, tokens, grad_weighted)
            continue
        grad_low[tokens, expert] = grad_weighted
        torch.mm(grad_weighted.T, flat.index_select(0, tokens), out=grad_A[expert])
        grad_hidden.index_add_(0, tokens, grad_weighted @ lora_A[expert].to(dtype))
    if shared:
        torch.mm(grad_low[:, 0].T, flat, out=grad_A)
        torch.mm(grad_low[:, 0], lora_A.to(dtype), out=grad_hidden)
    return (grad_hidden, grad_gates, grad_A, grad_B), grad_low


def _flat(tensor: Tensor) -> Tensor:
    """[..., X] → [M, X]."""
    return tensor.reshape(-1, tensor.shape[-1])
