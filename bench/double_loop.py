"""The rival: a mixture as one writes it from the paper's equation, a loop over slots and a loop over experts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from cuma.tuner.context import current
from cuma.tuner.layer import CumaLinear


def double_loop(hidden: Tensor, gates: Tensor, top_k: int, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    """Δ(h) for hidden [M, H], gates [M, E] → [M, O]; asks the device 2·K·E times which tokens an expert has."""
    weights, chosen = gates.topk(top_k, dim=-1)
    delta = hidden.new_zeros(hidden.shape[0], lora_B.shape[1])
    for slot in range(top_k):
        for expert in range(len(lora_B)):
            tokens = (chosen[:, slot] == expert).nonzero().flatten()
            if len(tokens):
                own = lora_A if lora_A.dim() == 2 else lora_A[expert]
                said = hidden[tokens] @ own.T @ lora_B[expert].T
                delta.index_add_(0, tokens, weights[tokens, slot, None] * said * scaling)
    return delta


@contextmanager
def loops_in_every_layer() -> Iterator[None]:
    """Within it every CumaLinear is computed naively: its router on [h ⊕ e_d] anew, then the double loop."""
    ours = CumaLinear.forward

    def naive(layer: CumaLinear, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        call, name = current(), layer.active_adapters[0]
        assert call is not None
        assert call.profile is not None
        router = layer.router_owner.get(name, layer).cuma_router[name]
        experts = layer.cuma_experts[name]
        each = call.profile.repeat_interleave(hidden.shape[0] // len(call.profile), 0)
        joint = torch.cat([hidden, each[:, None].expand(*hidden.shape[:-1], -1)], dim=-1)
        logits = router.output(router.input(joint).relu())
        values, chosen = logits.topk(router.top_k, dim=-1)
        gates = torch.zeros_like(logits).scatter(-1, chosen, values.softmax(-1))
        delta = double_loop(
            hidden.flatten(0, 1), gates.flatten(0, 1), router.top_k, experts.lora_A, experts.lora_B, experts.scaling
        )
        base = layer.base_layer(hidden, *args, **kwargs)
        return base + delta.view_as(base)

    CumaLinear.forward = naive
    try:
        yield
    finally:
        CumaLinear.forward = ours
