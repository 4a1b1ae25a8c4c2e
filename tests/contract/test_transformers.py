"""Every private seam of transformers (and torch) that the tuner leans on; as in test_peft, shown to matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput

import cuma.tuner.model
from cuma.errors import ProfileError, UnsupportedError
from cuma.tuner.context import CarryingCheckpoint
from helpers.tiny import adapted, llama, people, tokens


def broken_by(
    holds: Callable[[], None], patch: Callable[[pytest.MonkeyPatch], None], error: type[BaseException]
) -> None:
    holds()
    with pytest.MonkeyPatch.context() as patched:
        patch(patched)
        with pytest.raises(error):
            holds()
    holds()


def train(router_input: str = "joint", reentrant: bool = False) -> dict[str, Tensor]:
    model = adapted(router_input=router_input).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model(input_ids=tokens(2), labels=tokens(2), profile_embeds=people(2)).loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_layers_call_the_checkpoint_function_they_were_given() -> None:
    """We replace `_gradient_checkpointing_func`: without that a recomputed layer knows nobody."""

    def holds() -> None:
        assert train()

    broken_by(
        holds, lambda patch: patch.setattr(cuma.tuner.model, "carry_through_checkpoints", lambda _: None), ProfileError
    )


def test_the_function_is_looked_up_on_the_layer_for_every_call() -> None:
    seen: list[str] = []

    class Spy(CarryingCheckpoint):
        def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(type(function.args[0]).__name__)  # partial(forward, layer): around forward, not __call__
            return super().__call__(function, *args, **kwargs)

    model = adapted().train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in model.get_base_model().model.layers:
        assert isinstance(layer, GradientCheckpointingLayer)
        assert layer.__dict__["gradient_checkpointing"] is True
        layer._gradient_checkpointing_func = Spy(layer.__dict__["_gradient_checkpointing_func"])
    model(input_ids=tokens(2), profile_embeds=people(2))
    assert seen == ["LlamaDecoderLayer"] * 2


def test_hooks_on_a_layer_sit_outside_of_its_checkpoint() -> None:
    """So a hook could not set the conditioning for the recomputation; that is why the function is wrapped."""
    model = adapted().train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    calls = {"hook": 0, "inside": 0}

    def count(what: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            calls[what] += 1

        return hook

    layer = model.get_base_model().model.layers[0]
    layer.register_forward_pre_hook(count("hook"))
    layer.mlp.register_forward_pre_hook(count("inside"))
    model(input_ids=tokens(2), labels=tokens(2), profile_embeds=people(2)).loss.backward()
    assert calls == {"hook": 1, "inside": 2}


@pytest.mark.filterwarnings("ignore:.*use_reentrant.*:UserWarning")
def test_the_reentrant_form_runs_its_first_pass_without_gradients() -> None:
    """That is how we recognise it."""

    def holds() -> None:
        with pytest.raises(UnsupportedError, match="reentrant"):
            train("semantic", reentrant=True)

    broken_by(holds, lambda patch: patch.setattr(torch, "is_grad_enabled", lambda: True), pytest.fail.Exception)


def test_the_reentrant_form_would_silently_lose_the_balance_loss() -> None:
    """Why it is refused: nothing fails, the routers just get no gradient from it."""
    model = adapted(router_input="semantic").train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.enable_input_require_grads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cuma.tuner.context.torch.is_grad_enabled", lambda: True)
        assert not model(input_ids=tokens(2)).aux_loss.requires_grad


def test_generate_repeats_rows_in_place() -> None:
    """[a, a, b, b], as our own repeating of the people does."""
    model = adapted()

    def holds() -> None:
        ids, who = tokens(2), people(2)
        torch.manual_seed(0)
        way = {"do_sample": True, "max_new_tokens": 6, "pad_token_id": 0, "top_k": 0}
        returned = model.generate(input_ids=ids, profile_embeds=who, num_return_sequences=2, **way)
        torch.manual_seed(0)
        repeated = model.generate(
            input_ids=ids.repeat_interleave(2, 0), profile_embeds=who.repeat_interleave(2, 0), **way
        )
        assert torch.equal(returned, repeated)

    def tile(self: Any, expand_size: int = 1, _: bool = False, input_ids: Any = None, **kwargs: Any) -> Any:
        kwargs.pop("is_encoder_decoder", None)
        rows = {name: torch.cat([v] * expand_size) if isinstance(v, Tensor) else v for name, v in kwargs.items()}
        return torch.cat([input_ids] * expand_size), rows

    broken_by(
        holds, lambda patch: patch.setattr(GenerationMixin, "_expand_inputs_for_generation", tile), AssertionError
    )


def test_model_outputs_take_a_new_field() -> None:
    """`outputs.aux_loss`, TRL's word, on an output class that has no such field."""

    def holds() -> None:
        output = adapted().train()(input_ids=tokens(2), profile_embeds=people(2))
        assert isinstance(output, dict)
        assert output.aux_loss is output["aux_loss"]

    assert "aux_loss" not in CausalLMOutputWithPast.__dataclass_fields__
    broken_by(holds, lambda patch: patch.setattr(ModelOutput, "__setitem__", dict.__setitem__), AttributeError)


def test_layers_with_one_input_get_one_and_the_same_tensor() -> None:
    """A shared router is run once because q, k and v are called with the same object."""
    model = adapted(target_modules=["q_proj", "k_proj", "v_proj"])

    def runs() -> int:
        count = [0]
        router = model.get_submodule("base_model.model.model.layers.0.self_attn.q_proj").cuma_router["default"]
        hook = router.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
        model(input_ids=tokens(2), profile_embeds=people(2))
        hook.remove()
        return count[0]

    assert runs() == 1
    follower = model.get_submodule("base_model.model.model.layers.0.self_attn.v_proj")
    hook = follower.register_forward_pre_hook(lambda _, inputs: (inputs[0].clone(),))
    assert runs() == 2
    hook.remove()


def test_training_mode_is_the_base_models_own() -> None:
    assert adapted(llama()).train().base_model.model.training
