"""95 % intervals from resampled groups, or from resampled people of one group.

Groups are what a survey has few of, so a metric of many groups is measured again on groups drawn with replacement, each
with all its people (the cluster bootstrap; Davison & Hinkley 1997, § 3.8): its replicates. A group's people bring their
sampling noise along, so it counts once, and a person's answers to all questions stay together. All methods are measured
on the same draws, so that differences between methods are paired.

How far a draw lies from the mean of the draws is divided by how much the groups in it differ, compared with the
sample's: the symmetric studentised bootstrap, whose coverage errs, for a mean, by the order 1/G² only (Hall 1988),
whether groups lie around their mean evenly or a few far off. A group's influence on a metric, which that needs, is read
off the draws themselves (as in the bootstrap's infinitesimal jackknife; Efron 2014). Intervals are symmetric on the
scale they are taken on. With two or three groups many draws hold one group alone: the interval is then its cap
(`WIDEST`).

What is covered is the metric's expectation over groups and people at these cell sizes: an EMD keeps its noise floor,
the spread does not. How often that holds: `studies/coverage.py`, docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import norm, t

from cuma.metrics.design import Design
from cuma.metrics.measure import METRICS, Estimates, Figures
from cuma.metrics.pointwise import Floats, low_option_mass

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
GRID = 1000
NORMAL = norm.ppf((np.arange(GRID) + 0.5) / GRID)
"""Normal deviations where only their size is known."""


@dataclass(frozen=True, eq=False)
class GroupDraws:
    """Draws of groups with replacement."""

    times: Floats
    """[G, B]: how often each of G groups is in each of B draws."""

    @classmethod
    def of(cls, groups: int, draws: int, seed: int) -> GroupDraws:
        """The same seed draws the same groups."""
        number = np.random.default_rng(seed).integers(groups, size=(groups, draws))
        return cls(np.stack([(number == group).sum(axis=0) for group in range(groups)]).astype(np.float64))

    @cached_property
    def _solve(self) -> Floats:
        """[G, B]: least squares of a metric's replicates on how often each group was drawn."""
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


def group_deviations(value: float, replicates: Floats, draws: GroupDraws) -> Floats | None:
    """How the estimate `value` scatters: numbers to be added to it, each with both signs.

    replicates [B]: the same metric over the draws. None where there is nothing to resample: under 2 groups, or a metric
    undefined here or in over 5 % of the draws; or too little: all but one or two groups have the very same.
    """
    groups, defined = len(draws.times), np.isfinite(replicates)
    if groups < 2 or not np.isfinite(value) or defined.mean() < 1 - MAX_UNDEFINED:
        return None
    known = np.where(defined, replicates, replicates[defined].mean())
    away = np.abs(known - known.mean())
    if away.max() <= ROUNDING * max(1.0, abs(value)):
        return np.zeros(2 * len(away))
    influence = draws.influence(known)
    if _one_or_two_apart(influence):
        return None
    variance = draws.variance(influence)
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


def student_deviations(value: float, replicates: Floats, units: int) -> Floats | None:
    """`group_deviations` where people or questions are drawn and not groups: as the replicates lie around their mean,
    widened by Student's t. (Noise of resampling that a distance gathers on top would put them all above the estimate.)

    units: how many people, or questions, there are to draw (the fewest).
    """
    defined = np.isfinite(replicates)
    if units < 2 or not np.isfinite(value) or defined.mean() < 1 - MAX_UNDEFINED:
        return None
    known = replicates[defined]
    return np.asarray((known - known.mean()) * _student(units) / norm.ppf((1 + LEVEL) / 2))


def design_deviations(value: float, replicates: Floats, units: int, design: Design | None) -> Floats | None:
    """`student_deviations` where the survey's units are drawn, `units` of them; the survey's own replicates give a
    variance, and the deviations are normal ones of that size."""
    if design is None or design.replicates is None:
        return student_deviations(value, replicates, units)
    if units < 2 or not np.isfinite(value) or not np.isfinite(replicates).all():
        return None
    scatter = np.sqrt(design.replicates.variance(replicates, value))
    return np.asarray(scatter * NORMAL * _student(units) / norm.ppf((1 + LEVEL) / 2))


@dataclass(frozen=True, eq=False)
class DesignExcess:
    """What drawing units adds to the variance of a figure of many groups.

    Groups drawn with replacement carry the scatter of their own units along. What they do not show is that a unit has
    people of many groups, who move together: the covariance between groups. It is the variance of the figure when units
    are drawn once for all groups, less that when they are drawn anew for each; of a mean over G groups G/(G-1) times.
    """

    groups: int
    design: Design

    def variance(self, value: float, figures: Figures) -> float:
        """Times the square of Student's t over the normal distribution's."""
        together, alone = (self._variance(value, moved) for moved in figures.units)
        excess = _unbiased(max(0.0, together - alone), self.groups)
        return excess * _wider(self.design.freedom) ** 2

    def _variance(self, value: float, replicates: Floats) -> float:
        if self.design.replicates is not None:
            return float(self.design.replicates.variance(replicates, value))
        return float(np.nanvar(replicates)) if np.isfinite(replicates).any() else 0.0


@dataclass(frozen=True, eq=False)
class ItemExcess:
    """What drawing items adds to the variance of a figure of many groups (`cuma.metrics.item_samples`). With one item
    nothing shows how others would differ, and there is no interval."""

    groups: int
    items: int

    def variance(self, value: float, figures: Figures) -> float:
        """NaN where it cannot be told."""
        if min(self.groups, self.items) < 2:
            return float("nan")
        drawn = _drawn(figures, self.groups)
        by_item, by_cell = (_unbiased(((moved - value) ** 2).sum(), self.groups) for moved in figures.items)
        return two_way_variance(by_item, drawn, by_cell) - drawn


def two_way_variance(by_item: float, by_group: float, by_cell: float) -> float:
    """Of a figure whose items and groups are both drawn, from its variances when either is, or cells are, clusters.

    What items and groups both count, the cells' own part, is taken off once (Cameron, Gelbach & Miller 2011). Never
    less than either alone, which that difference of estimates may be where there are few. Its degrees of freedom are
    `two_way_freedom`.
    """
    return max(by_item + by_group - by_cell, by_item, by_group)


def two_way_freedom(items: int, groups: int) -> int:
    """The fewer of the two, less 1."""
    return min(items, groups) - 1


Excess = DesignExcess | ItemExcess


def widened(value: float, deviations: Floats | None, figures: Figures, excesses: Sequence[Excess]) -> Floats | None:
    """`group_deviations` of a figure, widened by what else is drawn, and by Student's t where items are fewer than
    groups. Groups that do not differ leave what items add."""
    if deviations is None or not excesses:
        return deviations
    groups = excesses[0].groups
    added = sum(excess.variance(value, figures) for excess in excesses)
    if not np.isfinite(added):
        return None
    items = next((excess.items for excess in excesses if isinstance(excess, ItemExcess)), None)
    freedom = groups - 1 if items is None else two_way_freedom(items, groups)
    if not deviations.any():
        return deviations if items is None else np.asarray(np.sqrt(added) * NORMAL * _wider(freedom))
    wider = _wider(freedom) / _wider(groups - 1)
    return np.asarray(deviations * np.sqrt(1 + added / _drawn(figures, groups)) * wider)


def _drawn(figures: Figures, groups: int) -> float:
    """The variance of a figure when groups are drawn."""
    return _unbiased(float(np.nanvar(figures.groups)), groups)


def _unbiased(variance: float, groups: int) -> float:
    return float(variance * groups / (groups - 1))


def interval(value: float, deviations: Floats | None) -> tuple[float, float] | None:
    """Low and high end of the 95 % interval around `value`; None where there are no deviations."""
    if deviations is None:
        return None
    low = np.quantile(deviations, (1 - LEVEL) / 2, method="lower")  # no interpolation: `p_value` counts the same ones
    high = np.quantile(deviations, (1 + LEVEL) / 2, method="higher")
    return float(value + low), float(value + high)


def p_value(value: float, deviations: Floats | None) -> float | None:
    """Two-sided p of "the truth is 0": twice the share of draws beyond 0, so that p < 0.05 where the interval leaves 0
    out; (k+1)/(B+1) on either side."""
    if deviations is None:
        return None
    around = value + deviations
    below, above = ((1 + beyond.sum()) / (1 + len(around)) for beyond in (around <= ROUNDING, around >= -ROUNDING))
    return float(min(1.0, 2 * min(below, above)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for several comparisons (Holm 1979): rejecting those up to α errs at all with probability α."""
    order = np.argsort(p_values, kind="stable")
    steps = (len(p_values) - np.arange(len(p_values))) * np.asarray(p_values, dtype=np.float64)[order]
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _wider(freedom: int) -> float:
    """Student's interval over the normal one."""
    return float(t.ppf((1 + LEVEL) / 2, freedom) / norm.ppf((1 + LEVEL) / 2))


def _student(units: int) -> float:
    """Half the width of Student's interval, in standard deviations of a bootstrap of so few units."""
    return float(np.sqrt(units / (units - 1)) * t.ppf((1 + LEVEL) / 2, units - 1))


# --- the form of scores.json -----------------------------------------------------------------------------------------

Scatter = Callable[[float, Floats], Floats | None]
"""From an estimate and its replicates to its deviations (`group_deviations`, `student_deviations`)."""
ANYWHERE = (-np.inf, np.inf)


def known(value: float) -> float | None:
    """A figure's JSON form: None for what is undefined."""
    return float(value) if np.isfinite(value) else None


def entry(
    value: float, ends: tuple[float, float] | None, bounds: tuple[float, float] = ANYWHERE
) -> dict[str, float | None]:
    """An estimate's JSON form, {"value", "low", "high"}; the interval is cut at `bounds`."""
    low, high = (None, None) if ends is None else (max(ends[0], bounds[0]), min(ends[1], bounds[1]))
    return {"value": known(value), "low": low, "high": high}


def estimate(
    value: float, deviations: Floats | None, bounds: tuple[float, float] = ANYWHERE
) -> dict[str, float | None]:
    """`entry` with the 95 % interval that the deviations give."""
    return entry(value, interval(value, deviations), bounds)


def metric_entries(
    estimates: Estimates, scatter: Scatter, excesses: Sequence[Excess] = ()
) -> dict[str, dict[str, Any]]:
    """Each metric's `entry`; beside the option mass, whether it is too low for the scores to be trusted."""
    scores: dict[str, dict[str, Any]] = {}
    for name, value in estimates.value.items():
        ends = _ends(name, estimates, scatter, excesses) if estimates.replicates else None
        scores[name] = entry(value, ends, METRICS[name].bounds)
    scores["option_mass"]["low_mass"] = low_option_mass(estimates.value["option_mass"])
    return scores


def _ends(name: str, estimates: Estimates, scatter: Scatter, excesses: Sequence[Excess]) -> tuple[float, float] | None:
    value, figures = estimates.value[name], estimates.figures(name)
    if not METRICS[name].interval:
        return None
    if not METRICS[name].squared:
        return interval(value, widened(value, scatter(value, figures.groups), figures, excesses))
    root = float(np.sqrt(value))
    # Draws of units may have less than chance gives, which is no distance: 0.
    roots = figures.map(lambda moved: np.sqrt(moved.clip(min=0)))
    ends = interval(root, widened(root, scatter(root, roots.groups), roots, excesses))
    return None if ends is None else (max(ends[0], 0.0) ** 2, ends[1] ** 2)


def differences(
    one: Estimates, other: Estimates, scatter: Scatter, excesses: Sequence[Excess] = ()
) -> dict[str, dict[str, Any]]:
    """The `entry` of one - other for each metric that both have, with "p", and "p_holm" that is not adjusted yet."""
    entries = {}
    for name, metric in METRICS.items():
        if name in one.value and name in other.value:
            value = one.value[name] - other.value[name]
            deviations = None
            if one.replicates and metric.interval:
                figures = one.figures(name).map(np.subtract, other.figures(name))
                deviations = widened(value, scatter(value, figures.groups), figures, excesses)
            p = p_value(value, deviations)
            entries[name] = {**estimate(value, deviations), "p": p, "p_holm": p}
    return entries


def adjust(methods: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Sets each metric's p_holm to Holm's correction of its p over the methods that have one."""
    for name in METRICS:
        tests = [metrics[name] for metrics in methods if name in metrics and metrics[name]["p"] is not None]
        for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
            test["p_holm"] = p
