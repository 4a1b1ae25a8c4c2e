"""The table: every metric of a method with its interval, on seen and on unseen groups, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cuma.errors import BenchmarkError, suggestion
from cuma.metrics.cell_sums import CellPredictions, Cells
from cuma.metrics.estimates import Measured, correct, numbers, paired
from cuma.metrics.inference import GroupDraws, deviations, student_deviations
from cuma.metrics.measure import measure, pair_sum
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Item, Predictions, QuestionLike, Sample, read_parts
from cuma.metrics.shares import Published, is_shares, measure_shares, read_shares
from cuma.metrics.truth import Truth

PARTS = ("seen", "unseen")

Questions = Sequence[QuestionLike | Mapping[str, Any]]


def score(predictions: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Scores of one method, in the form of scores.json (less its "benchmark").

    predictions: rows of predictions.parquet; rows without an answer (-1) are left out. questions: the survey's, or the
    entries of scores.json. Returns {"questions", "seen", "unseen", "n", "draws", "seed"}; a part without people is
    absent. Each metric is {"value", "low", "high"}, None where undefined; `draws=0` gives no intervals and is fast.
    A cell is a group × question. EMDs, accuracy (share of people whose answer is the argmax), entropy and option mass
    are means over a group's cells, then over groups: small groups count as much as large ones. Cells that nobody
    answered are skipped and counted. BenchmarkError if the table breaks the documented form.

    A table with shares in place of people (`cuma.metrics.shares`) has the metrics that need no persons, and intervals
    over questions and groups.
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
    read = {name: _parts(table, questions) for name, table in methods.items()}
    head = {"questions": [{**asdict(scale), "options": list(scale.options)} for scale in map(Item.of, questions)]}
    scores: dict[str, Any] = {name: {**head, "n": {}, "draws": draws, "seed": seed} for name in methods}
    differences: dict[str, Any] = {name: {} for name in methods if reference is not None and name != reference}
    for part in PARTS:
        here = {name: parts[part] for name, parts in read.items() if part in parts}
        if not here:
            continue
        asked = _shared(here)
        said = {name: answers for name, (_, answers) in here.items()}
        if isinstance(asked, Published):
            measured, size = measure_shares(asked, said, draws, seed), asked.sizes()
            scatter = partial(student_deviations, units=asked.units)
        else:
            drawn = GroupDraws.of(len(asked.groups), draws, seed)
            measured, size = _measure_all(asked, said, drawn, seed), sizes(asked)
            scatter = partial(deviations, drawn=drawn)
        for name, result in measured.items():
            scores[name][part] = numbers(result, scatter)
            scores[name]["n"][part] = size
        for name in differences:
            if name in measured and reference in measured:
                differences[name][part] = paired(measured[name], measured[reference], scatter)
        correct([found[part] for found in differences.values() if part in found])
    return {"scores": scores, "differences": differences}


def _parts(predictions: pd.DataFrame, questions: Questions) -> dict[str, tuple[Any, Any]]:
    """Each part's people and what was said of them, or its shares and what was said of these."""
    return read_shares(predictions, questions) if is_shares(predictions) else read_parts(predictions, questions)


def _shared(here: Mapping[str, tuple[Any, Any]]) -> Sample | Published:
    """What all methods were asked about. BenchmarkError if that is not the same."""
    names = sorted(here)
    first: Sample | Published = here[names[0]][0]
    for name in names[1:]:
        if type(first) is not type(here[name][0]) or not first.same_as(here[name][0]):
            raise BenchmarkError(
                f"Methods {names[0]!r} and {name!r} were evaluated on different people or answers; differences "
                "would not be paired. Evaluate both on the same benchmark, split seed and version."
            )
    return first


def _measure_all(
    people: Sample, methods: Mapping[str, Predictions], drawn: GroupDraws, seed: int
) -> dict[str, Measured]:
    """Estimates and draws of every method, on one set of draws; the people's side is worked out once."""
    blocks = [people.features(), *(said.features for said in methods.values())]
    sums = [np.add.reduceat(block, people.starts[:-1], axis=0).T[:, :, None] for block in blocks]  # [F, G, 1] each
    cells = Cells.of(people, sums[0])
    truth = Truth.of(people, sums[0], drawn, seed)
    once = np.ones((len(people.groups), 1))
    results = {}
    for block, (name, said) in zip(sums[1:], methods.items(), strict=True):
        answers = CellPredictions.of(cells, block, said.base[:, :, None], said.unsteered)

        def over(times: Floats, diversity: Floats, answers: CellPredictions = answers) -> dict[str, Floats]:
            pairs = pair_sum(cells, answers.predicted, times)
            return measure(cells, answers, times, truth.floors, pairs, diversity)

        value = {metric: float(array[0]) for metric, array in over(once, truth.diversity).items()}
        results[name] = Measured(value, over(drawn.times, truth.drawn) if drawn.times.size else {})
    return results


def sizes(people: Sample) -> dict[str, int]:
    """Groups and people with any answer, and the cells (group × question) left out because nobody answered."""
    answered = np.add.reduceat(people.answers >= 0, people.starts[:-1], axis=0)
    return {"groups": len(people.groups), "people": len(people.person), "empty_cells": int((answered == 0).sum())}
