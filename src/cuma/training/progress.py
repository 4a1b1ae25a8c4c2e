"""What a person, a file and trackers (TensorBoard, wandb, trackio …) see of a training run while it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from cuma.errors import RecipeError, suggestion
from cuma.runs.folder import Stage

CurvePoint = dict[str, Any]
"""{"seen": {"soft_emd", "spread"}, "unseen": {…}, "corners": {corner: {"soft_emd", "spread"}}}"""
Measure = Callable[[Any], CurvePoint]
"""Model → point; must leave weights, mode and random state as they are."""
TRACKERS = sorted(INTEGRATION_TO_CALLBACK.keys() - {"flyte"})
"""transformers' names. Flyte reports only from inside a task of its own, and is not looked for by transformers."""


class Stopwatch:
    """Seconds of training so far, the starts before this one included; what the curve takes is not training."""

    def __init__(self, stage: Stage) -> None:
        """stage: whose log, as far as this start goes on from it, says how long training has taken."""
        self._before = max((float(row.get("seconds", 0.0)) for row in stage.read_log()), default=0.0)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return round(self._before + time.monotonic() - self._started, 2)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time in here does not count."""
        paused = time.monotonic()
        try:
            yield
        finally:
            self._started += time.monotonic() - paused


class LogToStage(TrainerCallback):
    """Appends the trainer's log rows to the stage's metrics.jsonl."""

    def __init__(self, stage: Stage, watch: Stopwatch) -> None:
        self.stage = stage
        self.watch = watch

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """One row for each report of the trainer; its closing summary (train_runtime, …) is in run.json."""
        if logs and state.is_world_process_zero and "train_runtime" not in logs:
            self.stage.log({"step": state.global_step, "seconds": self.watch.seconds, **logs})


class LearningCurve(TrainerCallback):
    """Measures the model at given steps and logs the point."""

    def __init__(self, stage: Stage, steps: tuple[int, ...], measure: Measure, watch: Stopwatch) -> None:
        """Args:
        stage: whose log gets the points.
        steps: when to measure; 0 is before the first step.
        measure: takes a point.
        watch: says how long training has taken; stops meanwhile.
        """
        self.stage = stage
        self.watch = watch
        self.steps = steps
        self.measure = measure

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The point at step 0, unless the run continues."""
        if state.global_step == 0 and state.is_world_process_zero:
            self._point(0, model)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """The point at this step, if one is wanted."""
        if state.is_world_process_zero:
            self._point(state.global_step, model)

    def _point(self, step: int, model: Any) -> None:
        if step in self.steps:
            was_training, seconds = model.training, self.watch.seconds
            model.eval()
            try:
                with self.watch.stopped():
                    self.stage.log({"step": step, "seconds": seconds, "curve": self.measure(model)})
            finally:
                model.train(was_training)


class ProgressBar(TrainerCallback):
    """One bar per run, with the latest loss."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.bar: tqdm | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Open the bar where the run continues."""
        if state.is_world_process_zero:
            desc = f"{self.label}: training"
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=desc, unit="step")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step further."""
        if self.bar is not None:
            self.bar.update(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Show the loss."""
        if self.bar is not None and logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise RecipeError for a tracker that transformers does not know, whose package is not installed, or that wants
    a login which nobody gave."""
    for name in names:
        if name not in TRACKERS:
            raise RecipeError(f"training.report_to: unknown tracker {name!r}. {suggestion(name, TRACKERS)}")
        if name not in get_available_reporting_integrations():
            package = name.replace("_", "-")
            raise RecipeError(
                f"training.report_to: the package for {name!r} is not installed. Install it (usually `pip install "
                f"{package}`), or leave {name!r} out; the run's own log needs none."
            )
        if name == "wandb":
            _log_in_to_wandb()


def _log_in_to_wandb() -> None:
    """At a terminal it asks for the key now, and not behind minutes of loading; elsewhere it must be there."""
    import wandb

    try:
        wandb.login(verify=False)
    except wandb.errors.Error as refused:
        raise RecipeError(
            f"training.report_to: wandb says {str(refused)!r} Without an account: WANDB_MODE=offline keeps its log on "
            "this machine."
        ) from refused


def keep_beside_the_log(trainer: Any, stage: Stage) -> None:
    """TensorBoard's files go to the stage's folder; by themselves they go among the checkpoints, into a folder named
    after this machine. (TensorBoard still puts the machine's name into the file's: they are never published.)"""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(stage.path / "tensorboard")
