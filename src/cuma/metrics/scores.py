"""The table: every metric of a method with its interval, on seen and on unseen groups, and paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cuma.errors import BenchmarkError, suggestion
from cuma.metrics.cell_sums import Cells, PersonFigures, cell_floors, cell_shares, diversity
from cuma.metrics.corners import CORNERS, ITEM_SEEN, corner_rows, has_new_items, side_rows
from cuma.metrics.design import Design
from cuma.metrics.inference import (
    DesignExcess,
    Excess,
    GroupDraws,
    ItemExcess,
    Scatter,
    adjust,
    differences,
    group_deviations,
    metric_entries,
    student_deviations,
)
from cuma.metrics.item_samples import item_figures, items_of_people
from cuma.metrics.items import Item, Questions
from cuma.metrics.measure import Estimates, measure, pair_sum
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Predictions, Sample, apart, read_parts, unit_draws
from cuma.metrics.shares import (
    GroupShares,
    SharePredictions,
    draw_weights,
    estimate_shares,
    is_shares,
    overall,
    read_shares,
    share_floors,
    share_tables,
)

PARTS = ("seen", "unseen")
UNIT_DRAWS = 400
"""At most so many draws of units stand behind the variance that they add to figures of many groups."""


def score(
    predictions: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0, design: Design | None = None
) -> dict[str, Any]:
    """Scores of one method, in the form of scores.json (less its "benchmark").

    predictions: rows of predictions.parquet; rows without an answer (-1) are left out. questions: the survey's, or the
    entries of scores.json. Returns {"questions", "seen", "unseen", "n", "draws", "seed"}; a part without people is
    absent. Each metric is {"value", "low", "high"}, None where undefined; `draws=0` gives no intervals and is fast.
    A cell is a group × question. EMDs, accuracy (share of people whose answer is the argmax), entropy and option mass
    are means over a group's cells, then over groups: small groups count as much as large ones. Cells that nobody
    answered are skipped and counted. BenchmarkError if the table breaks the documented form.

    design: how the survey drew its people, which intervals and floors then follow; "n" has the design effect.

    A table with shares in place of people (`cuma.metrics.shares`) has the metrics that need no persons, and intervals
    over questions and groups. Where a table of either kind says which items are new (`cuma.metrics.corners`), the two
    parts are of new items, "corners": {corner: {"n", metric: …}} has all four, and intervals count that items are a
    sample too (`cuma.metrics.item_samples`).
    """
    return score_many({"": predictions}, questions, draws=draws, seed=seed, design=design)["scores"][""]


def compare(
    predictions_a: pd.DataFrame,
    predictions_b: pd.DataFrame,
    questions: Questions,
    draws: int = 1000,
    seed: int = 0,
    design: Design | None = None,
) -> dict[str, Any]:
    """Paired differences a - b of every metric, on the same draws of the same people.

    Returns {"seen": {metric: {"value", "low", "high", "p", "p_holm"}}, "unseen": …, "draws", "seed"}, for parts that
    both predict.
    """
    tables = {"a": predictions_a, "b": predictions_b}
    both = score_many(tables, questions, reference="b", draws=draws, seed=seed, design=design)
    return {**both["differences"]["a"], "draws": draws, "seed": seed}


def score_many(
    methods: Mapping[str, pd.DataFrame],
    questions: Questions,
    reference: str | None = None,
    draws: int = 1000,
    seed: int = 0,
    design: Design | None = None,
) -> dict[str, Any]:
    """Scores of many methods on shared draws, and every other method's paired difference from `reference`.

    Returns {"scores": {method: as `score`}, "differences": {method: {part: {metric: {"value", "low", "high", "p",
    "p_holm"}}}}}, differences as method - reference, empty without a reference. p_holm is p after Holm's correction for
    the methods that are compared, by part and metric. Results do not depend on the order of methods or rows.
    BenchmarkError if methods were evaluated on different people.
    """
    if reference is not None and reference not in methods:
        raise BenchmarkError(f"Unknown reference method {reference!r}. {suggestion(reference, methods)}")
    new_items = any(map(has_new_items, methods.values()))
    read = {name: _read_parts(table, questions, design, new_items) for name, table in methods.items()}
    items_drawn = any(ITEM_SEEN in table for table in methods.values())
    head = {"questions": [{**asdict(item), "options": list(item.options)} for item in map(Item.of, questions)]}
    scores: dict[str, Any] = {name: {**head, "n": {}, "draws": draws, "seed": seed} for name in methods}
    rivals = [name for name in methods if reference is not None and name != reference]
    paired: dict[str, dict[str, Any]] = {name: {} for name in rivals}
    for part in (*PARTS, *CORNERS):
        here = {name: sides[part] for name, sides in read.items() if part in sides}
        if not here:
            continue
        people = _same_people(here)
        predictions = {name: predicted for name, (_, predicted) in here.items()}
        if isinstance(people, GroupShares):
            estimates, scatter, excesses = _of_shares(people, predictions, draws, seed, items_drawn)
        else:
            estimates, scatter, excesses = _of_people(people, predictions, draws, seed, items_drawn)
        sizes = people.corner_sizes() if part in CORNERS else people.sizes()
        for name, result in estimates.items():
            _put(scores[name], part, metric_entries(result, scatter, excesses), sizes)
        compared = [name for name in rivals if name in estimates and reference in estimates]
        gaps = {name: differences(estimates[name], estimates[str(reference)], scatter, excesses) for name in compared}
        adjust(list(gaps.values()))
        for name, metrics in gaps.items():
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


def _read_parts(
    predictions: pd.DataFrame, questions: Questions, design: Design | None, new_items: bool
) -> dict[str, tuple[Any, Any]]:
    """`read_any` of the sides, and of each corner that has rows. Where items are held out, each of its own items."""
    sides = side_rows(predictions, new_items)
    if ITEM_SEEN not in predictions:
        return read_any(sides, questions, design)
    parts = read_any(sides, _in(sides, questions), design)
    for corner, rows in corner_rows(predictions).items():
        for read in read_any(rows, _in(rows, questions), design).values():
            parts[corner] = read
    return parts


def _in(rows: pd.DataFrame, questions: Questions) -> Questions:
    """The questions that have rows."""
    there = set(rows["question_id"])
    return [question for question in questions if Item.of(question).id in there]


def read_any(
    predictions: pd.DataFrame, questions: Questions, design: Design | None = None
) -> dict[str, tuple[Any, Any]]:
    """Each part's people, or their shares, and what is predicted for them."""
    if is_shares(predictions):
        return read_shares(predictions, questions)
    return read_parts(predictions, questions, design)


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


def _of_shares(
    people: GroupShares, methods: Mapping[str, SharePredictions], draws: int, seed: int, items_drawn: bool
) -> tuple[dict[str, Estimates], Scatter, tuple[Excess, ...]]:
    """Every method's estimates, how their replicates scatter, and what else makes them uncertain."""
    floors = share_floors(people, seed)
    tables = {name: share_tables(people, predictions, floors) for name, predictions in methods.items()}
    if not items_drawn:
        estimates = estimate_shares(tables, draw_weights(people, draws, seed))
        return estimates, partial(student_deviations, units=people.units), ()
    items, groups = people.mask.shape
    drawn = GroupDraws.of(groups, draws, seed)
    estimates = estimate_shares(tables, (np.ones((items, draws)), drawn.times))
    if draws:
        without = 1 - np.eye(items), np.ones((groups, items))
        for name, table in tables.items():
            value = estimates[name].value
            moved = item_figures(overall(table, *without), table.cells, table.mask > 0, value)
            estimates[name] = replace(estimates[name], by_items=moved)
    return estimates, partial(group_deviations, draws=drawn), (ItemExcess(groups, items),)


def _of_people(
    people: Sample, methods: Mapping[str, Predictions], draws: int, seed: int, items_drawn: bool
) -> tuple[dict[str, Estimates], Scatter, tuple[Excess, ...]]:
    """As `_of_shares`."""
    groups = GroupDraws.of(len(people.groups), draws, seed)
    estimates = _estimate(people, methods, groups.times, seed, items_drawn)
    excesses: list[Excess] = [] if people.design is None else [DesignExcess(len(people.groups), people.design)]
    excesses += [ItemExcess(len(people.groups), len(people.items))] if items_drawn else []
    return estimates, partial(group_deviations, draws=groups), tuple(excesses)


def _estimate(
    people: Sample, methods: Mapping[str, Predictions], times: Floats, seed: int, items_drawn: bool
) -> dict[str, Estimates]:
    """Every method's estimates, and replicates where groups are drawn `times` [G, B]."""
    cells, floors = Cells.of(people), cell_floors(people, seed)
    observed, drawn, chance = diversity(cells, times, seed)
    once = np.ones((len(people.groups), 1))
    estimates = {}
    for name, predictions in methods.items():
        figures = PersonFigures.of(people, predictions)
        shares = cell_shares(cells, figures, floors)
        value = {metric: float(figure[0]) for metric, figure in measure(shares, once, observed).items()}
        replicates = measure(shares, times, drawn) if times.size else {}
        by_units: list[dict[str, Floats]] = []
        if people.design is not None and times.size and len(people.groups) > 1:
            sums = unit_draws(people, [people.features(), figures.values], min(times.shape[1], UNIT_DRAWS), seed)
            for answers, values in (sums, apart(sums, seed)):
                moved = Cells.of(people, answers)
                beside = (1 + people.design.noise) * float(sum(chance))
                between = pair_sum(people.columns, moved.n, moved.observed, once) - beside
                by_units.append(measure(cell_shares(moved, figures, floors, values), once, between))
        by_items: tuple[dict[str, Floats], ...] = ()
        if items_drawn and times.size:
            by_items = items_of_people(people, predictions, cells.observed, shares, chance, value)
        estimates[name] = Estimates(value, replicates, tuple(by_units), by_items)
    return estimates
