"""The private seams of transformers' decoders that the frozen trunk leans on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from cuma.errors import UnsupportedError
from cuma.trunk import FrozenTrunk
from tiny import llama, tokens


def hidden_in(model: Any, layer: int) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    model.model.layers[layer].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


def test_a_decoder_runs_the_layers_that_stand_in_its_list_and_then_its_norm() -> None:
    model = llama(num_hidden_layers=3)
    ids = tokens(2)
    entering = hidden_in(model, 2)
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
        decoder = model.get_decoder()
        own, decoder.layers = decoder.layers, nn.ModuleList([*list(decoder.layers)[:2], nn.Identity()])
        own_norm, decoder.norm = decoder.norm, nn.Identity()
        decoder.layers[2].forward = lambda hidden, **_: hidden
        cut = decoder(input_ids=ids, use_cache=False).last_hidden_state
    torch.testing.assert_close(cut, entering[0])
    decoder.layers, decoder.norm = own, own_norm


def test_the_causal_lm_calls_its_decoders_forward() -> None:
    model = llama()
    calls: list[int] = []
    original = model.get_decoder().forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return original(*args, **kwargs)

    model.get_decoder().forward = counted
    model(input_ids=tokens(1), use_cache=False)
    assert calls == [1]


def test_without_a_list_of_layers_the_trunk_says_so() -> None:
    model = llama()
    model.get_decoder().layers = nn.Sequential(*model.get_decoder().layers)
    with pytest.raises(UnsupportedError, match="no list of layers"):
        FrozenTrunk(model)
