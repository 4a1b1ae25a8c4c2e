"""What the server's slots rely on: transformers takes a cache of our kind, with rows of different lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cuma.serving.slots import Slots
from helpers.tiny import gpt2, llama, tokens

LENGTHS = (4, 9, 6)
MODELS: dict[str, Callable[[], Any]] = {"llama": llama, "gpt2": gpt2}


def forward(model: Any, slots: Slots, first: int, new: Tensor, *, masked: bool = True) -> Tensor:
    """[B, V] logits after `new` [B, T]."""
    window = slots.window(first, new.shape[0], new.shape[1])
    mask = {"attention_mask": window.mask.long()} if masked else {}
    output = model(input_ids=new, position_ids=window.positions, past_key_values=window, use_cache=True, **mask)
    for slot in range(first, first + new.shape[0]):
        slots.lengths[slot] += new.shape[1]
    return output.logits[:, -1]


def filled(model: Any) -> tuple[Slots, list[Tensor]]:
    rows = [tokens(1, length, seed=length) for length in LENGTHS]
    slots = Slots(model.config.num_hidden_layers)
    for row in rows:
        forward(model, slots, slots.open(), row)
    return slots, rows


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_rows_of_different_lengths_are_each_as_if_alone(name: str) -> None:
    model = MODELS[name]()
    slots, rows = filled(model)
    for step in range(3):
        new = tokens(len(LENGTHS), 1, seed=100 + step)
        together = forward(model, slots, 0, new)
        rows = [torch.cat([row, new[place : place + 1]], dim=1) for place, row in enumerate(rows)]
        alone = torch.cat([model(input_ids=row).logits[:, -1] for row in rows])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_without_the_mask_a_shorter_row_would_see_what_is_not_its_own() -> None:
    model = llama()
    slots, rows = filled(model)
    new = tokens(len(LENGTHS), 1, seed=100)
    blind = forward(model, slots, 0, new, masked=False)
    alone = model(input_ids=torch.cat([rows[0], new[:1]], dim=1)).logits[0, -1]
    assert (blind[0] - alone).abs().max() > 1e-2


@torch.no_grad()
def test_a_known_beginning_goes_on_in_another_slot() -> None:
    model = llama()
    slots, rows = filled(model)
    other = slots.open(slots.prefix(1, 7))
    new = rows[1][:, 7:]
    alone = model(input_ids=rows[1]).logits[:, -1]
    torch.testing.assert_close(forward(model, slots, other, new), alone, rtol=0, atol=1e-5)
