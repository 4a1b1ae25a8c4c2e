"""The PEFT configuration of each method that a recipe can train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from peft import LoraConfig, PeftConfig, PrefixTuningConfig
from peft.tuners.tuners_utils import DUMMY_TARGET_MODULES

from cuma.answering.adapter_files import whole_modules
from cuma.answering.materials import Materials
from cuma.options.mixture import MixtureOptions
from cuma.recipes.schema import Recipe
from cuma.tuner.config import CumaConfig


def adapter_config(recipe: Recipe, materials: Materials) -> PeftConfig:
    """The configuration that a recipe describes."""
    return CONFIGS[recipe.adapter.method](recipe, materials)


def low_rank(recipe: Recipe, materials: Materials) -> dict[str, Any]:
    """What every low-rank adapter has: rank, scale, dropout, and the layers that are adapted."""
    adapter = recipe.adapter
    depth = materials.backbone.model.config.num_hidden_layers
    layers = None if adapter.last_layers is None else list(range(max(0, depth - adapter.last_layers), depth))
    return {
        "r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "target_modules": list(adapter.target_modules),
        "layers_to_transform": layers,
        "task_type": "CAUSAL_LM",
    }


def _mixture(recipe: Recipe, materials: Materials) -> CumaConfig:
    options = {option.name: getattr(recipe.adapter, option.name) for option in fields(MixtureOptions)}
    return CumaConfig(
        **{**options, **low_rank(recipe, materials)},
        profile_dim=materials.table.embeds.shape[1],
        profile_encoder=materials.encoder_spec,
    )


def whole_copies(base: Any, last_layers: int | None) -> LoraConfig:
    """No low-rank part at all: copies of whole modules are trained."""
    return LoraConfig(
        target_modules=DUMMY_TARGET_MODULES,
        modules_to_save=whole_modules(base, last_layers),
        ensure_weight_tying=last_layers is None,
        task_type="CAUSAL_LM",
    )


CONFIGS: dict[str, Callable[[Recipe, Materials], PeftConfig]] = {
    "cuma": _mixture,
    "lora": lambda recipe, materials: LoraConfig(**low_rank(recipe, materials)),
    "dora": lambda recipe, materials: LoraConfig(**low_rank(recipe, materials), use_dora=True),
    "prefix": lambda recipe, materials: PrefixTuningConfig(
        num_virtual_tokens=recipe.adapter.num_virtual_tokens, task_type="CAUSAL_LM"
    ),
    "full": lambda recipe, materials: whole_copies(materials.backbone.model, recipe.adapter.last_layers),
}
"""Name of a method, as in `cuma.recipes.methods`, to its configuration. "none" has none."""
