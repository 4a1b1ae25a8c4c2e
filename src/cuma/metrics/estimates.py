"""An estimate with its interval, and two methods' paired difference: from draws to the form of scores.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cuma.metrics.inference import holm, interval, p_value
from cuma.metrics.measure import BOUNDS, DESCRIPTIVE, METRICS, SQUARED
from cuma.metrics.pointwise import Floats, low_option_mass

NOT_TESTED = {"p": None}


Scatter = Callable[[float, Floats], Floats | None]
"""From an estimate and its draws to how it scatters (`deviations`, `student_deviations`)."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric set of one method: the estimates, and the draws behind their intervals (empty without draws)."""

    value: dict[str, float]
    drawn: dict[str, Floats]


def numbers(result: Measured, scatter: Scatter) -> dict[str, dict[str, Any]]:
    """Each metric as {"value", "low", "high"}."""
    scores: dict[str, dict[str, Any]] = {}
    for metric, value in result.value.items():
        scores[metric] = entry(value, _ends(metric, result, scatter) if result.drawn else None, BOUNDS[metric])
    mass = scores["option_mass"]
    mass["low_mass"] = low_option_mass(result.value["option_mass"])
    return scores


def _ends(metric: str, result: Measured, scatter: Scatter) -> tuple[float, float] | None:
    """The interval of one metric; divergences, which grow with the square of a difference, are taken by their root."""
    value, over = result.value[metric], result.drawn[metric]
    if metric in DESCRIPTIVE:
        return None
    if metric not in SQUARED:
        return interval(value, scatter(value, over))
    root = float(np.sqrt(value))
    ends = interval(root, scatter(root, np.sqrt(over)))
    return None if ends is None else (max(ends[0], 0.0) ** 2, ends[1] ** 2)


def paired(one: Measured, other: Measured, scatter: Scatter) -> dict[str, dict[str, Any]]:
    """Each metric's difference, one - other, as {"value", "low", "high", "p", "p_holm"}, not corrected yet; of what
    both were measured by."""
    entries = {}
    for metric in (name for name in METRICS if name in one.value and name in other.value):
        value = one.value[metric] - other.value[metric]
        known = one.drawn and metric not in DESCRIPTIVE
        around = scatter(value, one.drawn[metric] - other.drawn[metric]) if known else None
        p = p_value(value, around)
        entries[metric] = {**entry(value, interval(value, around)), "p": p, "p_holm": p}
    return entries


def correct(methods: list[dict[str, dict[str, Any]]]) -> None:
    """Holm's correction of each metric's p over the methods that have one."""
    for metric in METRICS:
        tested = [found[metric] for found in methods if found.get(metric, NOT_TESTED)["p"] is not None]
        for difference, p in zip(tested, holm([difference["p"] for difference in tested]), strict=True):
            difference["p_holm"] = p


def entry(
    value: float, ends: tuple[float, float] | None, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, Any]:
    """An estimate's JSON form: None for what is undefined."""
    low, high = (None, None) if ends is None else (max(ends[0], bounds[0]), min(ends[1], bounds[1]))
    return {"value": value if np.isfinite(value) else None, "low": low, "high": high}
