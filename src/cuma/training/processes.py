"""Which of several processes this is: one alone, or one that torchrun or accelerate launch started."""

from __future__ import annotations

import torch
from accelerate import PartialState


def on_cpu() -> bool:
    """Whether training runs on the CPU. Left to guess, accelerate takes several CPU processes for one each."""
    return not torch.accelerator.is_available()


def processes() -> PartialState:
    """accelerate's view of all processes: who is the main one, how many there are, and where they wait."""
    return PartialState(cpu=on_cpu())
