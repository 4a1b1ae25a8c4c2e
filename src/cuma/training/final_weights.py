"""With which weights a stage ends: the last ones, their moving average, or those of the learning curve's best point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from cuma.errors import UnsupportedError
from cuma.recipes.schema import TrainingSection
from cuma.training.checkpoints import CheckpointPart
from cuma.training.progress import CurvePoint, Measure


class FinalWeights:
    """What a stage keeps beside the weights that it trains."""

    def __init__(self, model: nn.Module, training: TrainingSection, measure: Measure | None) -> None:
        """Args:
        model: what is trained, on its device.
        training: says whether weights are averaged, and whether the curve stops training.
        measure: takes the points of the learning curve; None: there are none.
        """
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.average = WeightAverage(trained, training.ema_decay) if training.ema_decay else None
        patience = training.early_stopping_patience
        self.best = BestPoint(trained, patience) if patience is not None and measure is not None else None
        self.measure = None if measure is None else self._watched(measure)
        """The measure, of the average and under the eyes of what stops."""
        self.parts: list[CheckpointPart] = [part for part in (self.average, self.best) if part is not None]

    def in_place(self) -> Any:
        """A context in which the model has the weights that its adapter is saved with."""
        if self.best is not None and self.best.weights:
            return _exchanged(self.best.trained, self.best.weights)
        return self._averaged()

    def _averaged(self) -> Any:
        return nullcontext() if self.average is None else self.average.in_place()

    def _watched(self, measure: Measure) -> Measure:
        def watched(model: Any) -> CurvePoint:
            with self._averaged():
                point = measure(model)
                if self.best is not None:
                    self.best.see(curve_error(point))
            return point

        return watched


class WeightAverage(CheckpointPart):
    """The exponential moving average of what is trained, updated after every step of the optimiser.

    torch's AveragedModel copies the module that it is given: here the trained parameters alone. Its number of updates,
    which the warm-up reads, is part of the checkpoint: a run that goes on with a count from 0 would overwrite the
    average by its next weights.
    """

    FILE = "average.safetensors"

    def __init__(self, trained: Sequence[nn.Parameter], decay: float) -> None:
        """Args:
        trained: the parameters.
        decay: that the average has after its warm-up.

        Raises:
            UnsupportedError: under DeepSpeed ZeRO-3, where no process holds them whole.
        """
        if is_deepspeed_zero3_enabled():
            raise UnsupportedError(
                "training.ema_decay averages weights that ZeRO-3 divides among processes. Use ZeRO-2, or set it to 0."
            )
        self.trained = nn.ParameterList(trained)
        self.average = AveragedModel(self.trained, multi_avg_fn=_warm_average(decay)).requires_grad_(False)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After each update of the weights."""
        self.average.update_parameters(self.trained)

    def in_place(self) -> Any:
        """A context in which the model has the averaged weights. Before the first step they are its own."""
        return _exchanged(self.trained, list(self.average.module.parameters()))

    def write(self, folder: Path) -> None:
        """The average, and how often it was updated."""
        save_file(self.average.state_dict(), folder / self.FILE)

    def read(self, folder: Path) -> None:
        """As it was written."""
        self.average.load_state_dict(load_file(folder / self.FILE))


class BestPoint(CheckpointPart):
    """Keeps the weights of the learning curve's best point, and stops training when no better one comes.

    transformers' EarlyStoppingCallback wants evaluations of its own, does not stop again after a checkpoint that it had
    stopped at, and takes any first value, NaN included, for the best.
    """

    FILE = "best.safetensors"

    def __init__(self, trained: Sequence[nn.Parameter], patience: int) -> None:
        """Args:
        trained: the parameters.
        patience: points without a lower error after which training stops.
        """
        self.trained = list(trained)
        self.patience = patience
        self.weights: list[Tensor] = []
        """Of the best point; empty before there is one."""
        self.error = math.inf
        self.step: int | None = None
        """Of the best point."""
        self.last_step: int | None = None
        """Of the latest point."""
        self.since = 0
        """Points since the best one."""
        self._new: bool | None = None

    @property
    def over(self) -> bool:
        """Whether training stops, or has stopped."""
        return self.since >= self.patience

    def see(self, error: float) -> None:
        """A new point, while the model has the weights that were measured. An error that is not finite is no better."""
        self._new = error < self.error
        if self._new:
            self.error = error
            self.weights = [parameter.detach().clone() for parameter in self.trained]

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The point at step 0, if there is one."""
        self._count(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The point at this step, if there is one."""
        self._count(state, control)

    def _count(self, state: Any, control: Any) -> None:
        if self._new is None:
            return
        self.last_step = state.global_step
        if self._new:
            self.step, self.since = state.global_step, 0
        else:
            self.since += 1
        self._new = None
        control.should_training_stop = control.should_training_stop or self.over

    def entry(self) -> dict[str, Any]:
        """What run.json says: the step at which training stopped (None: it went on to its end), the step whose weights
        are the adapter (None: no point had an error; the last) and its error."""
        return {
            "patience": self.patience,
            "stopped_at": self.last_step if self.over else None,
            "kept_step": self.step,
            "soft_emd": self.error if self.step is not None else None,
        }

    def write(self, folder: Path) -> None:
        """The best weights, and what is counted."""
        counted = {name: repr(getattr(self, name)) for name in ("error", "step", "last_step", "since")}
        save_file({str(place): w for place, w in enumerate(self.weights)}, folder / self.FILE, metadata=counted)

    def read(self, folder: Path) -> None:
        """As it was written."""
        with safe_open(folder / self.FILE, framework="pt", device=str(self.trained[0].device)) as file:
            said = file.metadata()
            self.weights = [file.get_tensor(str(place)) for place in range(len(list(file.keys())))]
        self.error, self.since = float(said["error"]), int(said["since"])
        self.step, self.last_step = (
            None if said[name] == "None" else int(said[name]) for name in ("step", "last_step")
        )


def curve_error(point: CurvePoint) -> float:
    """The error of a point of the learning curve: the mean soft EMD of its corners, or, if it has none, of its sides.

    NaN if one of them has no value.
    """
    parts = (
        list(point["corners"].values())
        if point.get("corners")
        else [point[s] for s in ("seen", "unseen") if s in point]
    )
    values = [part["soft_emd"] for part in parts]
    return float(np.mean([np.nan if value is None else value for value in values])) if values else math.nan


def _warm_average(decay: float) -> Callable[..., None]:
    """For AveragedModel: average ← d · average + (1 − d) · weights, d = min(decay, n / (n + 9)) at the n-th weights.
    The first ones are copied.

    The warm-up is TensorFlow's (tf.train.ExponentialMovingAverage, num_updates): without it a short run's average is
    mostly the weights that it began with.
    """

    @torch.no_grad()
    def update(average: list[Tensor], weights: list[Tensor], updates: Tensor) -> None:
        number = int(updates) + 1
        torch._foreach_lerp_(average, weights, 1 - min(decay, number / (number + 9)))

    return update


@contextmanager
def _exchanged(parameters: Sequence[nn.Parameter], others: Sequence[Tensor]) -> Iterator[None]:
    """Within it the parameters hold the others' values; afterwards their own, to the bit."""
    own = [parameter.detach().clone() for parameter in parameters]
    _copy(others, parameters)
    try:
        yield
    finally:
        _copy(own, parameters)


@torch.no_grad()
def _copy(values: Sequence[Tensor], parameters: Sequence[nn.Parameter]) -> None:
    for value, parameter in zip(values, parameters, strict=True):
        parameter.copy_(value)
