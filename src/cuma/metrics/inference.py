"""95 % intervals from resampled groups, or from resampled people of one group.

Groups are what a survey has few of, so a metric of many groups is measured again on groups drawn with replacement, each
with all its people (the cluster bootstrap; Davison & Hinkley 1997, § 3.8). A group's people bring their sampling noise
along, so it counts once, and a person's answers to all questions stay together. All methods are measured on the same
draws, so that differences between methods are paired.

How far a draw lies from the mean of the draws is divided by how much the groups in it differ, compared with the
sample's: the symmetric studentised bootstrap, whose coverage errs, for a mean, by the order 1/G² only (Hall 1988),
whether groups lie around their mean evenly or a few far off. A group's influence on a metric, which that needs, is read
off the draws themselves (as in the bootstrap's infinitesimal jackknife; Efron 2014). Intervals are symmetric on the
scale they are taken on. With two or three groups many draws hold one group alone: the interval is then its cap
(`WIDEST`).

What is covered is the metric's expectation over groups and people at these cell sizes: an EMD keeps its noise floor,
the spread does not. How often that holds: `studies/coverage.py`, docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Sample

LEVEL = 0.95
MAX_UNDEFINED = 0.05
"""With a larger share of draws in which a metric is undefined there is no interval."""
WIDEST = 2.0
"""An interval is at most so many times as wide as Student's: what differs in few groups only is missing from many
draws, which then say nothing about how far the truth may be."""
FEWEST_APART = 3
"""Under so many groups apart from all others, which are alike, there is no interval."""
ALIKE = 1e-6
"""Of the group farthest off: what counts as no difference."""
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class GroupDraws:
    """Draws of groups with replacement."""

    times: Floats
    """[G, B]: how often each of G groups was drawn in each of B draws."""

    @classmethod
    def of(cls, groups: int, draws: int, seed: int) -> GroupDraws:
        """The same seed draws the same groups."""
        drawn = np.random.default_rng(seed).integers(groups, size=(groups, draws))
        return cls(np.stack([(drawn == group).sum(axis=0) for group in range(groups)]).astype(np.float64))

    @cached_property
    def _solve(self) -> Floats:
        """[G, B]: least squares of a metric's draws on how often each group was drawn."""
        often = self.times - self.times.mean(axis=1, keepdims=True)
        return np.asarray(np.linalg.pinv(often.T, rcond=1e-6))

    def influence(self, metric: Floats) -> Floats:
        """[G]: what each group adds to `metric` [B], less the mean of that."""
        influence = self._solve @ (metric - metric.mean())
        return np.asarray(influence - influence.mean())

    def variance(self, influence: Floats) -> Floats:
        """[B]: how much the groups' influences vary in each draw, over how much they do in the sample.

        0 where no two groups of a draw differ.
        """
        mean, square = (influence**power @ self.times / len(influence) for power in (1, 2))
        return np.asarray(np.maximum(square - mean**2, 0.0) / influence.var())


def resample_people(people: Sample, blocks: Sequence[Floats], draws: int, seed: int) -> tuple[Floats, ...]:
    """Draws people of each group with replacement: per block [F, G, B], weighted sums over the people drawn.

    blocks: features [P, F]. Each is multiplied by itself, so that a method's figures are the same to the last bit
    whichever other methods are scored beside it. People of a group who gave the same answers are drawn as one kind (a
    multinomial draw over kinds is the same as drawing the people), with the mean of what a method said of them. With
    survey weights people with different weights are different kinds.
    """
    starts, sizes, means = _kinds(people, blocks)
    groups = len(people.groups)
    rng = np.random.default_rng(seed)
    sums = tuple(np.zeros((block.shape[1], groups, draws)) for block in blocks)
    for group in range(groups):
        rows = slice(int(starts[group]), int(starts[group + 1]))
        n = int(sizes[rows].sum())
        weights = rng.multinomial(n, sizes[rows] / n, size=draws).astype(np.float64)
        for total, mean in zip(sums, means, strict=True):
            total[:, group] = (weights @ mean[rows]).T
    return sums


def _kinds(people: Sample, blocks: Sequence[Floats]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Floats]]:
    """Each group's distinct patterns of answers: where a group's start [G+1], people of each [N], mean features."""
    group_of = np.repeat(np.arange(len(people.groups)), np.diff(people.starts))
    keys = np.column_stack([group_of, people.answers])
    if people.weighted:
        keys = np.column_stack([keys, np.unique(people.weight, return_inverse=True)[1]])
    kinds, kind_of, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    starts = np.searchsorted(kinds[:, 0], np.arange(len(people.groups) + 1))
    order = np.argsort(kind_of.ravel(), kind="stable")
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means = [np.add.reduceat(block[order], first, axis=0) / sizes[:, None] for block in blocks]
    return starts, sizes, means


def deviations(value: float, metric: Floats, drawn: GroupDraws) -> Floats | None:
    """How the estimate `value` scatters: numbers to be added to it, each with both signs.

    metric [B]: the same metric over the draws. None where there is nothing to resample: under 2 groups, or a metric
    undefined here or in over 5 % of the draws; or too little: all but one or two groups say the very same.
    """
    groups, defined = len(drawn.times), np.isfinite(metric)
    if groups < 2 or not np.isfinite(value) or defined.mean() < 1 - MAX_UNDEFINED:
        return None
    known = np.where(defined, metric, metric[defined].mean())
    away = np.abs(known - known.mean())
    if away.max() <= ROUNDING * max(1.0, abs(value)):
        return np.zeros(2 * len(away))
    influence = drawn.influence(known)
    if _one_or_two_apart(influence):
        return None
    variance = drawn.variance(influence)
    farthest = WIDEST * _student(groups) * known.std()
    some = variance > ROUNDING
    away = np.where(some, away / np.sqrt(np.where(some, variance, 1.0)), farthest)
    away = np.minimum(away, farthest)[defined]
    return np.concatenate([-away, away])


def _one_or_two_apart(influence: Floats) -> bool:
    """Whether most groups are alike and under `FEWEST_APART` are not, such as two models' accuracies where hardly any
    likeliest answer differs: drawing groups again then cannot show what other groups would give."""
    away = np.abs(influence - np.median(influence))
    apart = int((away > ALIKE * away.max()).sum())
    return apart < min(FEWEST_APART, len(influence) / 2)


def student_deviations(value: float, drawn: Floats, units: int) -> Floats | None:
    """`deviations` where people or questions are drawn and not groups: as the draws lie around their mean, widened by
    Student's t. (Noise of resampling that a distance gathers on top would put them all above the estimate.)

    drawn [B]: the metric over draws. units: how many people, or questions, there are to draw (the fewest).
    """
    defined = np.isfinite(drawn)
    if units < 2 or not np.isfinite(value) or defined.mean() < 1 - MAX_UNDEFINED:
        return None
    return np.asarray((drawn[defined] - drawn[defined].mean()) * _student(units) / norm.ppf((1 + LEVEL) / 2))


def interval(value: float, around: Floats | None) -> tuple[float, float] | None:
    """Low and high end of the 95 % interval around `value`; None where there are no deviations."""
    if around is None:
        return None
    low = np.quantile(around, (1 - LEVEL) / 2, method="lower")  # draws themselves: `p_value` counts the same ones
    high = np.quantile(around, (1 + LEVEL) / 2, method="higher")
    return float(value + low), float(value + high)


def p_value(value: float, around: Floats | None) -> float | None:
    """Two-sided p of "the truth is 0": twice the share of draws beyond 0, so that p < 0.05 where the interval leaves 0
    out; (k+1)/(B+1) on either side."""
    if around is None:
        return None
    drawn = value + around
    below, above = ((1 + beyond.sum()) / (1 + len(drawn)) for beyond in (drawn <= ROUNDING, drawn >= -ROUNDING))
    return float(min(1.0, 2 * min(below, above)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for several comparisons (Holm 1979): rejecting those up to α errs at all with probability α."""
    order = np.argsort(p_values, kind="stable")
    steps = (len(p_values) - np.arange(len(p_values))) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _student(units: int) -> float:
    """Half the width of Student's interval, in standard deviations of a bootstrap of so few units."""
    return float(np.sqrt(units / (units - 1)) * t.ppf((1 + LEVEL) / 2, units - 1))
