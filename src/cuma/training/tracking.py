"""Trackers (TensorBoard, wandb, trackio …) that get a run's log as well: checked before anything starts."""

from __future__ import annotations

from typing import Any

from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from cuma.errors import RecipeError, suggestion
from cuma.runs.folder import Stage

TRACKERS = sorted(INTEGRATION_TO_CALLBACK.keys() - {"flyte"})
"""transformers' names. Flyte reports only from inside a task of its own, and is not looked for by transformers."""


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise RecipeError for a tracker that transformers does not know, or whose package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise RecipeError(f"training.report_to: unknown tracker {name!r}. {suggestion(name, TRACKERS)}")
        if name not in get_available_reporting_integrations():
            package = name.replace("_", "-")
            raise RecipeError(
                f"training.report_to: the package for {name!r} is not installed. Install it (usually `pip install "
                f"{package}`), or leave {name!r} out; the run's own log needs none."
            )


def keep_beside_the_log(trainer: Any, stage: Stage) -> None:
    """TensorBoard's files go to the stage's folder; by themselves they go among the checkpoints, into a folder named
    after this machine. (TensorBoard still puts the machine's name into the file's: they are never published.)"""
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback):
            callback.logging_dir = str(stage.path / "tensorboard")
