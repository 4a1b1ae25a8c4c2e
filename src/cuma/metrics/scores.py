"""The table: every metric of a method with its interval, on seen and on unseen groups, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from cuma.errors import BenchmarkError, suggestion
from cuma.metrics.cells import Answers, Cells
from cuma.metrics.inference import GroupDraws, deviations, holm, interval, p_value
from cuma.metrics.measure import BOUNDS, METRICS, SQUARED, measure, pair_sum
from cuma.metrics.pointwise import Floats, low_option_mass
from cuma.metrics.sample import People, QuestionLike, Said, Scale, read_parts
from cuma.metrics.truth import Truth

PARTS = ("seen", "unseen")

Questions = Sequence[QuestionLike | Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric set of one method: the estimates, and the draws behind their intervals (empty without draws)."""

    value: dict[str, float]
    drawn: dict[str, Floats]


def score(predictions: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Scores of one method, in the form of scores.json (less its "benchmark").

    predictions: rows of predictions.parquet; rows without an answer (-1) are left out. questions: the survey's, or the
    entries of scores.json. Returns {"questions", "seen", "unseen", "n", "draws", "seed"}; a part without people is
    absent. Each metric is {"value", "low", "high"}, None where undefined; `draws=0` gives no intervals and is fast.
    A cell is a group × question. EMDs, accuracy (share of people whose answer is the argmax), entropy and option mass
    are means over a group's cells, then over groups: small groups count as much as large ones. Cells that nobody
    answered are skipped and counted. BenchmarkError if the table breaks the documented form.
    """
    return score_many({"": predictions}, questions, draws=draws, seed=seed)["scores"][""]


def compare(
    predictions_a: pd.DataFrame, predictions_b: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Paired differences a - b of every metric, on the same draws of the same people.

    Returns {"seen": {metric: {"value", "low", "high", "p", "p_holm"}}, "unseen": …, "draws", "seed"}, for parts that
    both predict.
    """
    both = score_many({"a": predictions_a, "b": predictions_b}, questions, reference="b", draws=draws, seed=seed)
    return {**both["differences"]["a"], "draws": draws, "seed": seed}


def score_many(
    methods: Mapping[str, pd.DataFrame],
    questions: Questions,
    reference: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Scores of many methods on shared draws, and every other method's paired difference from `reference`.

    Returns {"scores": {method: as `score`}, "differences": {method: {part: {metric: {"value", "low", "high", "p",
    "p_holm"}}}}}, differences as method - reference, empty without a reference. p_holm is p after Holm's correction for
    the methods that are compared, by part and metric. Results do not depend on the order of methods or rows.
    BenchmarkError if methods were evaluated on different people.
    """
    if reference is not None and reference not in methods:
        raise BenchmarkError(f"Unknown reference method {reference!r}. {suggestion(reference, methods)}")
    read = {name: read_parts(table, questions) for name, table in methods.items()}
    head = {"questions": [{**asdict(scale), "options": list(scale.options)} for scale in map(Scale.of, questions)]}
    scores: dict[str, Any] = {name: {**head, "n": {}, "draws": draws, "seed": seed} for name in methods}
    differences: dict[str, Any] = {name: {} for name in methods if reference is not None and name != reference}
    for part in PARTS:
        here = {name: parts[part] for name, parts in read.items() if part in parts}
        if not here:
            continue
        people = _shared_people(here)
        drawn = GroupDraws.of(len(people.groups), draws, seed) if draws else None
        measured = _measure_all(people, {name: said for name, (_, said) in here.items()}, drawn, seed)
        for name, result in measured.items():
            scores[name][part] = _numbers(result, drawn)
            scores[name]["n"][part] = sizes(people)
        for name in differences:
            if name in measured and reference in measured:
                differences[name][part] = _differences(measured[name], measured[reference], drawn)
        _correct([found[part] for found in differences.values() if part in found])
    return {"scores": scores, "differences": differences}


def _shared_people(here: Mapping[str, tuple[People, Said]]) -> People:
    names = sorted(here)
    first = here[names[0]][0]
    for name in names[1:]:
        if not first.same_as(here[name][0]):
            raise BenchmarkError(
                f"Methods {names[0]!r} and {name!r} were evaluated on different people or answers; differences "
                "would not be paired. Evaluate both on the same benchmark, split seed and version."
            )
    return first


def _measure_all(
    people: People, methods: Mapping[str, Said], drawn: GroupDraws | None, seed: int
) -> dict[str, Measured]:
    """Estimates and draws of every method, on one set of draws; the people's side is worked out once."""
    blocks = [people.features(), *(said.features for said in methods.values())]
    sums = [np.add.reduceat(block, people.starts[:-1], axis=0).T[:, :, None] for block in blocks]  # [F, G, 1] each
    cells = Cells.of(people, sums[0])
    truth = Truth.of(people, sums[0], drawn, seed)
    once = np.ones((len(people.groups), 1))
    results = {}
    for block, (name, said) in zip(sums[1:], methods.items(), strict=True):
        answers = Answers.of(cells, block, said.base[:, :, None], said.unsteered)

        def over(times: Floats, diversity: Floats, answers: Answers = answers) -> dict[str, Floats]:
            pairs = pair_sum(cells, answers.predicted, times)
            return measure(cells, answers, times, truth.floors, pairs, diversity)

        value = {metric: float(array[0]) for metric, array in over(once, truth.diversity).items()}
        results[name] = Measured(value, {} if drawn is None else over(drawn.times, truth.drawn))
    return results


def _numbers(result: Measured, drawn: GroupDraws | None) -> dict[str, dict[str, Any]]:
    scores: dict[str, dict[str, Any]] = {}
    for metric in METRICS:
        ends = None if drawn is None else _ends(metric, result, drawn)
        scores[metric] = entry(result.value[metric], ends, BOUNDS[metric])
    mass = scores["option_mass"]
    mass["low_mass"] = low_option_mass(result.value["option_mass"])
    return scores


def _ends(metric: str, result: Measured, drawn: GroupDraws) -> tuple[float, float] | None:
    """The interval of one metric; divergences, which grow with the square of a difference, are taken by their root."""
    value, over = result.value[metric], result.drawn[metric]
    if metric not in SQUARED:
        return interval(value, deviations(value, over, drawn))
    root = float(np.sqrt(value))
    ends = interval(root, deviations(root, np.sqrt(over), drawn))
    return None if ends is None else (max(ends[0], 0.0) ** 2, ends[1] ** 2)


def _differences(one: Measured, other: Measured, drawn: GroupDraws | None) -> dict[str, dict[str, Any]]:
    entries = {}
    for metric in METRICS:
        value = one.value[metric] - other.value[metric]
        around = None
        if drawn is not None:
            around = deviations(value, one.drawn[metric] - other.drawn[metric], drawn)
        p = p_value(value, around)
        entries[metric] = {**entry(value, interval(value, around)), "p": p, "p_holm": p}
    return entries


def _correct(methods: list[dict[str, dict[str, Any]]]) -> None:
    """Holm's correction of each metric's p over the methods that have one."""
    for metric in METRICS:
        tested = [found[metric] for found in methods if found[metric]["p"] is not None]
        for difference, p in zip(tested, holm([difference["p"] for difference in tested]), strict=True):
            difference["p_holm"] = p


def entry(
    value: float, ends: tuple[float, float] | None, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, Any]:
    """An estimate's JSON form: None for what is undefined."""
    low, high = (None, None) if ends is None else (max(ends[0], bounds[0]), min(ends[1], bounds[1]))
    return {"value": value if np.isfinite(value) else None, "low": low, "high": high}


def sizes(people: People) -> dict[str, int]:
    """Groups and people with any answer, and the cells (group × question) left out because nobody answered."""
    answered = np.add.reduceat(people.answers >= 0, people.starts[:-1], axis=0)
    return {"groups": len(people.groups), "people": len(people.person), "empty_cells": int((answered == 0).sum())}
