"""The private seams of transformers' decoders that the frozen trunk leans on; each shown to matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from cuma.errors import ProfileError, UnsupportedError
from cuma.models.trunk import FrozenTrunk
from helpers.tiny import adapted, llama, people, tokens

Patch = Callable[[pytest.MonkeyPatch, Any], None]


def runs_in_second_call(layer_or_block: Callable[[Any], nn.Module], patch: Patch | None = None) -> list[int]:
    """Positions that a module computes when the trunk's model is asked a second time, one entry a run."""
    model = adapted(layers_to_transform=[1])
    base = model.get_base_model()
    seen: list[int] = []

    def note(_: Any, args: Any, kwargs: Any) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).shape[1])

    layer_or_block(base).register_forward_pre_hook(note, with_kwargs=True)
    with pytest.MonkeyPatch.context() as patched, torch.no_grad():
        if patch is not None:
            patch(patched, base)
        with FrozenTrunk(model):
            for _ in range(2):
                seen.clear()
                model(input_ids=tokens(2), profile_embeds=people(2), use_cache=False, logits_to_keep=1)
    return seen


def first_layer(base: Any) -> nn.Module:
    return base.model.layers[0]


def last_block(base: Any) -> nn.Module:
    return base.model.layers[-1].mlp


def test_a_decoder_runs_the_layers_that_stand_in_its_list() -> None:
    assert runs_in_second_call(first_layer) == []

    def patch(patched: pytest.MonkeyPatch, base: Any) -> None:
        own, original = base.model.layers, LlamaModel.forward

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            given, self.layers = self.layers, own
            try:
                return original(self, *args, **kwargs)
            finally:
                self.layers = given

        patched.setattr(LlamaModel, "forward", forward)

    with pytest.raises(ProfileError):  # a single row reaches layers that were told of a batch of people
        runs_in_second_call(first_layer, patch)


def test_the_causal_lm_calls_its_decoders_forward() -> None:
    def patch(patched: pytest.MonkeyPatch, base: Any) -> None:
        original = LlamaForCausalLM.forward

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            taken = self.model.__dict__.pop("forward", None)  # the class's own method, past the instance's
            try:
                return original(self, *args, **kwargs)
            finally:
                if taken is not None:
                    self.model.forward = taken

        patched.setattr(LlamaForCausalLM, "forward", forward)

    assert runs_in_second_call(first_layer, patch) != []


def test_a_norm_stands_behind_the_layers() -> None:
    """What is kept enters the first adapted layer, so the decoder's norm must not have been applied to it."""
    model = adapted(layers_to_transform=[1])
    batch = {"input_ids": tokens(2), "profile_embeds": people(2), "use_cache": False}

    def holds() -> None:
        plain = model(**batch).logits
        with FrozenTrunk(model):
            torch.testing.assert_close(model(**batch).logits, plain)

    own, original = model.get_base_model().model.norm, LlamaModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, self.norm = self.norm, own
        try:
            return original(self, *args, **kwargs)
        finally:
            self.norm = given

    with torch.no_grad(), pytest.MonkeyPatch.context() as patched:
        holds()
        patched.setattr(LlamaModel, "forward", forward)
        with pytest.raises(AssertionError):
            holds()


def test_a_layer_looks_up_its_feed_forward_block_when_it_runs() -> None:
    assert runs_in_second_call(last_block) == [1]

    def patch(patched: pytest.MonkeyPatch, base: Any) -> None:
        own, original = {id(layer): layer.mlp for layer in base.model.layers}, LlamaDecoderLayer.forward

        def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
            given, self.mlp = self.mlp, own[id(self)]
            try:
                return original(self, *args, **kwargs)
            finally:
                self.mlp = given

        patched.setattr(LlamaDecoderLayer, "forward", forward)

    assert runs_in_second_call(last_block, patch) == [tokens(2).shape[1]]


def test_without_a_list_of_layers_the_trunk_says_so() -> None:
    model = llama()
    model.get_decoder().layers = nn.Sequential(*model.get_decoder().layers)
    with pytest.raises(UnsupportedError, match="no list of layers"):
        FrozenTrunk(model)
