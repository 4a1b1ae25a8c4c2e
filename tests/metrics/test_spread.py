from __future__ import annotations

import numpy as np
import pytest

from cuma.metrics import alignment, jsd, spread
from cuma.metrics.pointwise import pairwise_covariance, pairwise_jsd_sum
from helpers.worlds import answer_shares


def sampled(truth: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(n, truth)


@pytest.fixture
def truth() -> np.ndarray:
    return answer_shares(np.random.default_rng(3).normal(size=40), 4)


def test_the_average_for_everybody_has_no_spread_and_no_alignment(truth):
    predicted = np.tile(truth.mean(axis=0), (40, 1))
    counts = sampled(truth, 50)
    assert spread([predicted], [counts]) == 0.0
    assert np.isnan(alignment([predicted], [counts], [True]))


@pytest.mark.parametrize("n", [50, 500, 50_000])
def test_the_truth_is_as_diverse_as_people_at_every_n(truth, n):
    found = np.mean([spread([truth], [sampled(truth, n, seed)], seed=seed) for seed in range(20)])
    assert found == pytest.approx(1, abs=0.03)


def test_the_observed_answers_themselves_look_more_diverse_than_people_are(truth):
    counts = sampled(truth, 20)
    assert spread([counts / 20], [counts]) > 1.1


def test_caricatures_exceed_one(truth):
    counts = sampled(truth, 500)
    certain = np.eye(4)[truth.argmax(axis=1)]
    assert spread([certain], [counts]) > 1.5


def test_groups_that_do_not_differ_leave_the_spread_undefined():
    same = np.array([[20, 30]] * 10)
    assert np.isnan(spread([same / 50], [same]))


def test_spread_is_blind_to_direction_and_alignment_is_not(truth):
    counts = sampled(truth, 50_000)
    mirrored = truth[:, ::-1]
    assert spread([mirrored], [counts]) == pytest.approx(1, abs=0.02)
    assert alignment([truth], [counts], [True]) == pytest.approx(1, abs=0.01)
    assert alignment([mirrored], [counts], [True]) == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("ordinal", [True, False])
def test_alignment_is_pearsons_correlation_of_differences(truth, ordinal):
    rng = np.random.default_rng(0)
    model, counts = rng.dirichlet(np.ones(4), size=40), sampled(truth, 60)
    observed = counts / 60
    places = np.linspace(0, 1, 4)[:, None] if ordinal else np.eye(4)
    predicted, real = model @ places, observed @ places
    i, j = np.nonzero(~np.eye(40, dtype=bool))
    expected = np.corrcoef((predicted[i] - predicted[j]).ravel(), (real[i] - real[j]).ravel())[0, 1]
    assert alignment([model], [counts], [ordinal]) == pytest.approx(expected, abs=1e-12)


def test_the_order_of_groups_does_not_matter(truth):
    counts = sampled(truth, 60)
    model = 0.5 * truth + 0.125
    order = np.random.default_rng(5).permutation(40)
    assert alignment([model[order]], [counts[order]], [True]) == pytest.approx(alignment([model], [counts], [True]))
    assert spread([model[order]], [counts[order]]) == pytest.approx(spread([model], [counts]), rel=0.01)


def test_a_group_that_was_not_asked_is_left_out(truth):
    counts = sampled(truth, 60)
    model = 0.5 * truth + 0.125
    more, wild = np.vstack([counts, np.zeros((1, 4), dtype=int)]), np.vstack([model, [[1.0, 0, 0, 0]]])
    assert spread([wild], [more]) == spread([model], [counts])
    assert alignment([wild], [more], [True]) == pytest.approx(alignment([model], [counts], [True]), abs=1e-12)


def test_pair_sums_equal_the_sums_over_pairs():
    rng = np.random.default_rng(2)
    p, weight = rng.dirichlet(np.ones(3), size=6), rng.integers(0, 3, size=(6, 4)).astype(float)
    x, y = rng.normal(size=(2, 2, 6, 1))
    divergence, covariance = np.zeros(4), np.zeros(4)
    for i in range(6):
        for j in range(i + 1, 6):
            divergence += weight[i] * weight[j] * jsd(p[i], p[j])
            covariance += weight[i] * weight[j] * ((x[:, i] - x[:, j]) * (y[:, i] - y[:, j])).sum()
    np.testing.assert_allclose(pairwise_jsd_sum(p.T[:, :, None], weight), divergence, atol=1e-12)
    found = pairwise_covariance(x, y, np.broadcast_to(weight, (2, 6, 4)))
    np.testing.assert_allclose(found, covariance, atol=1e-12)
