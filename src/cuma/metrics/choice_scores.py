"""Which of several replies does a person prefer: how often is a model right about it, person by person?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.inference import interval, student_deviations
from cuma.metrics.measure import BOUNDS
from cuma.metrics.pointwise import Floats, brier, distributions
from cuma.privacy.small_groups import MIN_PEOPLE

DRAWS = 1000
BINS = 10
"""Equally wide bins of confidence, for the calibration error."""
FIGURES = ("accuracy", "macro_f1", "brier", "ece", "option_mass")


def discrimination(table: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """Scores of choices among the same number of options.

    Every choice counts the same, so people who chose often count more. Intervals (95 %) draw people, a person's choices
    together; there is none for a single person.

    Args:
        table: a row per choice: person, group, seen, answer (the option that was preferred), probabilities [m] and
            option_mass.
        draws: of people.
        seed: of the draws.

    Returns:
        Side ("seen", "unseen") → {"n": {"people", "choices", "groups"}, "chance": 1/m, and of each of `FIGURES`
        {"value", "low", "high"}, "by_group": group → {"n": people, "accuracy": …}}. Groups of fewer than 11 people have
        no entry of their own.
    """
    found: dict[str, Any] = {}
    for side, seen in (("seen", True), ("unseen", False)):
        rows = table[table["seen"] == seen]
        if rows.empty:
            continue
        groups = {str(group): part for group, part in rows.groupby("group", sort=True)}
        large = {group: part for group, part in groups.items() if part["person"].nunique() >= MIN_PEOPLE}
        found[side] = {
            "n": {"people": rows["person"].nunique(), "choices": len(rows), "groups": len(groups)},
            "chance": 1 / len(rows["probabilities"].iloc[0]),
            **_estimates(rows, draws, seed),
            "by_group": {
                group: {"n": part["person"].nunique(), "accuracy": _estimates(part, draws, seed)["accuracy"]}
                for group, part in large.items()
            },
        }
    return found


def _estimates(rows: pd.DataFrame, draws: int, seed: int) -> dict[str, dict[str, float | None]]:
    people, options = _per_person(rows)
    values = _figures(people.sum(axis=0), options)
    ends: dict[str, Floats] = {}
    if len(people) > 1:
        times = np.random.default_rng(seed).multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
        drawn = _figures(times @ people, options)
        for name in FIGURES:
            value = float(values[name])
            found = interval(value, student_deviations(value, drawn[name], len(people)))
            assert found is not None  # every figure of drawn people is defined
            ends[name] = np.clip(found, *BOUNDS[name])
        ends["accuracy"] = _at_the_edge(float(values["accuracy"]), len(people), ends["accuracy"])
    return {
        name: {
            "value": float(values[name]),
            "low": float(ends[name][0]) if ends else None,
            "high": float(ends[name][1]) if ends else None,
        }
        for name in FIGURES
    }


def _at_the_edge(accuracy: float, people: int, ends: Floats) -> Floats:
    """Where nobody's reply was named, or everybody's, draws of people cannot say otherwise: the exact (Clopper-Pearson)
    interval of so many people takes their place."""
    least = 0.025 ** (1 / people)
    return {0.0: np.array([0.0, 1 - least]), 1.0: np.array([least, 1.0])}.get(accuracy, ends)


def _per_person(rows: pd.DataFrame) -> tuple[Floats, int]:
    """[P, F] sums over each person's choices: all figures are functions of such sums. And m, the number of options."""
    said = distributions(np.stack(rows["probabilities"].to_list()), "probabilities")
    answer = rows["answer"].to_numpy(dtype=np.int64)
    options, guess, sure = said.shape[1], said.argmax(axis=1), said.max(axis=1)
    confusion = np.eye(options**2)[answer * options + guess]
    gap = np.eye(BINS)[np.minimum((sure * BINS).astype(np.int64), BINS - 1)] * ((guess == answer) - sure)[:, None]
    plain = [np.ones(len(rows)), brier(said, answer), rows["option_mass"].to_numpy(dtype=np.float64)]
    features = np.column_stack([*plain, gap, confusion])
    person, number = np.unique(rows["person"].to_numpy(), return_inverse=True)
    sums = np.zeros((len(person), features.shape[1]))
    np.add.at(sums, number, features)
    return sums, options


def _figures(sums: Floats, options: int) -> dict[str, Floats]:
    """`FIGURES` from sums [..., F]."""
    choices, scores, mass = sums[..., 0], sums[..., 1], sums[..., 2]
    gap = sums[..., 3 : 3 + BINS]
    confusion = sums[..., 3 + BINS :].reshape(*sums.shape[:-1], options, options)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    either = confusion.sum(-1) + confusion.sum(-2)  # 2 · true positives + false negatives + false positives
    f1 = np.divide(2 * hits, either, out=np.zeros_like(either), where=either > 0)
    return {
        "accuracy": hits.sum(-1) / choices,
        "macro_f1": f1.sum(-1) / np.maximum((either > 0).sum(-1), 1),
        "brier": scores / choices,
        "ece": np.abs(gap).sum(-1) / choices,
        "option_mass": mass / choices,
    }
