"""What a layer is called with, and what it returns, as far as that can be known when an adapter is put on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from cuma.errors import UnsupportedError
from cuma.tuner.devices import device_of

SEQUENCE_FIRST = ("xlnet", "fsmt")
"""transformers' model types whose layers see [T, B, H]."""


def are_all(tokens: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a layer's `tokens` are those of `shape` (B, T) in their order: as they are, or in one list."""
    wide = [size for size in tokens if size != 1]
    return prod(tokens) == prod(shape) and (len(wide) < 2 or wide == list(shape))


def like(layer: str) -> str:
    """A regular expression for the layers of this name at any depth, as `exclude_modules` takes it."""
    return re.sub(r"\d+", r"\\d+", layer.replace(".", r"\."))


def refuse_other_products(layer: nn.Module, name: str) -> None:
    """Raise an UnsupportedError for a kind of nn.Linear that is not called as W h: routers that return tuples, products
    in groups. Quantised ones, whose weights are of another class, are taken at their word."""
    if not isinstance(layer, nn.Linear) or type(layer).forward is nn.Linear.forward:
        return
    if type(layer.weight) is not nn.Parameter:
        return
    given = torch.zeros(1, 1, layer.in_features, dtype=layer.weight.dtype, device=device_of(layer))
    try:
        with torch.no_grad():
            out = layer(given)
    except (RuntimeError, TypeError, ValueError, IndexError):
        out = None
    if not isinstance(out, Tensor) or out.shape != (1, 1, layer.out_features):
        raise UnsupportedError(
            f"{name!r} is a {type(layer).__name__}, which is no plain linear layer: it does not return one row of "
            f"{layer.out_features} for each of {layer.in_features}. Leave it out with exclude_modules={like(name)!r}."
        )


def refuse_unknown_tokens(model: nn.Module, layer: str) -> None:
    """Raise an UnsupportedError for a layer whose input does not say whose its tokens are, or which are padding.

    One of several experts of the base model gets the tokens that were sent to it, and nothing else.
    """
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) in SEQUENCE_FIRST:
        raise UnsupportedError(
            f"{type(model).__name__} hands its layers [tokens, rows], and a mixture needs [rows, tokens] to know whose "
            "a token is. Take another base model."
        )
    parts = layer.split(".")
    for depth in range(1, len(parts)):
        if _are_experts(model, parts[:depth]):
            raise UnsupportedError(
                f"{layer!r} belongs to one of several experts of the base model, which gets the tokens that were sent "
                "to it and cannot tell whose they are, or which are padding. Leave them out with "
                f"exclude_modules={like('.'.join(parts[:depth])) + '.*'!r} (shared experts can stay), or adapt them "
                'with router_input="semantic" and router_aux_loss_coef=0, which ask neither.'
            )


def _are_experts(model: nn.Module, path: Sequence[str]) -> bool:
    """Whether a path leads to a list of experts: by its name, or as a list in a layer beside a router of its length.

    Args:
        model: the base model.
        path: the names on the way to the module.
    """
    listed = model.get_submodule(".".join(path))
    if not isinstance(listed, nn.ModuleList | nn.ModuleDict):
        return False
    if "expert" in path[-1].lower() or "expert" in type(listed).__name__.lower():
        return True
    parent = model.get_submodule(".".join(path[:-1]))
    beside = (p for name, p in parent.named_parameters() if not name.startswith(f"{path[-1]}."))
    inside_a_layer = any(name.isdigit() for name in path[:-1])
    return inside_a_layer and len(listed) > 1 and any(p.dim() == 2 and len(p) == len(listed) for p in beside)
