"""What a person and a file see of a training run while it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm
from transformers import TrainerCallback

from cuma.runs.folder import Stage

CurvePoint = dict[str, Any]
"""{"seen": {"soft_emd", "spread"}, "unseen": {…}}"""
Measure = Callable[[Any], CurvePoint]
"""Model → point; must leave weights, mode and random state as they are."""


class LogToStage(TrainerCallback):
    """Appends the trainer's log rows to the stage's metrics.jsonl."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """One row for each report of the trainer; its closing summary (train_runtime, …) is in run.json."""
        if logs and state.is_world_process_zero and "train_runtime" not in logs:
            self.stage.log({"step": state.global_step, **logs})


class LearningCurve(TrainerCallback):
    """Measures the model at given steps and logs the point."""

    def __init__(self, stage: Stage, steps: tuple[int, ...], measure: Measure) -> None:
        """Args:
        stage: whose log gets the points.
        steps: when to measure; 0 is before the first step.
        measure: takes a point.
        """
        self.stage = stage
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
            was_training = model.training
            model.eval()
            try:
                self.stage.log({"step": step, "curve": self.measure(model)})
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
