"""Where a layer computes, which is not always where its weights lie: accelerate keeps offloaded ones elsewhere between
calls, and leaves tensors of the device "meta", without any values, in their place."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from accelerate.hooks import AlignDevicesHook, SequentialHook, remove_hook_from_module
from accelerate.utils import set_module_tensor_to_device
from torch import Tensor, nn

from cuma.errors import UnsupportedError


def device_of(layer: nn.Module) -> torch.device | None:
    """Where a layer computes; None for a layer without any tensor."""
    for hook in _offloading(layer):
        if hook.execution_device is not None:
            return torch.device(hook.execution_device)
    tensor = next(chain(layer.parameters(), layer.buffers()), None)
    return None if tensor is None else tensor.device


def bring_back(part: nn.Module, weight: Tensor, beside: Tensor) -> None:
    """Undo the offloading of an adapter's own part, one of whose weights is `weight`, before it meets `beside`.

    It is small, and a router reads weights of layers that it never calls, so that no hook would bring them.
    """
    if weight.is_meta and not beside.is_meta:
        fetch(part, beside.device)


def fetch(part: nn.Module, device: torch.device | None = None) -> None:
    """Give the offloaded weights of `part` their values again, on `device` (None: where they compute), for good."""
    for module in part.modules():
        for hook in list(_offloading(module)):
            values = {name: hook.weights_map[name] for name, _ in module.named_parameters(recurse=False)}
            remove_hook_from_module(module)
            for name, value in values.items():
                set_module_tensor_to_device(module, name, device or hook.execution_device, value=value)


def refuse_absent_weights(model: nn.Module) -> None:
    """Raise an UnsupportedError if weights of `model` have no values and nothing would bring them.

    A model whose weights are all on "meta" is a sketch of one and may be adapted. One with a device_map is not: PEFT's
    `from_pretrained` has just taken its offloading off, and would put the adapter's parts on disk under other names.
    """
    absent, present = [], getattr(model, "hf_device_map", None) is not None
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if parameter.is_meta and not any(_offloading(module)):
                absent.append(name)
            else:
                present = True
    if absent and present:
        raise UnsupportedError(
            f"the weights of {len(absent)} module(s), such as {absent[0]!r}, are on the device 'meta': they have no "
            "values, and nothing would bring them. Load the whole model; if it does not fit, offload it with "
            "accelerate's cpu_offload or disk_offload, not with a device_map, before a saved mixture is put on."
        )


def _offloading(module: nn.Module) -> Iterator[AlignDevicesHook]:
    """accelerate's hooks that keep the module's own weights elsewhere."""
    hook = module.__dict__.get("_hf_hook")
    hooks = hook.hooks if isinstance(hook, SequentialHook) else (hook,)
    return (one for one in hooks if isinstance(one, AlignDevicesHook) and one.offload)
