"""How sure a weighted mean is, given how the sample was drawn: Taylor linearisation over units within strata.

Särndal, Swensson & Wretman (1992), § 5.7: units are taken as drawn with replacement, which errs on the wide side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cuma.metrics.design import Design
from cuma.metrics.pointwise import Floats


@dataclass(frozen=True, eq=False)
class DrawnSample:
    """How n people were drawn."""

    weights: Floats
    """[n], at least one above 0."""
    stratum: NDArray[np.int64]
    """[n] numbers; one stratum for everybody where none is known."""
    unit: NDArray[np.int64]
    """[n] numbers of the units that were drawn, people where none is known; a number counts within its stratum."""

    @classmethod
    def simple(cls, weights: Floats) -> DrawnSample:
        """Each person was drawn alone."""
        return cls(weights, np.zeros(len(weights), dtype=np.int64), np.arange(len(weights)))

    def of(self, rows: NDArray[np.bool_]) -> DrawnSample:
        """Of some of the people."""
        return DrawnSample(self.weights[rows], self.stratum[rows], self.unit[rows])

    @cached_property
    def _units(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """([n] each person's unit, counted through; [U] each unit's stratum, counted through)."""
        strata = np.unique(self.stratum, return_inverse=True)[1]
        pairs, of = np.unique(np.stack([strata, self.unit], axis=1), axis=0, return_inverse=True)
        return of.ravel(), pairs[:, 0]

    @cached_property
    def _design(self) -> Design:
        return Design.of(np.arange(len(self.weights)), self.stratum.tolist(), self.unit.tolist())

    @property
    def freedom(self) -> float:
        """Degrees of freedom: units less strata, or less where weights within a stratum differ (Kish's number of its
        units counts); at least 1."""
        of, stratum = self._units
        totals = np.bincount(of, self.weights)
        squares = np.bincount(stratum, totals**2)
        kish = np.divide(np.bincount(stratum, totals) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)
        return max(1.0, float((kish - 1).clip(min=0).sum()))

    @property
    def alone(self) -> int:
        """Strata with one unit; that unit is compared with the mean of all."""
        return int((np.bincount(self._units[1]) == 1).sum())

    @property
    def effective(self) -> float:
        """Kish's effective number (Σw)² / Σw², of units where people were drawn in units."""
        totals = np.bincount(self._units[0], self.weights)
        return float(totals.sum() ** 2 / (totals**2).sum())

    def mean(self, values: Floats) -> Floats:
        """[K]: weighted means of values [n, K]."""
        return np.asarray(self.weights @ values / self.weights.sum())

    def variance(self, values: Floats) -> Floats:
        """[K]: variances of the weighted means of values [n, K], themselves a ratio of two estimated totals."""
        if len(self._units[1]) == 1:
            return np.zeros(values.shape[1])
        scores = self.weights[:, None] * (values - self.mean(values)) / self.weights.sum()
        return self._design.variance(scores, np.zeros(len(scores), dtype=np.int64), 1)[0]
