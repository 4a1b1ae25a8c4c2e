"""How a survey drew its people: strata, sampling units in them, replicate weights, and what these do to an estimate.

Standard errors of means and shares follow the ultimate-cluster rule: however people were drawn within a unit, units of
a stratum count as drawn with replacement, without a finite-population correction (Särndal, Swensson & Wretman 1992,
§ 5.9; what R's `survey` does when it is told nothing else). Figures that are no means have draws of units in place of a
formula: the rescaled bootstrap (Rao, Wu & Yue 1992). Where the survey publishes replicate weights, these take the place
of both.

A stratum with one unit says nothing about how its units differ. It counts with the distance of its unit from the mean
of all units (R's `lonely.adjust="adjust"`): as if it had been paired with a unit that lies at that mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cuma.errors import BenchmarkError

Floats = NDArray[np.float64]
REPLICATE = "replicate_weights"
COLUMNS = ("person", "stratum", "unit")
RANK = 1e-9
"""Of the largest eigenvalue: what counts as none."""
AT_ONCE = 100
"""Draws that are made together."""


@dataclass(frozen=True, eq=False)
class Replicates:
    """The survey's own replicate weights."""

    times: Floats
    """[N, R] how often each person counts in each replicate, over how often they count in the whole sample."""
    coefficients: Floats
    """[R] a variance is the sum of these times the replicates' squared distances."""
    kind: str
    """"brr", "jackknife", … (`cuma.metrics.replicates`)"""

    @cached_property
    def freedom(self) -> int:
        """The rank of the replicate weights less one (R's `degf`): how many of them say something of their own."""
        sizes = np.linalg.eigvalsh(self.times.T @ self.times)
        return max(int((sizes > RANK * sizes.max()).sum()) - 1, 1)

    def variance(self, figures: Floats, value: ArrayLike) -> Floats:
        """[...]: the variance of an estimate `value` [...] with replicates [..., R]; NaN ones do not count.

        A jackknife's distances are from the estimate, for its replicates may lie to one side of it; those of
        half-samples and bootstraps from their mean, for the noise that they add moves distances such as an EMD up.
        """
        near = np.asarray(value)[..., None]
        centre = near if "jackknife" in self.kind else np.nanmean(figures, axis=-1, keepdims=True)
        return np.asarray(np.nansum((figures - centre) ** 2 * self.coefficients, axis=-1))


@dataclass(frozen=True, eq=False)
class Design:
    """N people in U units of H strata. All units of the survey are known, also those without any of the N people."""

    person: NDArray[np.int64]
    """[N] running numbers."""
    unit: NDArray[np.int64]
    """[N] each person's unit, from 0."""
    stratum: NDArray[np.int64]
    """[U] each unit's stratum, from 0."""
    strata_known: bool = True
    """False: everybody is in one stratum, for want of any other."""
    units_known: bool = True
    """False: everybody is a unit of their own."""
    weights: str | None = None
    """What the survey calls its weights."""
    replicates: Replicates | None = None
    """Taken in place of strata and units."""
    unknown: int = 0
    """People without a stratum or a unit, though others have one."""

    def __post_init__(self) -> None:
        if len(self.stratum) < 2 and self.replicates is None:
            raise BenchmarkError(
                "The survey's design has 1 sampling unit, and one unit says nothing about chance. Leave the columns of "
                "strata and units out if they are not the survey's design."
            )

    @classmethod
    def of(
        cls,
        person: ArrayLike,
        strata: Iterable[object] | None,
        units: Iterable[object] | None,
        weights: str | None = None,
        replicates: Replicates | None = None,
    ) -> Design:
        """From the survey's own labels of strata and units [N], which become running numbers.

        None for a whole column: the survey has none. A missing stratum is a stratum of its own, a missing unit
        is one person. A unit's label counts within its stratum: 1 and 2 in every stratum are different units.
        """
        number = np.asarray(person, dtype=np.int64)
        stratum, known = _codes(strata, len(number))
        labels, there = _codes(units, len(number))
        alone = np.where(there, labels, labels.max(initial=0) + 1 + np.arange(len(number)))
        pairs, unit = np.unique(np.column_stack([stratum, alone]), axis=0, return_inverse=True)
        lacks = (~known & (strata is not None)) | (~there & (units is not None))
        known_of = (strata is not None, units is not None)
        return cls(number, unit.ravel(), pairs[:, 0], *known_of, weights, replicates, int(lacks.sum()))

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """[H] units in each stratum."""
        return np.bincount(self.stratum)

    @cached_property
    def _factor(self) -> Floats:
        """[H] n/(n-1), and 1 for a stratum with one unit."""
        return np.where(self.sizes > 1, self.sizes / np.maximum(self.sizes - 1, 1), 1.0)

    @property
    def noise(self) -> float:
        """How much of the sample's noise a draw of units, or a replicate, adds to it: all, or little (jackknife)."""
        return 1.0 if self.replicates is None else float(1 / self.replicates.coefficients.sum())

    @cached_property
    def freedom(self) -> int:
        """Degrees of freedom: units less strata; without either, those of the replicates."""
        if self.replicates is not None and not (self.strata_known or self.units_known):
            return self.replicates.freedom
        return max(len(self.stratum) - len(self.sizes), 1)

    def at(self, person: NDArray[np.int64]) -> Design:
        """The design of these people; all units stay. BenchmarkError for a person that it does not know."""
        rows = pd.Index(self.person).get_indexer(person)
        if (rows < 0).any():
            raise BenchmarkError(
                f"The survey's design does not know {(rows < 0).sum()} of {len(person)} people of the predictions. "
                "Evaluate the run again."
            )
        own = self.replicates
        kept = None if own is None else replace(own, times=own.times[rows])
        return replace(self, person=person, unit=self.unit[rows], replicates=kept)

    def same_as(self, other: Design | None) -> bool:
        """Whether both are one design of the same people."""
        if other is None or (self.replicates is None) != (other.replicates is None):
            return False
        own, theirs = self.replicates, other.replicates
        times = own is None or theirs is None or np.array_equal(own.times, theirs.times)
        return times and np.array_equal(self.unit, other.unit) and np.array_equal(self.stratum, other.stratum)

    def facts(self) -> dict[str, Any]:
        """What a reader is told: numbers of strata and units (None where not known), of strata with one unit, …"""
        own = self.replicates
        replicates = None if own is None else {"kind": own.kind, "count": len(own.coefficients)}
        return {
            "strata": len(self.sizes) if self.strata_known else None,
            "units": len(self.stratum) if self.units_known else None,
            "lonely_strata": int((self.sizes == 1).sum()),
            "weights": self.weights,
            "replicates": replicates,
            "people_without": self.unknown,
        }

    # --- draws -------------------------------------------------------------------------------------------------------

    def draws(self, number: int, seed: int) -> Iterator[Floats]:
        """[U, b]: how often each unit counts in each of `number` draws, few at a time (Rao, Wu & Yue 1992).

        Of a stratum's n units n-1 are drawn with replacement, and count n/(n-1) times as often as they were drawn. The
        one unit of a stratum counts twice or not at all.
        """
        rng = np.random.default_rng(seed)
        for start in range(0, number, AT_ONCE):
            width = min(AT_ONCE, number - start)
            times = np.empty((len(self.stratum), width))
            for stratum, units in enumerate(self._units_of):
                if len(units) == 1:
                    times[units] = 2.0 * rng.integers(2, size=(1, width))
                else:
                    even = np.full(len(units), 1 / len(units))
                    times[units] = rng.multinomial(len(units) - 1, even, size=width).T * self._factor[stratum]
            yield times

    @cached_property
    def _units_of(self) -> list[NDArray[np.int64]]:
        """Each stratum's units."""
        order = np.argsort(self.stratum, kind="stable")
        return np.split(order, np.cumsum(self.sizes)[:-1])

    def worth(self, people: slice | NDArray[np.bool_]) -> int:
        """How many independent units these of the people stand for: those they are in, of each stratum all but one."""
        units = self.unit[people]
        if self.replicates is not None:
            return min(len(units), self.freedom + 1)
        held = np.bincount(self.stratum[np.unique(units)], minlength=len(self.sizes))
        return int(np.minimum(held, np.maximum(self.sizes - 1, 1)).sum())

    # --- means -------------------------------------------------------------------------------------------------------

    def variance(self, scores: Floats, domain: NDArray[np.int64], domains: int) -> Floats:
        """[D, F]: the variance, under the design, of sums of `scores` [N, F] over each of D domains of people.

        scores: for a mean the linearised values w (y - mean) / Σw. domain: [N] each person's. A unit without anybody of
        a domain counts with 0, so that the domain's own size is as random as it was.
        """
        keys, inverse = np.unique(domain * len(self.stratum) + self.unit, return_inverse=True)
        totals = sums_by(scores, inverse.ravel(), len(keys))
        place, stratum = keys // len(self.stratum), self.stratum[keys % len(self.stratum)]
        squares = sums_by(totals**2 * self._factor[stratum, None], place, domains)
        cells, within = np.unique(place * len(self.sizes) + stratum, return_inverse=True)
        means = sums_by(totals, within.ravel(), len(cells))
        of = cells % len(self.sizes)
        centre = np.where(self.sizes[of] > 1, self._factor[of] / self.sizes[of], 0.0)
        centred = squares - sums_by(means**2 * centre[:, None], cells // len(self.sizes), domains)
        return np.maximum(centred, 0.0)


@dataclass(frozen=True, eq=False)
class Means:
    """Weighted means of F figures over the people of D domains."""

    n: NDArray[np.int64]
    """[D] people."""
    mean: Floats
    """[D, F]"""
    variance: Floats
    """[D, F] under the design."""
    simple: Floats
    """[D, F] of so many people drawn one by one: s²/n, s² = n/(n-1) Σw(y - mean)²/Σw."""

    @property
    def effect(self) -> Floats:
        """[D, F] the design effect against a simple random sample with replacement of as many people (R's
        `deff="replace"`); NaN where nobody differs."""
        return np.divide(self.variance, self.simple, out=np.full_like(self.mean, np.nan), where=self.simple > 0)

    @property
    def joint_effect(self) -> Floats:
        """[D] the same of all figures together: of the sums of their variances."""
        above, below = self.variance.sum(axis=1), self.simple.sum(axis=1)
        return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def weighted_means(
    values: Floats, weight: Floats, design: Design, domain: NDArray[np.int64] | None = None, domains: int = 1
) -> Means:
    """Means of `values` [N, F], people counting by `weight` [N], with the variance that the design gives them.

    domain: [N] each person's; -1: not counted. The mean is a ratio of two totals and linearised as one; with
    replicate weights its replicates are used.
    """
    kept = np.ones(len(values), dtype=bool) if domain is None else domain >= 0
    place = np.zeros(len(values), dtype=np.int64) if domain is None else np.where(kept, domain, 0)
    w, y = np.where(kept, weight, 0.0), np.where(kept[:, None], values, 0.0)
    total = sums_by(w[:, None], place, domains)
    safe = np.where(total > 0, total, 1.0)
    mean = sums_by(w[:, None] * y, place, domains) / safe
    away = y - mean[place]
    n = np.bincount(place[kept], minlength=domains)
    spread = sums_by(w[:, None] * away**2, place, domains) / safe
    simple = spread / np.maximum(n - 1, 1)[:, None]
    if design.replicates is None:
        variance = design.variance(w[:, None] * away / safe[place], place, domains)
    else:
        variance = _replicate_variance(w, y, place, mean, design.replicates)
    return Means(n, mean, variance, simple)


def _replicate_variance(w: Floats, y: Floats, place: NDArray[np.int64], mean: Floats, own: Replicates) -> Floats:
    variance = np.zeros_like(mean)
    for domain in range(len(mean)):
        rows = place == domain
        times = own.times[rows] * w[rows, None]
        total = times.sum(axis=0)
        means = np.divide(y[rows].T @ times, total, out=np.full((y.shape[1], len(total)), np.nan), where=total > 0)
        variance[domain] = own.variance(means, mean[domain])
    return variance


def sums_by(values: Floats, place: NDArray[np.int64], places: int) -> Floats:
    """[places, F]: sums of `values` [N, F] by place."""
    return np.stack([np.bincount(place, column, minlength=places) for column in values.T], axis=1)


def _codes(labels: Iterable[object] | None, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[N] running numbers of labels, missing ones after all others; and which are not missing."""
    if labels is None:
        return np.zeros(length, dtype=np.int64), np.zeros(length, dtype=bool)
    codes, names = pd.factorize(pd.Series(list(labels), dtype=object), sort=False)
    return np.where(codes < 0, len(names), codes).astype(np.int64), codes >= 0
