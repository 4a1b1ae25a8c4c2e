"""The methods that a recipe can train: what a card calls each, and what it cannot be combined with.

`cuma.training.adapter_configs` has the PEFT configuration of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cuma.errors import suggestion

if TYPE_CHECKING:
    from cuma.recipes.schema import Recipe

Conflicts = list[tuple[bool, str]]
"""Whether a recipe asks for what the method cannot do, and what to do about it."""


def _no_conflicts(recipe: Recipe) -> Conflicts:
    return []


def _full_conflicts(recipe: Recipe) -> Conflicts:
    return [
        (
            recipe.backbone.dtype != "float32" and not recipe.training.bf16,
            f"'backbone.dtype' {recipe.backbone.dtype!r} needs 'training.bf16' true: trained weights are float32",
        ),
        (
            recipe.backbone.quantization is not None,
            "set 'backbone.quantization' to null: weights in few bits cannot be trained",
        ),
    ]


def _prefix_conflicts(recipe: Recipe) -> Conflicts:
    return [
        (recipe.backbone.keep_frozen_layers, "set 'backbone.keep_frozen_layers' to false: all layers have a prefix"),
        (
            recipe.training.gradient_checkpointing,
            "set 'training.gradient_checkpointing' to false: transformers drops the prefix where it recomputes",
        ),
        (
            recipe.evaluation.padding_side != "right",
            "set 'evaluation.padding_side' to right: PEFT ignores position_ids, so padding before a question would "
            "move it away from its prefix",
        ),
        ("grpo" in recipe.pipeline, "leave grpo out of 'pipeline': it pads questions on the left"),
    ]


@dataclass(frozen=True)
class AdapterMethod:
    """One way to adapt the frozen model."""

    description: str
    """What a model card calls the result."""
    conflicts: Callable[[Recipe], Conflicts] = _no_conflicts


METHODS: dict[str, AdapterMethod] = {
    "cuma": AdapterMethod("a mixture of LoRA experts"),
    "lora": AdapterMethod("one dense LoRA adapter"),
    "dora": AdapterMethod("one dense DoRA adapter"),
    "prefix": AdapterMethod("a trained prefix (P-Tuning v2)", _prefix_conflicts),
    "full": AdapterMethod("copies of its layers, fine-tuned whole", _full_conflicts),
    "none": AdapterMethod("the untouched model"),
}


def known_method(name: str) -> str:
    """The name of a method as it is. Raises ValueError for any other."""
    if name not in METHODS:
        raise ValueError(f"expected a method. {suggestion(name, METHODS)}")
    return name
