"""An adapter's tensors by name: without the adapter's name on disk, and strictly checked when they are loaded."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from cuma.errors import AdapterError

_SHOWN = 3


def without_adapter_name(key: str, adapter_name: str) -> str:
    """The key on disk of a tensor in the model: `…cuma_router.NAME.input.weight` → `…cuma_router.input.weight`.

    PEFT's own rule only looks at the last two parts of a key and so loses a router when an adapter is loaded under
    another name.
    """
    return re.sub(rf"(\.cuma_[a-z]+)\.{re.escape(adapter_name)}(?=\.|$)", r"\1", key, count=1)


def check_loaded(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Refuse a state dict whose cuma tensors are not exactly those of the adapters it brings (a load pre-hook).

    PEFT loads adapters with strict=False: missing and extra tensors pass, and so does NaN. Nothing has been changed in
    the model yet when this raises. A state dict without any cuma tensor (a base model's) is none of our business.

    Raises:
        AdapterError: a tensor is missing, unknown, of another shape, or not finite.
    """
    own = {prefix + name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if ".cuma_" in f".{name}"}
    given = {key: tensor for key, tensor in state_dict.items() if key.startswith(prefix) and ".cuma_" in key}
    if not given:
        return
    unknown = sorted(given.keys() - own.keys())
    if unknown:
        raise AdapterError(f"the adapter has {_listed(unknown)} unknown to this configuration and base model.")
    loaded = {_adapter_of(key) for key in given}
    missing = sorted(key for key in own.keys() - given.keys() if _adapter_of(key) in loaded)
    if missing:
        raise AdapterError(f"the adapter lacks {_listed(missing)}. Copy it again, or load it with its own config.")
    misshapen = sorted(key for key, tensor in given.items() if tensor.shape != own[key].shape)
    if misshapen:
        key = misshapen[0]
        raise AdapterError(
            f"the adapter has {_listed(misshapen)} of another shape than this base model and configuration need: "
            f"got {tuple(given[key].shape)}, expected {tuple(own[key].shape)}."
        )
    broken = sorted(key for key, tensor in given.items() if not tensor.is_meta and not torch.isfinite(tensor).all())
    if broken:
        raise AdapterError(f"the adapter has NaN or infinite values in {_listed(broken)}. Go back to an earlier one.")


def _adapter_of(key: str) -> str:
    match = re.search(r"\.cuma_[a-z]+\.([^.]+)", key)
    return match.group(1) if match else ""


def _listed(keys: list[str]) -> str:
    shown = ", ".join(keys[:_SHOWN])
    return f"{len(keys)} tensor(s) ({shown}{', …' if len(keys) > _SHOWN else ''})"
