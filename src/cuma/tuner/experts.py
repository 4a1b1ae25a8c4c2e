"""What the experts say: the mixture-of-LoRA product."""

from __future__ import annotations

import torch
from torch import Tensor


def mixture_of_lora(hidden: Tensor, gates: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    """Δ(h) = scaling · Σ_i g_i B_i A_i h, the second term of the paper's layer equation.

    All experts are computed in one dense product each way. People share the experts and differ in the gates only, so
    a batch of many people costs what a batch of one person costs, and every parameter always has a gradient.

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
