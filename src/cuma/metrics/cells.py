"""Cells (group × question) over bootstrap draws, and every metric on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuma.metrics.collapse import correlation, positions
from cuma.metrics.pairs import pairwise_jsd_sum
from cuma.metrics.pointwise import Floats, emd_unchecked
from cuma.metrics.sample import People, Scale

METRICS = ("soft_emd", "noise_floor", "argmax_emd", "accuracy", "entropy", "option_mass", "spread", "alignment")


@dataclass(frozen=True, eq=False)
class Cells:
    """What people answered in S groups (or bootstrap slots) of B draws; K options of all questions side by side."""

    people: People
    n: Floats
    """[Q, S, B] people who answered."""
    observed: Floats
    """[K, S, B] their answers' distribution; zeros in an empty cell."""

    @classmethod
    def of(cls, people: People, sums: Floats) -> Cells:
        """From weighted sums [K+Q, S, B] over people of `People.features`."""
        options = len(people.column_question)
        n = sums[options:]
        return cls(people, n, sums[:options] / np.maximum(n, 1.0)[people.column_question])

    def scales(self) -> list[tuple[Scale, slice]]:
        """Each question with its columns among the K options."""
        return [(scale, self.people.columns(number)) for number, scale in enumerate(self.people.scales)]


@dataclass(frozen=True, eq=False)
class Answers:
    """What a method said in the same cells."""

    predicted: Floats
    """[K, S, B] mean predicted distribution."""
    greedy: Floats
    """[K, S, B] the point mass at the prediction's argmax."""
    hits: Floats
    """[Q, S, B] share of people whose answer is the argmax."""
    entropy: Floats
    """[Q, S, B] mean entropy (nats) of the predictions."""
    mass: Floats
    """[Q, S, B] mean probability on the answer letters."""

    @classmethod
    def of(cls, cells: Cells, sums: Floats, base: Floats) -> Answers:
        """From weighted sums [2K+3Q, S, B] over people of `Said.features`, and `Said.base` [K, S, B or 1]."""
        options, questions = len(cells.observed), len(cells.n)
        n = np.maximum(cells.n, 1.0)
        per_option = n[cells.people.column_question]
        rest = sums[2 * options :].reshape(3, questions, *n.shape[1:]) / n
        predicted = base + sums[:options] / per_option
        return cls(predicted, sums[options : 2 * options] / per_option, rest[0], rest[1], rest[2])


def cell_emd(cells: Cells, predicted: Floats) -> Floats:
    """Soft EMD [Q, S, B] of each cell's `predicted` [K, S, B] to people's answers."""
    pairs = cells.scales()
    return np.stack([emd_unchecked(predicted[k] - cells.observed[k], scale.ordinal, axis=0) for scale, k in pairs])


def group_mean(values: Floats, n: Floats, weight: Floats) -> Floats:
    """[B]: the mean of `values` [Q, S, B] over each group's answered questions, then over groups by `weight` [S, B]."""
    there = (n > 0).astype(np.float64)
    questions = there.sum(axis=0)
    per_group = (values * there).sum(axis=0) / np.maximum(questions, 1.0)
    kept = weight * (questions > 0)
    return np.asarray((per_group * kept).sum(axis=0) / kept.sum(axis=0))


def pair_sum(cells: Cells, shares: Floats, weight: Floats) -> Floats:
    """[B]: Σ over questions and pairs of non-empty groups of JSD between `shares` [K, S, B], pairs weighted w_i w_j."""
    parts = [
        pairwise_jsd_sum(shares[k], weight * (cells.n[number] > 0)) for number, (_, k) in enumerate(cells.scales())
    ]
    return np.asarray(sum(parts))


def _alignment(cells: Cells, answers: Answers, weight: Floats) -> Floats:
    predicted, observed, weights = [], [], []
    for number, (scale, k) in enumerate(cells.scales()):
        model = positions(answers.predicted[k], scale.ordinal)
        predicted.append(model)
        observed.append(positions(cells.observed[k], scale.ordinal))
        weights += [weight * (cells.n[number] > 0)] * len(model)
    return correlation(np.concatenate(predicted), np.concatenate(observed), np.stack(weights))


def measure(
    cells: Cells, answers: Answers, weight: Floats, floor: Floats, said: Floats, diversity: Floats
) -> dict[str, Floats]:
    """Every metric [B], groups weighted by `weight` [S, B].

    floor: [Q, S, B or 1], each cell's noise floor. said, diversity: [B], the spread's numerator (`pair_sum` of the
    predictions) and denominator; where that is not positive, people's groups do not differ and the spread is NaN.
    """
    differ = diversity > 0
    return {
        "soft_emd": group_mean(cell_emd(cells, answers.predicted), cells.n, weight),
        "noise_floor": group_mean(floor, cells.n, weight),
        "argmax_emd": group_mean(cell_emd(cells, answers.greedy), cells.n, weight),
        "accuracy": group_mean(answers.hits, cells.n, weight),
        "entropy": group_mean(answers.entropy, cells.n, weight),
        "option_mass": group_mean(answers.mass, cells.n, weight),
        "spread": np.where(differ, said / np.where(differ, diversity, 1.0), np.nan),
        "alignment": _alignment(cells, answers, weight),
    }
