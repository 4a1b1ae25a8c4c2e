"""What a training step of each method costs, beside CuMA's: short trainings in one process, in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from cuma.answering.materials import Materials
from cuma.recipes.schema import Recipe
from cuma.training.train import train_run

STEPS, ROUNDS = 20, 6
"""Of one short training; of all methods in turn, the first of which only fills what is kept."""


def step_seconds(recipes: Mapping[str, Recipe], materials: Materials) -> dict[str, list[float]]:
    """Method → seconds of a step, a figure for each round: the second half of the short training."""
    found: dict[str, list[float]] = {name: [] for name in recipes}
    for counted in [False] + [True] * (ROUNDS - 1):
        for name, recipe in recipes.items():
            with tempfile.TemporaryDirectory() as folder:
                run = train_run(recipe, Path(folder) / "run", materials)
                times = {row["step"]: row["seconds"] for row in run.stages()[0].read_log() if "loss" in row}
            if counted:
                found[name].append((times[STEPS] - times[STEPS // 2]) / (STEPS // 2))
    return found


def beside(seconds: Sequence[float], other: Sequence[float]) -> dict[str, float]:
    """How many of the other's steps one step costs, round by round: mean with Student's 95 % interval."""
    ratios = np.divide(seconds, other)
    half = stats.t.ppf(0.975, len(ratios) - 1) * stats.sem(ratios) if len(ratios) > 1 else float("nan")
    return {"value": float(ratios.mean()), "low": float(ratios.mean() - half), "high": float(ratios.mean() + half)}
