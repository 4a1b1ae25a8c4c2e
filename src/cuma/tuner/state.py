"""An adapter's tensors by name: without the adapter's name on disk, and strictly checked when they are loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from cuma.errors import AdapterError

_SHOWN = 3
_CUMA_KEY = re.compile(r"(?:^|\.)cuma_[a-z]+\.([^.]+)")
"""A tensor of ours in a model; the group is the adapter's name."""
_WRAPPERS = re.compile(r"(_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\.")
"""What FSDP, activation checkpointing and torch.compile put into the names of modules, but not into a state dict."""


def without_adapter_name(key: str, adapter_name: str) -> str:
    """The key on disk of a tensor in the model: `…cuma_router.NAME.input.weight` → `…cuma_router.input.weight`.

    PEFT's own rule only looks at the last two parts of a key and so loses a router when an adapter is loaded under
    another name.
    """
    return re.sub(rf"((?:^|\.)cuma_[a-z]+)\.{re.escape(adapter_name)}(?=\.|$)", r"\1", key, count=1)


def adapter_of(key: str) -> str | None:
    """Name of the adapter whose tensor has this key in a model; None if it is not one of ours."""
    match = _CUMA_KEY.search(key)
    return match.group(1) if match else None


def adapter_tensors(module: nn.Module, prefix: str = "") -> dict[str, nn.Parameter]:
    """Every parameter of ours in `module`, by the key it has in a state dict."""
    named = ((prefix + _WRAPPERS.sub("", name), parameter) for name, parameter in module.named_parameters())
    return {key: parameter for key, parameter in named if adapter_of(key) is not None}


def check_loaded(module: nn.Module, state_dict: Mapping[str, Tensor], prefix: str) -> set[str]:
    """Refuse a state dict whose cuma tensors are not exactly those of the adapters it brings.

    PEFT loads adapters with strict=False: missing and extra tensors pass, and so does NaN. Nothing has been changed in
    the model yet when this raises. A state dict without any cuma tensor (a base model's) is none of our business.

    Args:
        module: the `CumaModel`.
        state_dict: what is about to be loaded.
        prefix: of the module's keys in it.

    Returns:
        The names of the adapters it brings.

    Raises:
        AdapterError: a tensor is missing, unknown, of another shape, or not finite.
    """
    given = {key: tensor for key, tensor in state_dict.items() if key.startswith(prefix)}
    ours = {key: tensor for key, tensor in given.items() if adapter_of(key.removeprefix(prefix)) is not None}
    if not ours:
        return set()
    own = adapter_tensors(module, prefix)
    unknown = ours.keys() - own.keys()
    if not any(".base_layer." in key for key in given):  # an adapter's file, and not a whole model's state
        unknown |= given.keys() - ours.keys() - _companions(module, prefix)
    if unknown:
        raise AdapterError(f"the adapter has {_listed(unknown)} unknown to this configuration and base model.")
    adapters = {adapter for key in ours if (adapter := adapter_of(key.removeprefix(prefix))) is not None}
    missing = {key for key in own.keys() - ours.keys() if adapter_of(key.removeprefix(prefix)) in adapters}
    if missing:
        raise AdapterError(f"the adapter lacks {_listed(missing)}. Copy it again, or load it with its own config.")
    _check_values(ours, own)
    return adapters


def _check_values(ours: Mapping[str, Tensor], own: Mapping[str, nn.Parameter]) -> None:
    misshapen = sorted(key for key, tensor in ours.items() if tensor.shape != own[key].shape)
    if misshapen:
        key = misshapen[0]
        raise AdapterError(
            f"the adapter has {_listed(misshapen)} of another shape than this base model and configuration need: "
            f"got {list(ours[key].shape)}, expected {list(own[key].shape)}."
        )
    broken = [key for key, tensor in ours.items() if not tensor.is_meta and not torch.isfinite(tensor).all()]
    if broken:
        raise AdapterError(f"the adapter has NaN or infinite values in {_listed(broken)}. Go back to an earlier one.")


def _companions(module: nn.Module, prefix: str) -> set[str]:
    """Keys that PEFT may save beside an adapter: modules_to_save, and the embeddings of an enlarged vocabulary."""
    base, embeddings = module.get_submodule("model"), []
    if isinstance(base, PreTrainedModel):
        embeddings = [base.get_input_embeddings(), base.get_output_embeddings()]
    return {
        f"{prefix}{name}.{key}"
        for name, found in module.named_modules()
        if isinstance(found, AuxiliaryTrainingWrapper) or any(found is embedding for embedding in embeddings)
        for key in found.state_dict()
    }


def _listed(keys: Iterable[str]) -> str:
    names = sorted(keys)
    return f"{len(names)} tensor(s) ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
