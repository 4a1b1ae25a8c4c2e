"""Which of several replies does a person prefer: how often is a model right about it, person by person?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.inference import entry, interval, student_deviations
from cuma.metrics.measure import METRICS
from cuma.metrics.pointwise import BINS, Floats, brier, calibration_error, calibration_gaps, distributions, mean_f1
from cuma.privacy.small_groups import MIN_PEOPLE

DRAWS = 1000
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
    sides: dict[str, Any] = {}
    for side, seen in (("seen", True), ("unseen", False)):
        rows = table[table["seen"] == seen]
        if rows.empty:
            continue
        groups = {str(group): part for group, part in rows.groupby("group", sort=True)}
        people = {group: part["person"].nunique() for group, part in groups.items()}
        sides[side] = {
            "n": {"people": rows["person"].nunique(), "choices": len(rows), "groups": len(groups)},
            "chance": 1 / len(rows["probabilities"].iloc[0]),
            **_estimates(rows, draws, seed),
            "by_group": {
                group: {"n": people[group], "accuracy": _estimates(part, draws, seed)["accuracy"]}
                for group, part in groups.items()
                if people[group] >= MIN_PEOPLE
            },
        }
    return sides


def _estimates(rows: pd.DataFrame, draws: int, seed: int) -> dict[str, dict[str, float | None]]:
    sums, options = _per_person(rows)
    people = len(sums)
    values = {name: float(value) for name, value in _figures(sums.sum(axis=0), options).items()}
    ends: dict[str, tuple[float, float] | None] = dict.fromkeys(FIGURES)
    if people > 1:
        times = np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=draws)
        replicates = _figures(times @ sums, options)
        for name, value in values.items():
            ends[name] = interval(value, student_deviations(value, replicates[name], people))
        ends["accuracy"] = at_the_edge(values["accuracy"], people) or ends["accuracy"]
    return {name: entry(value, ends[name], METRICS[name].bounds) for name, value in values.items()}


def at_the_edge(accuracy: float, people: int) -> tuple[float, float] | None:
    """Where no guess is right, or every one, draws of people cannot show anything else: the exact (Clopper-Pearson)
    interval of so many people takes the place of theirs."""
    least = 0.025 ** (1 / people)
    return {0.0: (0.0, 1 - least), 1.0: (least, 1.0)}.get(accuracy)


def _per_person(rows: pd.DataFrame) -> tuple[Floats, int]:
    """[P, F] sums over each person's choices: all figures are functions of such sums. And m, the number of options."""
    shares = distributions(np.stack(rows["probabilities"].to_list()), "probabilities")
    answer = rows["answer"].to_numpy(dtype=np.int64)
    options, guess = shares.shape[1], shares.argmax(axis=1)
    confusion = np.eye(options**2)[answer * options + guess]
    gaps = calibration_gaps(shares.max(axis=1), guess == answer)
    plain = [np.ones(len(rows)), brier(shares, answer), rows["option_mass"].to_numpy(dtype=np.float64)]
    features = np.column_stack([*plain, gaps, confusion])
    person, number = np.unique(rows["person"].to_numpy(), return_inverse=True)
    sums = np.zeros((len(person), features.shape[1]))
    np.add.at(sums, number, features)
    return sums, options


def _figures(sums: Floats, options: int) -> dict[str, Floats]:
    """`FIGURES` from sums [..., F]."""
    choices, scores, mass = sums[..., 0], sums[..., 1], sums[..., 2]
    confusion = sums[..., 3 + BINS :].reshape(*sums.shape[:-1], options, options)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return {
        "accuracy": hits.sum(-1) / choices,
        "macro_f1": mean_f1(confusion.sum(-2), confusion.sum(-1), hits, axis=-1),
        "brier": scores / choices,
        "ece": calibration_error(sums[..., 3 : 3 + BINS], choices, axis=-1),
        "option_mass": mass / choices,
    }
