"""With fixed gates a mixture is one LoRA: Σ_i g_i B_i A_i = [g_1 B_1 … g_E B_E] [A_1; …; A_E]."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save, save_file
from torch import Tensor, nn

from cuma.answering.answerer import Answerer
from cuma.errors import ExportError
from cuma.tuner import manifest
from cuma.tuner.config import CumaConfig
from cuma.tuner.layer import CumaLinear

Gates = Mapping[str, Tensor]
"""By name of the layer that owns a router, gates [E] that hold for every token."""


@dataclass(frozen=True, eq=False)
class LayerLora:
    """One layer's part: W_0 h + scaling · (B A h + bias)."""

    a: Tensor
    """[R, H] fp32."""
    b: Tensor
    """[O, R] fp32."""
    bias: Tensor | None
    """[O] fp32, from experts that read the profile; None: they do not."""


@dataclass(frozen=True, eq=False)
class PersonLora:
    """A whole adapter of one rank."""

    layers: Mapping[str, LayerLora]
    """By layer name, as `named_modules` of the base model has it."""
    rank: int
    scaling: float


def mixture_layers(answerer: Answerer) -> dict[str, CumaLinear]:
    """The adapted layers by name. Raises ExportError if the answerer is no mixture."""
    if answerer.config is None:
        what = "the untouched model" if answerer.adapter is None else "an ordinary PEFT adapter already"
        raise ExportError(
            f"{answerer.source.folder} is {what}: there is nothing to export. Only a mixture (method cuma) has experts "
            "to fold into one LoRA."
        )
    if answerer.config.modules_to_save:
        raise ExportError("The adapter has modules_to_save, trained whole modules that a LoRA cannot hold.")
    modules = answerer.model.get_base_model().named_modules()
    return {name: module for name, module in modules if isinstance(module, CumaLinear)}


def fold(answerer: Answerer, gates: Gates, embeds: Tensor | None) -> PersonLora:
    """The LoRA that computes what the mixture computes while its gates are these.

    Experts whose gate is 0 in a layer are left out; where layers then differ in rank, the smaller ones get zeros, as
    engines want one rank.

    Args:
        answerer: the mixture.
        gates: of every routing layer.
        embeds: [1, D] what the router read, for experts that read it too.
    """
    layers = mixture_layers(answerer)
    adapter, config = answerer.adapter, answerer.config
    assert adapter is not None and config is not None  # mixture_layers has checked  # noqa: PT018
    person = None
    if config.profile_in_experts and embeds is not None:
        person = answerer.model.base_model.cuma_profile[adapter](embeds)[0].detach()
    parts = {
        name: _fold_layer(layer, adapter, gates[layer.router_owner.get(adapter, layer).name], person)
        for name, layer in layers.items()
    }
    rank = max(part.a.shape[0] for part in parts.values())
    return PersonLora({name: _padded(part, rank) for name, part in parts.items()}, rank, config.lora_alpha / config.r)


@torch.no_grad()
def _fold_layer(layer: CumaLinear, adapter: str, gates: Tensor, person: Tensor | None) -> LayerLora:
    experts = layer.cuma_experts[adapter]
    a, b = (
        experts.lora_A.detach().float().cpu(),
        experts.lora_B.detach().float().cpu(),
    )  # [E, R, H'] or [R, H'], [E, O, R]
    gates = gates.float().cpu()
    if a.dim() == 2:  # one A for all: the sum of the B's is one B
        whole_a, whole_b = a, torch.einsum("e,eor->or", gates, b)
    else:
        used = gates.nonzero().flatten()
        whole_a = a[used].flatten(0, 1)
        whole_b = (gates[used, None, None] * b[used]).permute(1, 0, 2).flatten(1)
    bias = None
    if whole_a.shape[1] != layer.in_features:  # [A_h, A_e]: what the person adds is the same for every token
        whole_a, on_person = whole_a[:, : layer.in_features], whole_a[:, layer.in_features :]
        bias = torch.zeros(whole_b.shape[0]) if person is None else whole_b @ (on_person @ person.float().cpu())
    return LayerLora(whole_a.contiguous(), whole_b.contiguous(), bias)


def _padded(part: LayerLora, rank: int) -> LayerLora:
    missing = rank - part.a.shape[0]
    a = torch.cat([part.a, part.a.new_zeros(missing, part.a.shape[1])])
    b = torch.cat([part.b, part.b.new_zeros(part.b.shape[0], missing)], dim=1)
    return LayerLora(a, b, part.bias)


@contextmanager
def applied(answerer: Answerer, lora: PersonLora) -> Iterator[None]:
    """Within this context the model computes with the LoRA in place of its mixture, and needs no profile."""
    with ExitStack() as stack:
        stack.enter_context(answerer.model.disable_adapter())
        for name, layer in mixture_layers(answerer).items():
            stack.callback(layer.register_forward_hook(_adding(lora.layers[name], lora.scaling)).remove)
        yield


def _adding(part: LayerLora, scaling: float) -> Any:
    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        a, b = part.a.to(output.device), part.b.to(output.device)
        update = inputs[0].float() @ a.T @ b.T
        if part.bias is not None:
            update = update + part.bias.to(output.device)
        return output + (update * scaling).to(output.dtype)

    return hook


def lora_config(config: CumaConfig, lora: PersonLora, base: str) -> LoraConfig:
    """Stock PEFT's configuration; it finds its layers by the same words as the mixture did."""
    alpha = lora.scaling * lora.rank
    return LoraConfig(
        r=lora.rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        layers_to_transform=config.layers_to_transform,
        layers_pattern=config.layers_pattern,
        lora_bias=any(part.bias is not None for part in lora.layers.values()),
        task_type=config.task_type,
        base_model_name_or_path=base,
        inference_mode=True,
    )


def write_lora(lora: PersonLora, config: CumaConfig, base: str, folder: Path) -> None:
    """Write the adapter as PEFT does, with the SHA-256 sums of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors_of(lora), folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    lora_config(config, lora, base).save_pretrained(str(folder))
    manifest.write(folder)


def content_of(lora: PersonLora) -> bytes:
    """All that makes the adapter what it is, as bytes to be hashed."""
    return json.dumps([lora.rank, lora.scaling]).encode() + save(tensors_of(lora))


def tensors_of(lora: PersonLora) -> dict[str, Tensor]:
    """The adapter's tensors by PEFT's names."""
    tensors: dict[str, Tensor] = {}
    for name, part in lora.layers.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = part.a
        tensors[f"base_model.model.{name}.lora_B.weight"] = part.b
        if part.bias is not None:
            tensors[f"base_model.model.{name}.lora_B.bias"] = part.bias
    return tensors
