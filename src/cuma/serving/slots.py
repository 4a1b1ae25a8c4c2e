"""Keys and values of the conversations that are running: one slot each, nothing shared between two of them.

A slot's tokens stand at columns 0, 1, 2 …, whatever the others' lengths, so that nothing ever moves when somebody comes
or goes. Running slots are always the first ones: when one ends, the last takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

FIRST_SLOTS, FIRST_COLUMNS = 2, 128
"""What is allocated at first; both double when they are used up."""

Prefix = list[tuple[Tensor, Tensor]]
"""Per layer, the keys and values [Hkv, T, D] of one conversation's first T tokens."""


class SlotLayer(CacheLayerMixin):
    """One layer's buffers: keys and values [S, Hkv, C, D]."""

    is_sliding = False

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys = key_states.new_zeros(0, key_states.shape[1], 0, key_states.shape[3])
        self.values = value_states.new_zeros(0, value_states.shape[1], 0, value_states.shape[3])
        self.is_initialized = True

    def reserve(self, slots: int, columns: int) -> None:
        """Make room for so many slots and columns; what is there stays."""
        if self.keys.shape[0] < slots or self.keys.shape[2] < columns:
            self.keys, self.values = (_grown(buffer, slots, columns) for buffer in (self.keys, self.values))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a Window writes")

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        raise NotImplementedError("a Window knows")

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


class Slots:
    """The running conversations of one model. `lengths[s]` tokens of slot s are computed; `len(slots)` slots run."""

    def __init__(self, layers: int) -> None:
        self.layers = [SlotLayer() for _ in range(layers)]
        self.lengths: list[int] = []

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def bytes(self) -> int:
        """What the buffers take."""
        made = [layer for layer in self.layers if layer.is_initialized]
        return sum(buffer.numel() * buffer.element_size() for layer in made for buffer in (layer.keys, layer.values))

    def open(self, prefix: Prefix | None = None) -> int:
        """A new slot, behind the running ones, that starts with what is known already."""
        slot, length = len(self.lengths), 0
        if prefix is not None:
            length = prefix[0][0].shape[1]
            for layer, (keys, values) in zip(self.layers, prefix, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(keys[None], values[None])
                layer.reserve(slot + 1, length)
                layer.keys[slot, :, :length], layer.values[slot, :, :length] = keys, values
        self.lengths.append(length)  # last: if there was no memory for it, there is no slot
        return slot

    def close(self, slot: int) -> int:
        """Free a slot. Returns the slot whose conversation moved into it: the last one, or the same if it was last."""
        last = len(self.lengths) - 1
        length = self.lengths.pop()
        if slot != last:
            self.lengths[slot] = length
            for layer in self.layers:
                layer.keys[slot, :, :length] = layer.keys[last, :, :length]
                layer.values[slot, :, :length] = layer.values[last, :, :length]
        return last

    def clear(self) -> None:
        """Free all slots, and the buffers with them."""
        self.lengths.clear()
        for layer in self.layers:
            if layer.is_initialized:
                layer.lazy_initialization(layer.keys, layer.values)

    def prefix(self, slot: int, length: int) -> Prefix:
        """A copy of the first `length` tokens of a slot."""
        return [(layer.keys[slot, :, :length].clone(), layer.values[slot, :, :length].clone()) for layer in self.layers]

    def window(self, first: int, rows: int, tokens: int) -> Window:
        """What a forward of `tokens` further tokens in the slots first … first + rows − 1 sees as its cache."""
        return Window(self, first, rows, tokens)


class Window(Cache):
    """Some neighbouring slots during one forward, as transformers' cache: writes behind each slot's own end.

    Attributes:
        positions: [B, T], where each new token stands.
        mask: bool [B, L]: the columns that hold tokens of the slot's own, the new ones among them.
    """

    def __init__(self, slots: Slots, first: int, rows: int, tokens: int) -> None:
        super().__init__(layers=slots.layers)
        before = torch.tensor(slots.lengths[first : first + rows])
        self._rows = slice(first, first + rows)
        self._tokens = tokens
        self.width = int(before.max()) + tokens
        self.positions = before[:, None] + torch.arange(tokens)
        self.mask = torch.arange(self.width) < (before + tokens)[:, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        layer = self.layers[layer_idx]
        if not layer.is_initialized:
            layer.lazy_initialization(key_states, value_states)
        layer.reserve(self._rows.stop, self.width)
        row = torch.arange(self._rows.start, self._rows.stop, device=key_states.device)[:, None]
        column = self.positions.to(key_states.device)
        layer.keys[row, :, column] = key_states.transpose(1, 2)
        layer.values[row, :, column] = value_states.transpose(1, 2)
        return layer.keys[self._rows, :, : self.width], layer.values[self._rows, :, : self.width]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.width - self._tokens

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.width - self._tokens

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        return self.width, 0


def _grown(buffer: Tensor, slots: int, columns: int) -> Tensor:
    """The buffer with room for at least so much, at least doubled in the dimension that was too small."""
    shape = list(buffer.shape)
    for dim, wanted, least in ((0, slots, FIRST_SLOTS), (2, columns, FIRST_COLUMNS)):
        if shape[dim] < wanted:
            shape[dim] = max(wanted, 2 * shape[dim], least)
    grown = buffer.new_zeros(shape)
    grown[: buffer.shape[0], :, : buffer.shape[2]] = buffer
    return grown


def shared_length(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two rows have in common at their start."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return place
    return min(len(left), len(right))
