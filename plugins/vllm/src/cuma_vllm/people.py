"""Who is in the batch: a row for each person, and for each token whose it is.

Both tensors keep their place in memory, so that compiled graphs and recorded CUDA graphs read them as they read block
tables. A row is made once a request, by one product for all layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from cuma_vllm.adapter import Adapter
from cuma_vllm.mixture import Kept, Mixture, standardised


class People(Kept):
    """The table that mixtures read. A slot is a row's number; whoever runs the model says who sits where."""

    rows: Tensor
    """[slots, C] fp32."""
    slots: Tensor
    """[tokens] int64: whose each token of the running batch is."""

    def __init__(
        self, adapter: Adapter, mixtures: Sequence[Mixture], slots: int, tokens: int, device: torch.device | None = None
    ) -> None:
        """Args:
        adapter: knows how profiles are standardised.
        mixtures: those that read the table; each is given its columns.
        slots: people in a batch, at most.
        tokens: tokens in a batch, at most, padding included.
        device: where the model computes.
        """
        super().__init__()
        self._adapter, self._mixtures = adapter, list(mixtures)
        self.profile_dim = adapter.config.profile_dim
        maps = [mixture.person_map for mixture in mixtures if mixture.person_map is not None]
        self.keep("weight", torch.cat([weight for weight, _ in maps]), device)
        self.keep("bias", torch.cat([bias for _, bias in maps]), device)
        width = 0
        for mixture in mixtures:
            mixture.first_column = width
            width += mixture.columns
        self.register_buffer("rows", torch.zeros(slots, width, dtype=torch.float32, device=device), persistent=False)
        self.register_buffer("slots", torch.zeros(tokens, dtype=torch.int64, device=device), persistent=False)

    @torch.no_grad()
    def seat(self, slot: int, vector: Tensor) -> None:
        """Let a person sit in a slot. vector: [D] raw encoder output, on the CPU; zeros: nobody in particular."""
        profile = standardised(self._adapter, vector).to(self.rows.device)
        product = functional.linear(profile, self.weight, self.bias)
        if any(mixture.gate.by_person for mixture in self._mixtures):
            sizes = [len(mixture.person_map[1]) for mixture in self._mixtures if mixture.person_map is not None]
            pieces = zip(self._mixtures, product.split(sizes), strict=True)
            product = torch.cat([mixture.person_row(piece) for mixture, piece in pieces])
        self.rows[slot] = product

    def place(self, slots: Tensor) -> None:
        """Say whose the tokens of the next forward are. slots: [T] int64; what lies behind them is padding."""
        self.slots[: slots.shape[0]].copy_(slots)

    def of(self, mixture: Mixture, tokens: int) -> Tensor:
        """[tokens, C'] what the table holds for a mixture of the first tokens' people."""
        first = mixture.first_column
        return self.rows[:, first : first + mixture.columns].index_select(0, self.slots[:tokens])
