"""The whole SmolLM2-135M: a training step and a decoding step, adapters on q and v of all 30 layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from bench.double_loop import loops_in_every_layer
from bench.layers import PROFILE, K, seeded
from bench.pairs import AGAIN
from bench.parity import KINKED, assert_same
from cuma.tuner.config import CumaConfig
from cuma.tuner.context import Conditioning, conditioned

TARGETS = ["q_proj", "v_proj"]
SHAPES = {"r=8": (8, False), "r=64, shared A": (64, True), "r=64, own A": (64, False)}
ROWS, LENGTH = 4, 64
DECODED, PREFIX = 8, 64
"""People answered at once, and tokens before the one that is written."""


def people(rows: int) -> Tensor:
    """[rows, D] unit vectors, as a sentence encoder's."""
    return nn.functional.normalize(seeded(torch.randn, rows, PROFILE, seed=rows), dim=-1)


def mixture(backbone: nn.Module, shape: str) -> PeftModel:
    """Ours on a copy of the backbone's modules that shares its weights."""
    torch.manual_seed(0)
    rank, share_a = SHAPES[shape]
    options = {"target_modules": TARGETS, "profile_dim": PROFILE, "share_a": share_a, "init_weights": False}
    model = get_peft_model(_sharing(backbone), CumaConfig(r=rank, lora_alpha=0.02 * rank, **options))
    model.fit_profiles(people(50))
    return model


def lora(backbone: nn.Module, shape: str) -> PeftModel:
    """PEFT's LoRA of rank k·r."""
    rank = K * SHAPES[shape][0]
    return get_peft_model(_sharing(backbone), LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS))


def _sharing(backbone: nn.Module) -> nn.Module:
    memo = {id(tensor): tensor for tensor in [*backbone.parameters(), *backbone.buffers()]}
    return copy.deepcopy(backbone, memo)


# ---- training ----------------------------------------------------------------------------------------------------


def train_runs(exact: nn.Module, backbone: nn.Module, shape: str, with_loop: bool) -> dict[str, Callable[[], Any]]:
    """Forward, backward (balance loss included) and AdamW of each rival, after ours was found to be the loop's.

    Args:
        exact: the model in fp32, on which ours and the loop are compared.
        backbone: the model that is timed, in its own dtype; may be the same.
        shape: one of SHAPES.
        with_loop: whether the double loop and the frozen base are timed too.
    """
    ids = seeded(torch.randint, 100, 40_000, (ROWS, LENGTH), seed=0)
    inputs = {"input_ids": ids, "labels": ids, "use_cache": False}
    asked = {**inputs, "profile_embeds": people(ROWS)}
    _assert_parity(mixture(exact, shape).train(), asked)
    ours = mixture(backbone, shape).train()
    step = _train_step(ours, asked)
    runs = {"lora": _train_step(lora(backbone, shape).train(), inputs), "ours": step, AGAIN: step}
    if with_loop:
        runs["base"] = _frozen_step(backbone, ids)  # all its parameters are frozen by now, and shared
        runs["double loop"] = _train_step(ours, asked, loops_in_every_layer)
    return runs


def _train_step(
    model: PeftModel, inputs: dict[str, Any], way: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Callable[[], Any]:
    # A rate of zero: every step is the same work on the same weights.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)

    def step() -> None:
        with way():
            model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _frozen_step(backbone: Any, ids: Tensor) -> Callable[[], Any]:
    """Forward, and backward to the embeddings: what every rival does beside its own work."""
    embeds = backbone.get_input_embeddings()(ids).detach().requires_grad_()

    def step() -> None:
        embeds.grad = None
        backbone(inputs_embeds=embeds, labels=ids, use_cache=False).loss.backward()

    return step


def _assert_parity(model: PeftModel, inputs: dict[str, Any]) -> None:
    """The same loss, the same balance loss, and the same gradient of every trained parameter from both."""
    found = []
    for way in (nullcontext, loops_in_every_layer):
        with way():
            output = model(**inputs)
        (output.loss + output.aux_loss).backward()  # the loss has a hundredth of it already: too little to be missed
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        found.append([output.loss.detach(), output.aux_loss.detach(), *gradients])
        model.zero_grad()
    assert_same(*found, KINKED, "training step")


# ---- decoding ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def decode_runs(exact: nn.Module, backbone: nn.Module, shape: str, with_loop: bool) -> dict[str, Callable[[], Any]]:
    """One step of `generate` for several people: a forward on one token each, under the call's conditioning.

    Arguments as in `train_runs`.
    """
    _assert_same_answers(mixture(exact, shape).eval(), people(DECODED))
    ours, dense = mixture(backbone, shape).eval(), lora(backbone, shape).eval()
    call = conditioning(ours, people(DECODED))
    step = _decode_step(ours.get_base_model(), DECODED, call)
    runs = {
        "base": _decode_step(backbone.eval(), DECODED),
        "lora": _decode_step(dense.get_base_model(), DECODED),
        "ours": step,
        AGAIN: step,
    }
    if with_loop:
        runs["double loop"] = _decode_step(ours.get_base_model(), DECODED, call, loops_in_every_layer)
    return runs


@torch.no_grad()
def crowd_runs(exact: nn.Module, backbone: nn.Module, rows: int = 64) -> dict[str, Callable[[], Any]]:
    """A decoding step of 64 equal people, and of 64 different ones, after both were found to be what the loop says."""
    checked, ours = mixture(exact, "r=8").eval(), mixture(backbone, "r=8").eval()
    runs: dict[str, Callable[[], Any]] = {}
    for name, who in {"64 equal people": people(1).expand(rows, -1), "ours": people(rows)}.items():
        _assert_same_answers(checked, who)
        runs[name] = _decode_step(ours.get_base_model(), rows, conditioning(ours, who))
    return {**runs, AGAIN: runs["ours"]}


def _assert_same_answers(model: PeftModel, who: Tensor) -> None:
    """The same logits from ours and from the loop."""
    call = conditioning(model, who)
    ways = (nullcontext, loops_in_every_layer)
    ours, looped = ([_decode_step(model.get_base_model(), len(who), call, way)()] for way in ways)
    assert_same(ours, looped, KINKED, f"decoding step of {len(who)}")


def conditioning(model: PeftModel, embeds: Tensor) -> Conditioning:
    """What `generate` sets up once for all its steps."""
    return Conditioning(profile=model.base_model.cuma_profile["default"](embeds), expands=True)


def _decode_step(
    model: Any,
    rows: int,
    call: Conditioning | None = None,
    way: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Callable[[], Any]:
    ids = seeded(torch.randint, 100, 40_000, (rows, PREFIX + 1), seed=0)
    prefix, token = ids[:, :PREFIX], ids[:, PREFIX:]
    under = nullcontext() if call is None else conditioned(call)
    with under, torch.no_grad():
        cache = model(input_ids=prefix, use_cache=True).past_key_values

    def step() -> Tensor:
        with nullcontext() if call is None else conditioned(call), way(), torch.no_grad():
            logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits
        cache.crop(-1)
        return logits

    return step
