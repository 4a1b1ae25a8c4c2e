"""Coefficients of replicate weights, against samplics and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cuma.errors import BenchmarkError
from cuma.metrics.design import Design, Replicates, weighted_means
from cuma.metrics.replicates import coefficients
from helpers.replicate_weights import half_samples, left_out

STRATUM = np.repeat(np.arange(8), 20)
UNIT = np.tile(np.repeat([0, 1], 10), 8)
EVERYBODY = np.zeros(160, dtype=np.int64)
RNG = np.random.default_rng(0)
WEIGHT = RNG.lognormal(size=160)
FIGURE = RNG.normal(size=160) + RNG.normal(size=16)[STRATUM * 2 + UNIT]


def error(kind: str, times: np.ndarray, fay: float = 0.0) -> float:
    own = Replicates(times, coefficients(kind, times, fay), kind)
    design = Design.of(np.arange(160), STRATUM, UNIT, replicates=own)
    return float(np.sqrt(weighted_means(FIGURE[:, None], WEIGHT, design).variance[0, 0]))


@pytest.mark.filterwarnings("ignore:samplics is archived:FutureWarning")
def test_standard_errors_are_those_of_samplics() -> None:
    from samplics.estimation import ReplicateEstimator
    from samplics.utils.types import PopParam, RepMethod

    cases = {
        "brr": (RepMethod.brr, half_samples(STRATUM, UNIT), 0.0),
        "fay": (RepMethod.brr, half_samples(STRATUM, UNIT, 0.3), 0.3),
        "jackknife": (RepMethod.jackknife, left_out(EVERYBODY, STRATUM * 2 + UNIT), 0.0),
        "stratified_jackknife": (RepMethod.jackknife, left_out(STRATUM, UNIT), 0.0),
        "bootstrap": (RepMethod.bootstrap, RNG.poisson(1.0, size=(160, 50)).astype(float), 0.0),
    }
    for kind, (method, times, fay) in cases.items():
        oracle = ReplicateEstimator(method, PopParam.mean, **({"fay_coef": fay} if fay else {}))
        given = {"rep_coefs": np.full(16, 0.5)} if kind == "stratified_jackknife" else {}
        around = {"conservative": "jackknife" in kind}  # their word for distances from the estimate
        weights = pd.DataFrame(times * WEIGHT[:, None])
        oracle.estimate(y=FIGURE, samp_weight=WEIGHT, rep_weights=weights, **given, **around)
        assert error(kind, times, fay) == pytest.approx(oracle.stderror, rel=1e-9), kind


def test_all_ways_agree_with_linearisation_and_by_hand() -> None:
    plain = Design.of(np.arange(160), STRATUM, UNIT)
    linear = float(np.sqrt(weighted_means(FIGURE[:, None], WEIGHT, plain).variance[0, 0]))
    ways = [error("brr", half_samples(STRATUM, UNIT)), error("fay", half_samples(STRATUM, UNIT, 0.5), 0.5)]
    ways += [error("stratified_jackknife", left_out(STRATUM, UNIT, one)) for one in (True, False)]
    np.testing.assert_allclose(ways, linear, rtol=0.03)
    times = half_samples(STRATUM, UNIT)
    means = [np.average(FIGURE, weights=WEIGHT * one) for one in times.T]
    assert error("brr", times) == pytest.approx(np.std(means))


def test_a_stratums_coefficients_are_read_off_the_weights() -> None:
    stratum, unit = np.array([0, 0, 1, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 2, 0, 1])
    found = coefficients("stratified_jackknife", left_out(stratum, unit))
    np.testing.assert_allclose(found, [1 / 2, 1 / 2, 2 / 3, 2 / 3, 2 / 3, 1 / 2, 1 / 2])
    np.testing.assert_allclose(coefficients("stratified_jackknife", left_out(stratum, unit, True))[[0, 2]], [1, 1])
    alike = left_out(EVERYBODY, STRATUM * 2 + UNIT)
    np.testing.assert_allclose(coefficients("stratified_jackknife", alike), coefficients("jackknife", alike))


@pytest.mark.parametrize(
    ("kind", "times", "fay", "words"),
    [
        ("jacknife", np.ones((4, 3)), 0.0, "jackknife"),
        ("brr", np.ones((4, 1)), 0.0, "1 set of replicate weights"),
        ("fay", np.ones((4, 3)), 1.0, "Fay's factor is 1.0"),
        ("stratified_jackknife", np.array([[1.1, 0.9], [0.9, 1.1]]), 0.0, "Give the columns of strata and units"),
    ],
)
def test_what_cannot_be_read_is_said(kind: str, times: np.ndarray, fay: float, words: str) -> None:
    with pytest.raises(BenchmarkError, match=words):
        coefficients(kind, times, fay)
