"""Replicate weights: what each replicate's squared distance counts in a variance."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cuma.errors import BenchmarkError, suggestion

Floats = NDArray[np.float64]
Kind = Literal["brr", "fay", "jackknife", "stratified_jackknife", "bootstrap"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SAME = 1e-9
"""Up to this share apart two weights are the same."""


def coefficients(kind: str, times: Floats, fay: float = 0.0) -> Floats:
    """[R]: so that a variance is Σ_r c_r (θ_r - θ)² (Wolter 2007, chapters 3 to 5).

    kind: "brr" and "bootstrap" 1/R; "fay" 1/(R (1-fay)²); "jackknife", of units without strata, (R-1)/R;
    "stratified_jackknife" (n-1)/n for each of a stratum's n units, read off the weights (`_by_stratum`).
    times: [N, R] each person's replicate weights over their weight in the whole sample.
    fay: by how much a half-sample's other half still counts, at least 0 and under 1.
    """
    number = times.shape[1]
    if kind not in KINDS:
        raise BenchmarkError(f"Unknown kind of replicate weights {kind!r}. {suggestion(kind, KINDS)}")
    if number < 2:
        raise BenchmarkError(f"The survey has {number} set of replicate weights; a variance needs 2 at least.")
    if not 0 <= fay < 1:
        raise BenchmarkError(f"Fay's factor is {fay}; expected at least 0 and under 1.")
    if kind == "stratified_jackknife":
        return _by_stratum(times)
    each = {"jackknife": (number - 1) / number, "fay": 1 / (number * (1 - fay) ** 2)}.get(kind, 1 / number)
    return np.full(number, each)


def _by_stratum(times: Floats) -> Floats:
    """[R] of the jackknife that leaves out one unit of one stratum in each replicate.

    The stratum's other n-1 units then count n/(n-1) times, everybody else as before: which people change tells the
    stratum, by how much tells n. With all n replicates of a stratum each counts (n-1)/n; where only one of two units
    was ever left out (JK2) its replicate counts 1, and so (n-1) over the number of replicates in general.
    """
    changed = np.abs(times - 1) > SAME
    most = times.max(axis=0)
    if (most <= 1 + SAME).any() or (times.min(axis=0) > SAME).any():
        raise BenchmarkError(
            "The stratified jackknife's replicate weights do not leave out one unit and raise the others of its "
            "stratum by one factor, as after a calibration of each replicate. Give the columns of strata and units in "
            "their place."
        )
    _, stratum, replicates = np.unique(changed, axis=1, return_inverse=True, return_counts=True)
    units = np.rint(most / (most - 1))
    return np.asarray((units - 1) / replicates[stratum.ravel()])
