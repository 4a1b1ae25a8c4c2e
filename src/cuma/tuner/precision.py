"""Autocast, where it must not choose the precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def no_autocast(device: str) -> AbstractContextManager[object]:
    """A context without autocast; costs nothing where none is on (entering one takes longer than a small product)."""
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()


def autocasts(device: str) -> bool:
    """Whether autocast is on. Torch knows none for the device "meta"."""
    return device != "meta" and torch.is_autocast_enabled(device)
