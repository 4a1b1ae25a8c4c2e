"""The mixture, in torch alone: standardised profiles, gates, and what the experts of one linear layer add.

h' = W_0 h + (α/r) Σ_i g_i B_i (A_i h + offset_i), as in cuma: in fp32, ties to the lowest expert. The scaling lies in
B, so that no product has an `alpha` (compilers have lost one). What depends on the person alone is computed once a
request and read from a table (`people`): the router's profile part, what experts read of a profile, and for person-only
routers the gates themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cuma_vllm.adapter import Adapter, Experts, Router
from cuma_vllm.adapter_config import MixtureConfig


def standardised(adapter: Adapter, vector: Tensor) -> Tensor:
    """[D] raw encoder output → [D'] what routers read: centred, scaled, projected; zeros (the empty profile) stay."""
    assert adapter.mean is not None  # the adapter reads profiles
    assert adapter.scale is not None
    standard = (vector - adapter.mean) * adapter.scale * (vector != 0).any()
    return standard if adapter.projection is None else adapter.projection @ standard


def gates_of(logits: Tensor, top_k: int, gating: str) -> Tensor:
    """[..., E] → [..., E]: one softmax over the K largest logits, ties to the lowest index.

    "released" is the authors' code: a softmax over all first, and softmax again over the selected probabilities.
    """
    if gating == "released":
        logits = logits.softmax(dim=-1)
    if top_k == logits.shape[-1]:
        return logits.softmax(dim=-1)
    left = logits
    for _ in range(top_k):  # torch.topk does not say which of equal logits it takes; argmax takes the first
        left = left.scatter(-1, left.argmax(dim=-1, keepdim=True), float("-inf"))
    return logits.masked_fill(left == logits, float("-inf")).softmax(dim=-1)


class Kept(nn.Module):
    """A module whose tensors are buffers in fp32: nothing is trained, and vLLM's loader looks for parameters only."""

    def keep(self, name: str, tensor: Tensor | None, device: torch.device | None) -> None:
        """Keep a copy on `device`; None stays None."""
        copy = None if tensor is None else tensor.detach().to(device, torch.float32).contiguous().clone()
        self.register_buffer(name, copy, persistent=False)


class Gate(Kept):
    """A router: from hidden states, and what the table holds of each token's person, to gates."""

    def __init__(self, config: MixtureConfig, router: Router, device: torch.device | None = None) -> None:
        super().__init__()
        self.top_k, self.gating = config.top_k, config.gating
        self.by_person = router.hidden is None
        joint = router.hidden is not None and router.profile is not None
        first = config.router_hidden_dim or config.num_experts
        self.columns = config.num_experts if self.by_person else first if joint else 0
        """How many of the table's columns it reads."""
        self.keep("hidden", router.hidden, device)
        self.keep("bias", router.bias if router.profile is None else None, device)  # else it lies in the table
        output_weight, output_bias = router.output or (None, None)
        self.keep("output_weight", output_weight, device)
        self.keep("output_bias", output_bias, device)

    def forward(self, hidden: Tensor, part: Tensor | None) -> Tensor:
        """hidden [M, H] fp32; part [M, `columns`] of the table, None for a semantic router → gates [M, E]."""
        if self.by_person:
            assert part is not None
            return part
        return self.decide(functional.linear(hidden, self.hidden, self.bias) if part is None
                           else functional.linear(hidden, self.hidden) + part)  # fmt: skip

    def decide(self, activation: Tensor) -> Tensor:
        """[..., W] of the first layer → gates [..., E]."""
        if self.output_weight is not None:
            activation = functional.linear(activation.relu(), self.output_weight, self.output_bias)
        return gates_of(activation, self.top_k, self.gating)


class Part(NamedTuple):
    """Experts, and the first of the columns of a linear layer's output that they add to."""

    start: int
    experts: Experts


class Mixture(Kept):
    """One router and all experts that it weighs in one linear layer, which in vLLM may be several of transformers'."""

    def __init__(
        self, config: MixtureConfig, router: Router, parts: Sequence[Part], device: torch.device | None = None
    ) -> None:
        super().__init__()
        self.gate = Gate(config, router, device)
        self.rank = config.r
        self.spans = [(part.start, part.start + part.experts.lora_B.shape[1]) for part in parts]
        self.first_column = 0
        """Of its own in the table; set by whoever makes that."""
        self.keep("down", torch.cat([part.experts.lora_A.flatten(0, -2) for part in parts]), device)  # [S·E·R, H]
        for place, part in enumerate(parts):  # [E·R, O]; A shared: `down` is [S·R, H]
            up = part.experts.lora_B.transpose(1, 2).flatten(0, 1) * config.scaling
            self.keep(f"up_{place}", up, device)
        self.person_map = _person_map(router, parts)
        """What of it `People` computes; None for a semantic router."""
        offsets = sum(
            part.experts.lora_A_profile.flatten(0, -2).shape[0]
            for part in parts
            if part.experts.lora_A_profile is not None
        )
        self.columns = self.gate.columns + offsets
        """How many of the table's columns belong to it: the router's, then the experts' offsets."""
        self._router_rows = 0 if self.person_map is None else len(self.person_map[1]) - offsets

    def person_row(self, product: Tensor) -> Tensor:
        """A person's columns, from `person_map` applied to the standardised profile."""
        if not self.gate.by_person:
            return product
        return torch.cat([self.gate.decide(product[: self._router_rows]), product[self._router_rows :]])

    def forward(self, output: Tensor, hidden: Tensor, row: Tensor | None) -> Tensor:
        """Add what the experts say, in place.

        Args:
            output: [M, O] of the base layer, overwritten.
            hidden: [M, H], its input.
            row: [M, `columns`] of each token's person; None for a semantic router.

        Returns:
            output.
        """
        wide, width = hidden.float(), self.gate.columns
        gates = self.gate(wide, None if row is None else row[:, :width])
        low = functional.linear(wide, self.down)
        if row is not None and row.shape[1] > width:
            low = low + row[:, width:]
        low = low.view(wide.shape[0], len(self.spans), -1, self.rank)  # [M, S, E or 1, R]
        weighted = (low * gates[:, None, :, None]).flatten(2)  # [M, S, E·R]
        for place, (start, end) in enumerate(self.spans):
            output[:, start:end] += weighted[:, place] @ self.get_buffer(f"up_{place}")
        return output


def _person_map(router: Router, parts: Sequence[Part]) -> tuple[Tensor, Tensor] | None:
    """(weight [C, D'], bias [C]) that make of a standardised profile what the router and the experts read of it."""
    if router.profile is None:
        return None
    weights, biases = (
        [router.profile],
        [router.profile.new_zeros(len(router.profile)) if router.bias is None else router.bias],
    )
    for part in parts:
        if part.experts.lora_A_profile is not None:
            weights.append(part.experts.lora_A_profile.flatten(0, -2))
            biases.append(weights[-1].new_zeros(len(weights[-1])))
    return torch.cat(weights), torch.cat(biases)
