"""The rival: a mixture as one writes it from the paper's equation, a loop over slots and a loop over experts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cuma.tuner.context import current
from cuma.tuner.layer import CumaLinear


def double_loop(hidden: Tensor, gates: Tensor, top_k: int, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    """Δ(h) for hidden [..., H], gates [..., E] → [..., O]; asks the device 2·K·E times which tokens an expert has."""
    flat = hidden.flatten(0, -2).to(lora_A.dtype)
    weights, chosen = gates.flatten(0, -2).topk(top_k, dim=-1)
    delta = flat.new_zeros(flat.shape[0], lora_B.shape[1])
    for slot in range(top_k):
        for expert in range(len(lora_B)):
            tokens = (chosen[:, slot] == expert).nonzero().flatten()
            if len(tokens):
                own = lora_A if lora_A.dim() == 2 else lora_A[expert]
                said = flat[tokens] @ own.T @ lora_B[expert].T
                delta.index_add_(0, tokens, weights[tokens, slot, None] * said * scaling)
    return delta.view(*hidden.shape[:-1], -1)


@contextmanager
def loops_in_every_layer() -> Iterator[None]:
    """Within it every CumaLinear is computed naively: its router on [h ⊕ e_d] anew, then the double loop."""
    ours = CumaLinear.forward
    CumaLinear.forward = _naive
    try:
        yield
    finally:
        CumaLinear.forward = ours


def _naive(layer: CumaLinear, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    call, name = current(), layer.active_adapters[0]
    assert call is not None
    assert call.profile is not None
    router = layer.router_owner.get(name, layer).cuma_router[name]
    experts = layer.cuma_experts[name]
    each = call.profile.repeat_interleave(hidden.shape[0] // len(call.profile), 0)
    joint = torch.cat([hidden.float(), each[:, None].expand(*hidden.shape[:-1], -1)], dim=-1)
    with torch.autocast(hidden.device.type, enabled=False):
        logits = router.output(router.input(joint).relu())
    values, chosen = logits.topk(router.top_k, dim=-1)
    gates = torch.zeros_like(logits).scatter(-1, chosen, values.softmax(-1))
    if call.balanced:  # of every layer; those that share a router say the same, so the mean is ours
        share = functional.one_hot(chosen, logits.shape[-1]).float().mean((0, 1, 2))
        call.losses.append(logits.shape[-1] * (share * logits.softmax(-1).mean((0, 1))).sum())
    base = layer.base_layer(hidden, *args, **kwargs)
    return base + double_loop(hidden, gates, router.top_k, experts.lora_A, experts.lora_B, experts.scaling).to(base)
