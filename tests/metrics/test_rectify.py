"""Estimates from a model and a sample: equal to PPI++ where that is made for it, and right where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from ppi_py import ppi_mean_ci, ppi_mean_pointestimate
from scipy.stats import norm

from cuma.metrics.mean_variance import DrawnSample
from cuma.metrics.rectify import Estimate, ModelMean, rectify


def people(n: int, seed: int, tilt: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Answers [n] to three options, and what a model expects; tilt other than 1 makes that wrong."""
    rng = np.random.default_rng(seed)
    shares = np.exp(np.outer(rng.normal(size=n), [1.0, 0.0, -1.0]))
    shares /= shares.sum(1, keepdims=True)
    answers = (shares.cumsum(1) < rng.random((n, 1))).sum(1)
    expected = shares * [1, 1, tilt]
    return answers, expected / expected.sum(1, keepdims=True)


def of_people(expected: np.ndarray, shared: float = 0.0) -> ModelMean:
    design = DrawnSample.simple(np.ones(len(expected)))
    return ModelMean(expected.mean(0), design.variance(expected), len(expected), shared)


def test_at_equal_weights_it_is_ppi_plus_plus() -> None:
    (answers, labelled), (_, others) = people(2000, 0, 3.0), people(20_000, 1, 3.0)
    found = rectify(answers, labelled, DrawnSample.simple(np.ones(2000)), of_people(others))
    given = np.eye(3)[answers]
    assert 0 < found.tuning < 1
    point = ppi_mean_pointestimate(given, labelled, others, lam=found.tuning)
    np.testing.assert_allclose(found.rectified.shares, point, atol=1e-12)
    low, high = ppi_mean_ci(given, labelled, others, alpha=0.05, lam=found.tuning)
    np.testing.assert_allclose(2 * norm.ppf(0.975) * np.sqrt(found.rectified.variance), high - low, rtol=2e-3)
    np.testing.assert_allclose(found.rectified.high - found.rectified.low, high - low, rtol=2e-3)
    tuned = ppi_mean_pointestimate(given, labelled, others)
    np.testing.assert_allclose(found.rectified.shares, tuned, atol=2e-4)


def test_the_packages_interval_with_weights_is_that_of_a_total() -> None:
    """Why it is not used there: a share of which everybody is sure gets an interval because weights differ."""
    rng = np.random.default_rng(0)
    weights, sure = rng.uniform(0.5, 3, 500), np.ones((500, 1))
    low, high = ppi_mean_ci(sure, 0.5 * sure, 0.5 * np.ones((5000, 1)), lam=1.0, w=weights)
    assert high - low > 0.02
    design = DrawnSample.simple(weights)
    assert design.variance(sure) == pytest.approx(0.0, abs=1e-20)


def test_rectified_shares_sum_to_1_and_intervals_keep_to_what_is_possible() -> None:
    for seed, n in enumerate((12, 30, 300)):
        answers, expected = people(n, seed, 5.0)
        rng = np.random.default_rng(seed)
        design = DrawnSample(rng.uniform(0.5, 2, n), np.arange(n) % 2, np.arange(n) // 3)
        found = rectify(answers, expected, design, of_people(people(1000, 9, 5.0)[1]))
        assert found.rectified.shares.sum() == pytest.approx(1)
        for one in (found.classical, found.model, found.rectified):
            assert (one.low >= 0).all()
            assert (one.high <= 1).all()
            assert (one.low <= one.high).all()


def test_an_option_that_nobody_chose_still_has_an_interval() -> None:
    answers, expected = np.zeros(40, dtype=np.int64), people(40, 0)[1]
    found = rectify(answers, expected, DrawnSample.simple(np.ones(40)), ModelMean(expected.mean(0), np.zeros(3)))
    assert found.classical.shares.tolist() == [1, 0, 0]
    assert (found.classical.high - found.classical.low > 0.05).all()
    assert (found.rectified.high - found.rectified.low > 0.05).all()


def test_a_model_that_tells_nobody_apart_changes_nothing() -> None:
    answers, _ = people(100, 0)
    flat = np.tile([0.7, 0.2, 0.1], (100, 1))
    found = rectify(answers, flat, DrawnSample.simple(np.ones(100)), ModelMean(flat[0], np.zeros(3)))
    assert found.tuning == 0
    np.testing.assert_allclose(found.rectified.shares, found.classical.shares, atol=1e-12)
    assert found.error_beyond_chance


def test_a_weak_model_is_stretched_to_what_it_could_be() -> None:
    answers, expected = people(3000, 0)
    weak = 0.9 / 3 + 0.1 * expected
    kinds = [rectify(answers, each, DrawnSample.simple(np.ones(3000)), ModelMean(each.mean(0), np.zeros(3)))
             for each in (expected, weak)]  # fmt: skip
    np.testing.assert_allclose(kinds[1].rectified.shares, kinds[0].rectified.shares, atol=1e-12)
    assert kinds[1].tuning == pytest.approx(10 * kinds[0].tuning)
    assert kinds[1].gain == pytest.approx(kinds[0].gain)
    assert kinds[0].gain > 1.1


def coverage(one: str, found: list, truth: np.ndarray) -> float:  # type: ignore[type-arg]
    ends: list[Estimate] = [getattr(each, one) for each in found]
    return float(np.mean([(each.low <= truth) & (truth <= each.high) for each in ends]))


@pytest.mark.parametrize(
    ("population", "drawn"),
    [("cells", "alike"), ("people", "alike"), ("panel", "alike"),
     ("cells", "weights"), ("panel", "weights"), ("cells", "units")],
)  # fmt: skip
def test_intervals_of_a_biased_model_hold_the_truth(population: str, drawn: str) -> None:
    """`studies/rectified.py` in short. A panel is a list of people that has the sampled ones too."""
    answers, expected = people(30_000, 5, 4.0)
    if drawn == "units":  # neighbours are alike
        order = np.argsort(expected[:, 0] + np.random.default_rng(1).normal(size=30_000) * 0.1)
        answers, expected = answers[order], expected[order]
    truth = np.bincount(answers, minlength=3) / 30_000
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        listed = np.arange(30_000) if population == "cells" else rng.choice(30_000, 1500, replace=False)
        pool = np.arange(30_000) if population == "people" else listed
        chance = np.exp(2 * expected[pool, 0]) if drawn == "weights" else np.ones(len(pool))
        places = rng.choice(len(pool), 200, p=chance / chance.sum(), replace=drawn == "weights")
        rows, design = pool[places], DrawnSample.simple(1 / chance[places])
        if drawn == "units":
            units = rng.choice(3000, 40, replace=False)
            rows = (units[:, None] * 10 + np.arange(10)).ravel()
            design = DrawnSample(np.ones(400), np.zeros(400, dtype=np.int64), rows // 10)
        mean = ModelMean(expected.mean(0), np.zeros(3))
        if population != "cells":
            mean = of_people(expected[listed], float(population == "panel"))
        found.append(rectify(answers[rows], expected[rows], design, mean))
    assert found[0].error_beyond_chance
    assert 0.93 <= coverage("classical", found, truth) <= 0.97
    assert 0.93 <= coverage("rectified", found, truth) <= 0.97
    assert coverage("model", found, truth) < 0.3
    assert np.mean([each.gain for each in found]) > 1
