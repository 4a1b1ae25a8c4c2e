"""What other items would change: figures of many groups when the items, and not only the groups, are a sample.

A cell's error has an item's part, a group's part and one of its own. Of Q items and G groups the mean's variance is
σ²(items)/Q + σ²(groups)/G + σ²(cells)/(QG). Groups drawn with replacement show the last two. The first is the
jackknife's variance over items, which all groups share, less that over each group's items apart, times G/(G-1) (two-way
clustering; Cameron, Gelbach & Miller 2011). The pigeonhole bootstrap (Owen 2007) would count the cells' part three
times, and the difference of two methods, whose items and groups mostly cancel, hangs on that part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cuma.metrics.measure import CellShares, cell_values, measure, pair_sum
from cuma.metrics.pointwise import Floats, calibration_gaps
from cuma.metrics.sample import Predictions, Sample

AT_ONCE = 4_000_000
"""Numbers of one array that are held while items are left out."""

ItemFigures = tuple[dict[str, Floats], dict[str, Floats]]
"""Every metric, moved so that the sum of squared distances from its value is a variance: of items that all groups share
[Q], and of each group's items apart [cells]. The latter is empty for a metric that is no mean of cells: its cells' part
then counts twice, which makes intervals rather too wide."""


def item_figures(
    left_out: Mapping[str, Floats], cells: Mapping[str, Floats], there: NDArray[np.bool_], value: Mapping[str, float]
) -> ItemFigures:
    """Every metric, moved.

    left_out: each metric [Q] without one item. cells: the metrics [Q, G] that a cell has by itself. there [Q, G]:
    whether there is such a cell. value: every metric of all items.
    """
    apart = {name: _apart(values, there, value[name]) for name, values in cells.items()}
    return _together(left_out, value), {name: apart.get(name, np.empty(0)) for name in value}


def items_of_people(
    people: Sample,
    predictions: Predictions,
    observed: Floats,
    shares: CellShares,
    chance: Floats,
    value: Mapping[str, float],
) -> ItemFigures:
    """Of people's answers. observed [K, G, 1]: their shares. shares: the method's cells, over everybody. chance [Q]:
    what chance gives the spread's denominator. value: every metric of all items."""
    questions = len(people.items)
    gaps = _gaps_by_question(people, predictions)
    once = np.ones((len(people.groups), 1))
    step = max(1, AT_ONCE // shares.predicted.size)
    parts = []
    for start in range(0, questions, step):
        left_out = np.eye(questions)[start : start + step]
        n = shares.n * (1 - left_out.T)[:, None, :]
        diversity = pair_sum(people.columns, n, observed, once) - (chance.sum() - left_out @ chance)
        without = shares.gaps - np.einsum("bq,qfg->fgb", left_out, gaps)
        parts.append(measure(replace(shares, n=n, gaps=without), once, diversity))
    moved = {name: np.concatenate([part[name] for part in parts]) for name in value}
    cells = {name: values[:, :, 0] for name, values in cell_values(shares).items()}
    return item_figures(moved, cells, shares.n[:, :, 0] > 0, value)


def _gaps_by_question(people: Sample, predictions: Predictions) -> Floats:
    """[Q, BINS, G]: `calibration_gaps` of each question, summed over people by their weights."""
    sums = []
    for answers, shares in zip(people.answers.T, predictions.shares, strict=True):
        there = (answers >= 0) * people.weight
        gaps = calibration_gaps(shares.max(axis=1), shares.argmax(axis=1) == answers)
        sums.append(np.add.reduceat(gaps * there[:, None], people.starts[:-1], axis=0).T)
    return np.stack(sums)


def _together(left_out: Mapping[str, Floats], value: Mapping[str, float]) -> dict[str, Floats]:
    """The jackknife's figures, each without one item."""
    return {
        name: value[name] + np.sqrt((len(moved) - 1) / len(moved)) * (moved - moved.mean())
        for name, moved in ((name, left_out[name]) for name in value)
    }


def _apart(values: Floats, there: NDArray[np.bool_], value: float) -> Floats:
    """[cells]: the figure, a mean over each group's items and then over groups, moved by each cell of `values` [Q, G].
    A group's only item does not tell how its items differ."""
    count = there.sum(axis=0)
    mean = (values * there).sum(axis=0) / np.maximum(count, 1)
    scale = np.sqrt(np.maximum(count * (count - 1), 1)) * max(int((count > 0).sum()), 1)
    return np.asarray((value + (mean - values) / scale)[there & (count > 1)])
