"""The table of metrics: where each can lie, and the function that it is.

A cell is a group × question. To add a metric, write its function and give it a line in `METRICS`; reports show it once
it has a column in `cuma.reports.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuma.metrics.items import Columns, per_option
from cuma.metrics.pointwise import (
    Floats,
    brier,
    calibration_error,
    correlation,
    emd_unchecked,
    entropy,
    jsd_unchecked,
    kl_unchecked,
    mean_f1,
    pairwise_jsd_sum,
    positions,
    ratio,
)

LEAST = 1e-6
"""In `kl`, a smaller probability counts as this one: "never" costs 14 nats, and not infinitely many."""
NEAR = 0.2
"""WorldValuesBench counts the questions whose EMD is at most this."""
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class CellShares:
    """Shares of answers in the cells of Q questions and S groups, over B draws (or 1): K options, side by side."""

    columns: Columns
    n: Floats
    """[Q, S, B] people who answered (their weights)."""
    observed: Floats
    """[K, S, B] their answers; zeros in an empty cell."""
    predicted: Floats
    """[K, S, B] mean prediction."""
    greedy: Floats
    """[K, S, B] share of people for whom each option is the likeliest."""
    unsteered: Floats | None
    """[K, 1, 1] the prediction of a model that does not know who asks; None where that was not measured."""
    means: Mapping[str, Floats]
    """[Q, S, B] mean over the cell's people of each person metric; and the noise floors, where they are known."""
    correct: Floats
    """[K, S, B] share of people for whom it is and who gave it; NaN where nothing is known of persons."""
    gaps: Floats
    """[BINS, S, B] `calibration_gaps`, summed over people and questions; NaN as above."""

    def at(self, group: int) -> CellShares:
        """One group's alone (S = 1)."""
        one = slice(group, group + 1)
        names = ("n", "observed", "predicted", "greedy", "correct", "gaps")
        means = {name: values[:, one] for name, values in self.means.items()}
        return replace(self, means=means, **{name: getattr(self, name)[:, one] for name in names})

    def emd(self, predicted: Floats) -> Floats:
        """[Q, S, B]: EMD between `predicted` [K, S, B] and people's answers."""
        return cell_emd(self.columns, self.observed, predicted)

    @cached_property
    def soft_emd(self) -> Floats:
        """[Q, S, B]"""
        return self.emd(self.predicted)

    @cached_property
    def jsd(self) -> Floats:
        """[Q, S, B]"""
        return np.stack([jsd_unchecked(self.observed[k], self.predicted[k], axis=0) for _, k in self.columns])


def cell_emd(columns: Columns, observed: Floats, predicted: Floats) -> Floats:
    """[Q, …]: EMD between distributions [K, …] of all questions."""
    return np.stack([emd_unchecked(predicted[k] - observed[k], item.ordinal, axis=0) for item, k in columns])


@dataclass(frozen=True, eq=False)
class PooledAnswers:
    """Numbers of people, whatever their group, over B draws."""

    columns: Columns
    n: Floats
    """[Q, B] who answered."""
    greedy: Floats
    """[K, B] whose likeliest answer is this option."""
    observed: Floats
    """[K, B] who gave it."""
    correct: Floats
    """[K, B] of whom both hold."""
    gaps: Floats
    """[BINS, B] `calibration_gaps`, summed."""

    @classmethod
    def of(cls, cells: CellShares, weight: Floats) -> PooledAnswers:
        """Groups weighted by `weight` [S, B]."""
        n = cells.n * weight
        people = per_option(cells.columns, n)
        shares = (cells.greedy, cells.observed, cells.correct)
        greedy, observed, correct = ((people * share).sum(axis=1) for share in shares)
        return cls(cells.columns, n.sum(axis=1), greedy, observed, correct, (cells.gaps * weight).sum(axis=1))

    def mean(self, values: NDArray[Any]) -> Floats:
        """[B]: the mean of `values` [Q, B] over the questions that anybody answered."""
        there = self.n > 0
        return ratio((values * there).sum(axis=0), there.sum(axis=0).astype(np.float64))

    @cached_property
    def emd(self) -> Floats:
        """[Q, B]: EMD between people's answers and the likeliest ones."""
        gaps = ratio(self.greedy - self.observed, per_option(self.columns, self.n), 0.0)
        return np.stack([emd_unchecked(gaps[k], item.ordinal, axis=0) for item, k in self.columns])


@dataclass(frozen=True)
class Metric:
    """Where a metric can lie (intervals are cut there), and its function, one of four. Noise floors have none."""

    low: float
    high: float
    person: Callable[[Floats, NDArray[np.int64], Floats], NDArray[Any]] | None = None
    """From predictions [n, m] of one question, answers [n] and option mass [n] to [n]; averaged over a cell's people,
    over a group's cells, and over groups."""
    cell: Callable[[CellShares], Floats | None] | None = None
    """[Q, S, B], averaged over a group's cells and over groups; None where it is not measured."""
    pooled: Callable[[PooledAnswers], Floats] | None = None
    """[B] of all people together."""
    between: Callable[[CellShares, Floats, Floats], Floats] | None = None
    """[B] of the differences between groups, with their `weight` [S, B], and how diverse people are (`pair_sum` of
    their shares, less what chance gives it) [B]. One group alone has none."""
    squared: bool = False
    """Whether it grows with the square of a difference: intervals are then taken of the root."""
    interval: bool = True
    """False: a description. A share of few questions jumps, and no resampling of groups says by how much."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value that it can have."""
        return self.low, self.high


def _steerability(cells: CellShares) -> Floats | None:
    """How much closer the prediction comes to the group's people when the model knows who asks."""
    return None if cells.unsteered is None else cells.emd(cells.unsteered) - cells.soft_emd


def _kl(cells: CellShares) -> Floats:
    return np.stack([kl_unchecked(cells.observed[k], cells.predicted[k], LEAST, axis=0) for _, k in cells.columns])


def _normalised_entropy(cells: CellShares) -> Floats:
    pairs = zip(cells.means["entropy"], cells.columns, strict=True)
    return np.stack([mean / np.log(len(item.options)) for mean, (item, _) in pairs])


def _macro_f1(people: PooledAnswers) -> Floats:
    """Question by question, then averaged."""
    each = [mean_f1(people.greedy[k], people.observed[k], people.correct[k]) for _, k in people.columns]
    return people.mean(np.stack(each))


def _macro_f1_pooled(people: PooledAnswers) -> Floats:
    """All questions together, options matched by their place."""
    counts = np.zeros((3, max(len(item.options) for item, _ in people.columns), people.n.shape[1]))
    for item, k in people.columns:
        counts[:, : len(item.options)] += np.stack([people.greedy[k], people.observed[k], people.correct[k]])
    return mean_f1(counts[0], counts[1], counts[2])


def _spread(cells: CellShares, weight: Floats, diversity: Floats) -> Floats:
    """NaN where people's groups differ by no more than chance."""
    return ratio(pair_sum(cells.columns, cells.n, cells.predicted, weight), diversity)


def _alignment(cells: CellShares, weight: Floats, diversity: Floats) -> Floats:
    predicted, observed, weights = [], [], []
    for n, (item, k) in zip(cells.n, cells.columns, strict=True):
        place = positions(cells.predicted[k], item.ordinal)
        predicted.append(place)
        observed.append(positions(cells.observed[k], item.ordinal))
        weights += [weight * (n > 0)] * len(place)
    return correlation(np.concatenate(predicted), np.concatenate(observed), np.stack(weights))


METRICS: dict[str, Metric] = {
    "soft_emd": Metric(0.0, 1.0, cell=lambda cells: cells.soft_emd),
    "noise_floor": Metric(0.0, 1.0),
    "argmax_emd": Metric(0.0, 1.0, cell=lambda cells: cells.emd(cells.greedy)),
    "sampler_floor": Metric(0.0, 1.0),
    "jsd": Metric(0.0, float(np.log(2)), cell=lambda cells: cells.jsd, squared=True),
    "js_similarity": Metric(0.0, 1.0, cell=lambda cells: 1 - np.sqrt(cells.jsd)),
    "kl": Metric(0.0, np.inf, cell=_kl, squared=True),
    "accuracy": Metric(0.0, 1.0, person=lambda shares, answers, mass: shares.argmax(axis=1) == answers),
    "macro_f1": Metric(0.0, 1.0, pooled=_macro_f1),
    "macro_f1_pooled": Metric(0.0, 1.0, pooled=_macro_f1_pooled),
    "entropy": Metric(0.0, np.inf, person=lambda shares, answers, mass: entropy(shares)),
    "entropy_normalised": Metric(0.0, 1.0, cell=_normalised_entropy),
    "brier": Metric(0.0, 2.0, person=lambda shares, answers, mass: brier(shares, answers)),
    "ece": Metric(0.0, 1.0, pooled=lambda people: calibration_error(people.gaps, people.n.sum(axis=0))),
    "option_mass": Metric(0.0, 1.0, person=lambda shares, answers, mass: mass),
    "spread": Metric(0.0, np.inf, between=_spread),
    "alignment": Metric(-1.0, 1.0, between=_alignment),
    "steerability": Metric(-1.0, 1.0, cell=_steerability),
    "wvb_emd": Metric(0.0, 1.0, pooled=lambda people: people.mean(people.emd)),
    # The area under "share of questions with an EMD up to t" over t in [0, 1].
    "wvb_auc": Metric(0.0, 1.0, pooled=lambda people: 1 - people.mean(people.emd)),
    "wvb_near": Metric(0.0, 1.0, pooled=lambda people: people.mean(people.emd <= NEAR + ROUNDING), interval=False),
}


@dataclass(frozen=True, eq=False)
class Figures:
    """One metric of one method, moved by what is drawn."""

    groups: Floats
    """[B] over draws of groups."""
    units: tuple[Floats, ...] = ()
    """As `Estimates.by_units`."""
    items: tuple[Floats, ...] = ()
    """As `Estimates.by_items`."""

    def map(self, function: Callable[..., Floats], *others: Figures) -> Figures:
        """`function` of all figures, together with other methods'."""
        every = (self, *others)
        units, items = (
            tuple(function(*parts) for parts in zip(*(getattr(each, name) for each in every), strict=True))
            for name in ("units", "items")
        )
        return Figures(function(*(each.groups for each in every)), units, items)


@dataclass(frozen=True, eq=False)
class Estimates:
    """Every metric of one method."""

    value: dict[str, float]
    replicates: dict[str, Floats]
    """[B] over draws; empty without draws."""
    by_units: tuple[dict[str, Floats], ...] = ()
    """[B] over draws of the survey's units, groups staying as they are: the same units for all groups, and others for
    each. Empty where no design is known."""
    by_items: tuple[dict[str, Floats], ...] = ()
    """`cuma.metrics.item_samples`; empty where items stay as they are."""

    def figures(self, name: str) -> Figures:
        """A metric's, however it is drawn."""
        units, items = (tuple(moved[name] for moved in parts) for parts in (self.by_units, self.by_items))
        return Figures(self.replicates[name], units, items)


def measure(cells: CellShares, weight: Floats, diversity: Floats | None = None) -> dict[str, Floats]:
    """Every metric [B], groups weighted by `weight` [S, B]; NaN where one is not defined.

    diversity: as for `Metric.between`; None: there is one group alone.
    """
    values = cell_values(cells)
    people = PooledAnswers.of(cells, weight)
    metrics = dict.fromkeys(METRICS, np.full(people.n.shape[1], np.nan))
    for name, metric in METRICS.items():
        if name in values:
            metrics[name] = mean_over_groups(values[name], cells.n, weight)
        elif metric.pooled:
            metrics[name] = metric.pooled(people)
        elif metric.between and diversity is not None:
            metrics[name] = metric.between(cells, weight, diversity)
    return metrics


def cell_values(cells: CellShares) -> dict[str, Floats]:
    """The metrics that every cell has by itself, [Q, S, B]; those that are not measured here are left out."""
    values = {name: metric.cell(cells) if metric.cell else cells.means.get(name) for name, metric in METRICS.items()}
    return {name: value for name, value in values.items() if value is not None}


def group_means(values: Floats, n: Floats) -> Floats:
    """[S, B]: the mean of `values` [Q, S, B] over each group's answered questions; 0 for a group without any."""
    there = (n > 0).astype(np.float64)
    return np.asarray((values * there).sum(axis=0) / np.maximum(there.sum(axis=0), 1.0))


def mean_over_groups(values: Floats, n: Floats, weight: Floats) -> Floats:
    """[B]: `group_means`, and of these the mean over groups by `weight` [S, B]."""
    kept = weight * (n > 0).any(axis=0)
    return ratio((group_means(values, n) * kept).sum(axis=0), kept.sum(axis=0))


def pair_sum(columns: Columns, n: Floats, shares: Floats, weight: Floats) -> Floats:
    """[B]: Σ over questions and pairs of groups of JSD between `shares` [K, S, B], pairs weighted w_i w_j.

    n [Q, S, B]: a group without answers to a question is left out of it. weight: [S, B].
    """
    parts = [pairwise_jsd_sum(shares[k], weight * (n[q] > 0)) for q, (_, k) in enumerate(columns)]
    return np.asarray(sum(parts))
