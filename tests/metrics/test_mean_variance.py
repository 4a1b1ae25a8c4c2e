"""A weighted mean's variance under a design, against samplics and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from samplics.estimation import TaylorEstimator
from samplics.utils.types import PopParam, SinglePSUEst

from cuma.metrics.mean_variance import DrawnSample


def drawn(seed: int = 0) -> tuple[np.ndarray, DrawnSample]:
    rng = np.random.default_rng(seed)
    stratum = np.repeat(np.arange(4), 60)
    unit = np.repeat(np.arange(12), 20) % 3  # numbered anew in every stratum
    values = (rng.random((240, 3)) < rng.random((12, 3))[np.repeat(np.arange(12), 20)]).astype(float)
    return values, DrawnSample(rng.uniform(0.3, 3, 240), stratum, unit)


def test_it_is_the_taylor_estimate_of_samplics() -> None:
    values, design = drawn()
    for column, (mean, variance) in enumerate(zip(design.mean(values), design.variance(values), strict=True)):
        oracle = TaylorEstimator(PopParam.mean)
        psu = design.stratum * 10 + design.unit
        oracle.estimate(y=values[:, column], samp_weight=design.weights, stratum=design.stratum, psu=psu)
        assert mean == pytest.approx(oracle.point_est, abs=1e-12)
        assert np.sqrt(variance) == pytest.approx(oracle.stderror, abs=1e-12)
    assert SinglePSUEst.error  # its own rule for lonely units is to refuse; ours is below
    assert 7 < design.freedom <= 8
    assert design.alone == 0


def test_people_drawn_alone_have_the_textbook_variance() -> None:
    values = np.random.default_rng(1).normal(size=(50, 2))
    design = DrawnSample.simple(np.ones(50))
    np.testing.assert_allclose(design.variance(values), values.var(0, ddof=1) / 50, rtol=1e-12)
    assert design.effective == pytest.approx(50)
    assert DrawnSample.simple(np.array([1.0, 1.0, 2.0])).effective == pytest.approx(16 / 6)


def test_a_unit_alone_in_its_stratum_is_compared_with_all() -> None:
    values, design = drawn()
    kept = (design.stratum > 0) | (design.unit == 0)
    lonely = design.of(kept)
    assert lonely.alone == 1
    without = design.of(design.stratum > 0)
    assert (lonely.variance(values[kept]) > 0).all()
    assert lonely.freedom == pytest.approx(without.freedom)


def test_weights_that_leave_few_people_leave_few_degrees_of_freedom() -> None:
    one_of_all = DrawnSample.simple(np.array([100.0, *[1.0] * 99]))
    assert one_of_all.freedom == pytest.approx(199**2 / (100**2 + 99) - 1)
