"""95 % intervals: a cluster bootstrap that resamples groups, then people within each group, and its two repairs.

A person's answers to all questions stay together, and all methods are measured on the same draws, so that differences
between methods are paired.

Taken as it stands the scheme has two faults, and `interval` repairs both:
- *Bias.* Resampled people carry sampling noise twice, which inflates every EMD and every diversity; percentiles of the
  draws would lie above the estimate, often without containing it. The draws are re-centred on the estimate.
- *Variance.* Observed groups already differ by their people's sampling noise; drawing people again adds that noise a
  second time. The draws are rescaled to the variance of the draws that keep each group's people as they are, which
  is unbiased up to the factor G/(G-1), and widened by Student's t for few groups (Davison & Hinkley 1997, § 3.8, on
  bootstrapping hierarchical data).
What is covered is the metric's expectation over groups and people at these cell sizes: an EMD keeps its noise floor,
the spread does not. In simulations (15 to 50 groups of 60 to 120 people, 150 to 200 worlds) 89 to 98 % of a method's
intervals held it; raw percentiles held 73 to 93 % for the EMD. With 15 groups, differences of accuracy or argmax EMD
hang on the one or two groups where the argmax differs, and were held by 82 % only: read those with care. All metrics,
500 worlds: `studies/coverage.py`, docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import People

LEVEL = 0.95
MAX_UNDEFINED = 0.05
"""With a larger share of draws in which a metric is undefined there is no interval."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Groups and people drawn: S = G slots in B draws."""

    slots: NDArray[np.int64]
    """[S, B]: which group stands in each slot."""
    times: Floats
    """[G, B]: how often each group was drawn."""
    sums: tuple[Floats, ...]
    """Per block of features, [F, S, B]: weighted sums over the people of each slot."""


def resample(people: People, blocks: Sequence[Floats], draws: int, seed: int, *, keep_groups: bool = False) -> Draws:
    """Draws groups with replacement and, anew for every slot, people of its group with replacement.

    keep_groups: every group stands in its own slot in every draw, and only people are drawn.

    blocks: features [P, F]. Each is multiplied by itself, so that a method's figures are the same to the last bit
    whichever other methods are scored beside it. People of a group who gave the same answers are drawn as one kind (a
    multinomial draw over kinds is the same as drawing the people), with the mean of what a method said of them. With
    survey weights people with different weights are different kinds.
    """
    starts, sizes, means = _kinds(people, blocks)
    groups = len(people.groups)
    rng = np.random.default_rng(seed)
    slots = rng.integers(groups, size=(groups, draws))
    if keep_groups:
        slots = np.repeat(np.arange(groups)[:, None], draws, axis=1)
    flat = slots.ravel()
    sums = tuple(np.zeros((block.shape[1], flat.size)) for block in blocks)
    for group in range(groups):
        at = np.flatnonzero(flat == group)
        rows = slice(int(starts[group]), int(starts[group + 1]))
        n = int(sizes[rows].sum())
        weights = rng.multinomial(n, sizes[rows] / n, size=at.size).astype(np.float64)
        for total, mean in zip(sums, means, strict=True):
            total[:, at] = (weights @ mean[rows]).T
    times = np.stack([(slots == group).sum(axis=0) for group in range(groups)]).astype(np.float64)
    return Draws(slots, times, tuple(total.reshape(-1, groups, draws) for total in sums))


def _kinds(people: People, blocks: Sequence[Floats]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Floats]]:
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


def deviations(value: float, kept: Floats, drawn: Floats, groups: int) -> Floats | None:
    """The draws, centred on 0 and scaled to the right variance: how the estimate `value` scatters.

    kept [B]: the metric with groups drawn and their people kept; drawn [B]: with people drawn too, on the same groups.
    None where there is nothing to resample: under 2 groups, or a metric undefined here or in over 5 % of the draws.
    """
    defined = np.isfinite(kept) & np.isfinite(drawn)
    if groups < 2 or not np.isfinite(value) or defined.mean() < 1 - MAX_UNDEFINED:
        return None
    around = drawn[defined] - drawn[defined].mean()
    wanted, got = kept[defined].std(), around.std()
    return np.asarray(around * (_few(groups) * wanted / got if got > 0 else 0.0))


def people_deviations(value: float, drawn: Floats, people: int) -> Floats | None:
    """`deviations` of a metric of one group, or of groups that are the only ones of interest.

    drawn [B]: the metric with people drawn. people: how many there are (in the smallest group).
    """
    defined = np.isfinite(drawn)
    if people < 2 or not np.isfinite(value) or defined.mean() < 1 - MAX_UNDEFINED:
        return None
    return np.asarray((drawn[defined] - drawn[defined].mean()) * _few(people))


def interval(value: float, around: Floats | None) -> tuple[float, float] | None:
    """Low and high end of the 95 % interval around `value`; None where there are no deviations."""
    if around is None:
        return None
    low, high = value + np.quantile(around, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def p_value(value: float, around: Floats | None) -> float | None:
    """Two-sided p of "the truth is 0": twice the share of draws beyond 0, so that p < 0.05 where the interval leaves 0
    out; (k+1)/(B+1) on either side."""
    if around is None:
        return None
    drawn = value + around
    below, above = (1 + (drawn <= 0).sum()) / (1 + len(drawn)), (1 + (drawn >= 0).sum()) / (1 + len(drawn))
    return float(min(1.0, 2 * min(below, above)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for several comparisons (Holm 1979): rejecting those up to α errs at all with probability α."""
    order = np.argsort(p_values, kind="stable")
    steps = (len(p_values) - np.arange(len(p_values))) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _few(units: int) -> float:
    """By how much a bootstrap of so few units must be widened: the plug-in variance, and Student's t for the normal."""
    return float(np.sqrt(units / (units - 1)) * t.ppf((1 + LEVEL) / 2, units - 1) / norm.ppf((1 + LEVEL) / 2))
