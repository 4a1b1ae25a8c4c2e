"""Costs without a clock: kernels launched, bytes kept for the backward, the most that is alive, host syncs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

FREE = ("view", "reshape", "expand", "transpose", "permute", "alias", "detach", "slice", "select", "unsqueeze", "t",
        "_unsafe_view", "split", "squeeze", "empty", "as_strided")  # fmt: skip
"""Operators that launch nothing."""
SYNCS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")
"""Operators whose result, or its shape, the host has to wait for."""


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def kernels(run: Callable[[], Any]) -> tuple[list[str], Any]:
    """The operators that `run` launches, in order, and what it returned."""
    with _Watch() as watch:
        result = run()
    return [name for name in watch.names if name.removeprefix("aten.") not in FREE], result


def syncs(names: Sequence[str]) -> list[str]:
    """Those of `names` for which the host would wait on a GPU."""
    return [name for name in names if any(name.startswith(f"aten.{sync}") for sync in SYNCS)]


def kept_bytes(run: Callable[[], Any], known: Sequence[Tensor]) -> int:
    """Bytes that `run` keeps for its backward, each storage once, without those of the tensors in `known`."""
    free = {tensor.untyped_storage().data_ptr() for tensor in known}
    storages: dict[int, int] = {}
    alive = []  # a storage that was freed could be given out again

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in free:
            storages[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return sum(storages.values())


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most memory that `run` holds at once, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak
