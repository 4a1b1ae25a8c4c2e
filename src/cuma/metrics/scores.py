"""The table: every metric of a method with its interval, on seen and on unseen groups, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cuma.errors import BenchmarkError, suggestion
from cuma.metrics.cell_sums import Cells, PersonFigures, cell_floors, cell_shares, diversity
from cuma.metrics.corners import CORNERS, corner_rows, side_rows
from cuma.metrics.inference import GroupDraws, adjust, differences, group_deviations, metric_entries, student_deviations
from cuma.metrics.items import Item, Questions
from cuma.metrics.measure import Estimates, measure
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Predictions, Sample, read_parts
from cuma.metrics.shares import GroupShares, estimate_shares, is_shares, read_shares

PARTS = ("seen", "unseen")


def score(predictions: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Scores of one method, in the form of scores.json (less its "benchmark").

    predictions: rows of predictions.parquet; rows without an answer (-1) are left out. questions: the survey's, or the
    entries of scores.json. Returns {"questions", "seen", "unseen", "n", "draws", "seed"}; a part without people is
    absent. Each metric is {"value", "low", "high"}, None where undefined; `draws=0` gives no intervals and is fast.
    A cell is a group × question. EMDs, accuracy (share of people whose answer is the argmax), entropy and option mass
    are means over a group's cells, then over groups: small groups count as much as large ones. Cells that nobody
    answered are skipped and counted. BenchmarkError if the table breaks the documented form.

    A table with shares in place of people (`cuma.metrics.shares`) has the metrics that need no persons, and intervals
    over questions and groups. Where it says which items are new (`cuma.metrics.corners`), the two parts are of new
    items, and "corners": {corner: {"n", metric: …}} has all four.
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
    parts = {name: _read_parts(table, questions) for name, table in methods.items()}
    head = {"questions": [{**asdict(item), "options": list(item.options)} for item in map(Item.of, questions)]}
    scores: dict[str, Any] = {name: {**head, "n": {}, "draws": draws, "seed": seed} for name in methods}
    rivals = [name for name in methods if reference is not None and name != reference]
    paired: dict[str, dict[str, Any]] = {name: {} for name in rivals}
    for part in (*PARTS, *CORNERS):
        here = {name: sides[part] for name, sides in parts.items() if part in sides}
        if not here:
            continue
        people = _same_people(here)
        predictions = {name: predicted for name, (_, predicted) in here.items()}
        if isinstance(people, GroupShares):
            estimates = estimate_shares(people, predictions, draws, seed)
            scatter = partial(student_deviations, units=people.units)
        else:
            groups = GroupDraws.of(len(people.groups), draws, seed)
            estimates = _estimate(people, predictions, groups.times, seed)
            scatter = partial(group_deviations, draws=groups)
        for name, result in estimates.items():
            _put(scores[name], part, metric_entries(result, scatter), people.sizes())
        compared = [name for name in rivals if name in estimates and reference in estimates]
        apart = {name: differences(estimates[name], estimates[str(reference)], scatter) for name in compared}
        adjust(list(apart.values()))
        for name, metrics in apart.items():
            _put(paired[name], part, metrics)
    return {"scores": scores, "differences": paired}


def _put(result: dict[str, Any], part: str, metrics: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> None:
    """Write the figures of one part, a side or a corner, where their readers find them."""
    if part in CORNERS:
        result.setdefault("corners", {})[part] = {**({} if sizes is None else {"n": sizes}), **metrics}
        return
    result[part] = metrics
    if sizes is not None:
        result["n"][part] = sizes


def _read_parts(predictions: pd.DataFrame, questions: Questions) -> dict[str, tuple[Any, Any]]:
    """`read_any` of the sides, and of each corner that has rows."""
    parts = read_any(side_rows(predictions), questions)
    for corner, rows in corner_rows(predictions).items():
        for read in read_any(rows, questions).values():
            parts[corner] = read
    return parts


def read_any(predictions: pd.DataFrame, questions: Questions) -> dict[str, tuple[Any, Any]]:
    """Each part's people, or their shares, and what is predicted for them."""
    return read_shares(predictions, questions) if is_shares(predictions) else read_parts(predictions, questions)


def _same_people(here: Mapping[str, tuple[Any, Any]]) -> Sample | GroupShares:
    """The people, or shares, that all methods were evaluated on. BenchmarkError if they differ."""
    names = sorted(here)
    first: Sample | GroupShares = here[names[0]][0]
    for name in names[1:]:
        if type(first) is not type(here[name][0]) or not first.same_as(here[name][0]):
            raise BenchmarkError(
                f"Methods {names[0]!r} and {name!r} were evaluated on different people or answers; differences "
                "would not be paired. Evaluate both on the same benchmark, split seed and version."
            )
    return first


def _estimate(people: Sample, methods: Mapping[str, Predictions], times: Floats, seed: int) -> dict[str, Estimates]:
    """Every method's estimates, and replicates where groups are drawn `times` [G, B]."""
    cells, floors = Cells.of(people), cell_floors(people, seed)
    observed, drawn = diversity(cells, times, seed)
    estimates = {}
    for name, predictions in methods.items():
        shares = cell_shares(cells, PersonFigures.of(people, predictions), floors)
        once = measure(shares, np.ones((len(people.groups), 1)), observed)
        replicates = measure(shares, times, drawn) if times.size else {}
        estimates[name] = Estimates({metric: float(value[0]) for metric, value in once.items()}, replicates)
    return estimates
