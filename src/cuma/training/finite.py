"""A run whose numbers break stops before the weights do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from cuma.errors import TrainingError


def check_loss(loss: Tensor, step: int) -> None:
    """Raises `TrainingError` if the loss of the step to come is NaN or infinite. Nothing has been updated then."""
    if not torch.isfinite(loss).all():
        raise _broken("loss", step)


class FiniteGradients(TrainerCallback):
    """Stops before an update with a NaN or infinite gradient. Under fp16 the gradient scaler does that, and goes on."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Called after clipping, before the update; with several processes the gradients are the same in all."""
        if args.fp16:
            return
        sums = [p.grad.sum() for p in model.parameters() if p.grad is not None]
        if sums and not torch.isfinite(torch.stack([total.float().to(sums[0].device) for total in sums])).all():
            raise _broken("gradient", state.global_step)


def _broken(what: str, step: int) -> TrainingError:
    return TrainingError(
        f"the {what} of step {step + 1} is not finite. Training stopped before that update, and the checkpoints so far "
        "are whole. Lower the learning rate, or max_grad_norm, and train into a new folder."
    )
