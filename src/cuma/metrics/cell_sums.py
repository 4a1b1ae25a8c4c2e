"""Cells (group × question) of a sample, and of draws of its people.

What a metric needs of a cell is a mean over the cell's people of some number per person, so a bootstrap draw is one
matrix product of people's weights with these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cuma.metrics.items import per_option
from cuma.metrics.measure import METRICS, CellShares, pair_sum
from cuma.metrics.noise import chance_diversity, chance_shares, noise_floor, sampler_floor
from cuma.metrics.pointwise import BINS, Floats, calibration_gaps, ratio
from cuma.metrics.sample import Predictions, Sample

FLOORS = {"noise_floor": noise_floor, "sampler_floor": sampler_floor}


@dataclass(frozen=True, eq=False)
class Cells:
    """What people answered in S groups of B draws."""

    people: Sample
    n: Floats
    """[Q, S, B] people who answered (their weights)."""
    observed: Floats
    """[K, S, B] their answers' distribution; zeros in an empty cell."""

    @classmethod
    def of(cls, people: Sample, sums: Floats | None = None) -> Cells:
        """From weighted sums [K+Q, S, B] over people of `Sample.features`; None: over everybody, once."""
        sums = group_sums(people, people.features()) if sums is None else sums
        counts, n = np.split(sums, [len(sums) - len(people.items)])
        return cls(people, n, ratio(counts, per_option(people.columns, n), 0.0))


@dataclass(frozen=True, eq=False)
class PersonFigures:
    """What a method predicts, as numbers of each person."""

    base: Floats
    """[K, G]: the prediction for each group's first person who answered (zeros in empty cells)."""
    values: Floats
    """[P, 3K+MQ+BINS], zeros where unanswered, times the person's weight: prediction minus base, one-hot argmax, the
    same where it is the person's answer; each of the M person metrics; the calibration gaps.

    Where a method predicts the same for a whole group, the first block is exactly zero, and so are differences between
    groups with equal predictions: no rounding is mistaken for diversity.
    """
    unsteered: Floats | None
    """[K]"""

    @classmethod
    def of(cls, people: Sample, predictions: Predictions) -> PersonFigures:
        """From one part of `read_parts`."""
        group_of = people.group_of
        base, differences, greedy, correct = [], [], [], []
        metrics = {name: metric.person for name, metric in METRICS.items() if metric.person}
        figures = {name: np.zeros(people.answers.shape) for name in metrics}
        gaps = np.zeros((len(group_of), BINS))
        for q, shares in enumerate(predictions.shares):
            answers = people.answers[:, q]
            there = answers >= 0
            rows = np.flatnonzero(there)
            first = np.zeros((len(people.groups), shares.shape[1]))
            with_answers, at = np.unique(group_of[rows], return_index=True)
            first[with_answers] = shares[rows[at]]
            guess = shares.argmax(axis=1)
            hit = (guess == answers) & there
            point = np.eye(shares.shape[1])[guess]
            base.append(first.T)
            differences.append((shares - first[group_of]) * there[:, None])
            greedy.append(point * there[:, None])
            correct.append(point * hit[:, None])
            gaps[rows] += calibration_gaps(shares[rows].max(axis=1), hit[rows])
            for name, function in metrics.items():
                if len(rows):
                    figures[name][rows, q] = function(shares[rows], answers[rows], predictions.mass[rows, q])
        columns = [*differences, *greedy, *correct, *figures.values(), gaps]
        values = np.concatenate(columns, axis=1) * people.weight[:, None]
        return cls(np.concatenate(base), values, predictions.unsteered)


def group_sums(people: Sample, values: Floats) -> Floats:
    """[F, G, 1]: sums over each group's people of `values` [P, F]."""
    return np.add.reduceat(values, people.starts[:-1], axis=0).T[:, :, None]


def cell_shares(
    cells: Cells, figures: PersonFigures, floors: Mapping[str, Floats], sums: Floats | None = None
) -> CellShares:
    """From weighted sums [F, S, B] over people of `figures.values` (None: over everybody, once) and `cell_floors`."""
    sums = group_sums(cells.people, figures.values) if sums is None else sums
    questions, options = len(cells.n), len(cells.observed)
    names = [name for name, metric in METRICS.items() if metric.person]
    of_options, of_questions, gaps = np.split(sums, [3 * options, 3 * options + len(names) * questions])
    n = per_option(cells.people.columns, cells.n)
    difference, greedy, correct = ratio(of_options.reshape(3, *n.shape), n, 0.0)
    means = ratio(of_questions.reshape(len(names), *cells.n.shape), cells.n, 0.0)
    return CellShares(
        columns=cells.people.columns,
        n=cells.n,
        observed=cells.observed,
        predicted=figures.base[:, :, None] + difference,
        greedy=greedy,
        unsteered=None if figures.unsteered is None else figures.unsteered[:, None, None],
        means={**dict(zip(names, means, strict=True)), **floors},
        correct=correct,
        gaps=gaps,
    )


# --- the people's side, the same for every method --------------------------------------------------------------------


def cell_floors(people: Sample, seed: int) -> dict[str, Floats]:
    """Noise floor and sampler floor of every cell, [Q, G, 1] each; 0 in empty cells."""
    pairs = list(enumerate(zip(people.items, people.effective_counts, strict=True)))
    return {
        name: np.nan_to_num([floor(counts, item.ordinal, seed=(seed, q)) for q, (item, counts) in pairs])[:, :, None]
        for name, floor in FLOORS.items()
    }


def diversity(cells: Cells, times: Floats, seed: int) -> tuple[Floats, Floats, Floats]:
    """The spread's denominator, [1] as observed, and [B] where groups are drawn `times` [G, B]: Σ JSD between people's
    shares, less its mean under permuted labels. Last that mean itself, [Q]."""
    people = cells.people
    tables = people.effective_counts
    chance = [chance_diversity(counts, seed=(seed, q)) for q, counts in enumerate(tables)]
    shares = chance_shares(np.stack([counts.sum(axis=1) for counts in tables]).astype(np.float64), np.array(chance))
    weights = (np.ones((len(people.groups), 1)), times)
    once, drawn = (pair_sum(people.columns, cells.n, cells.observed, weight) for weight in weights)
    return once - sum(chance), drawn - _chance_between(shares, times * (cells.n > 0)), np.array(chance)


def _chance_between(shares: Floats, times: Floats) -> Floats:
    """[B]: what chance gives the sum over pairs of the groups drawn; copies of one group share it, so it cancels.

    shares [Q, G]: `chance_shares`. times [Q, G, B].
    """
    total = times.sum(axis=1, keepdims=True)
    return np.asarray((times * shares[:, :, None] * (total - times)).sum(axis=(0, 1)))
