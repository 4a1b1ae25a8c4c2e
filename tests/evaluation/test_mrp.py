"""Multilevel regression: gradients, effects against other libraries' fits, and pooling."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize
from scipy.special import expit, logit
from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

from cuma.evaluation.mrp import _Answers, _kernels, mrp_shares

PROFILES = [{"sex": sex, "school": school} for sex in "mf" for school in "abcd"]
N = np.array([40, 5, 80, 12, 30, 60, 9, 25], dtype=np.float64)
K = np.array([30, 4, 20, 9, 8, 41, 1, 3], dtype=np.float64)
VARIANCES = np.array([0.3, 0.8, 0.4, 0.2])  # in the order of the kernels: intercept, school, sex, both


def answers() -> _Answers:
    return _Answers(_kernels(PROFILES), K, N, float(logit(K.sum() / N.sum())))


def design(profiles: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """One column for the intercept, each value and each pair; and which variance is its."""
    names = sorted(set().union(*profiles))
    keys = [[()], *[sorted({((name, one[name]),) for one in profiles}) for name in names]]
    keys.append(sorted({tuple((name, one[name]) for name in names) for one in profiles}))
    columns = [(key, place) for place, its in enumerate(keys) for key in its]
    rows = [[float(set(key) <= set(one.items())) for key, _ in columns] for one in profiles]
    return np.array(rows), np.array([place for _, place in columns])


def test_the_gradient_is_that_of_the_loss() -> None:
    here = np.log(VARIANCES)
    _, gradient = answers().loss(here)
    numeric = optimize.approx_fprime(here, lambda at: answers().loss(at)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-6)


def test_the_mode_is_that_of_a_penalised_regression_with_a_column_for_each_effect() -> None:
    columns, block = design(PROFILES)
    mean = answers().mean

    def minus_posterior(effects: np.ndarray) -> float:
        odds = mean + columns @ effects
        return float((effects**2 / VARIANCES[block] / 2).sum() - (K * odds - N * np.logaddexp(0, odds)).sum())

    found = optimize.minimize(minus_posterior, np.zeros(len(block)), method="BFGS", options={"gtol": 1e-7})
    covariance = np.tensordot(VARIANCES, _kernels(PROFILES), 1)
    np.testing.assert_allclose(covariance @ answers().mode(covariance), columns @ found.x, atol=1e-5)


def test_the_marginal_likelihood_is_near_the_integral() -> None:
    """One group, one effect: between two variances Laplace's ratio is the exact one up to 1 %."""
    one = _Answers(np.ones((1, 1, 1)), np.array([30.0]), np.array([100.0]), 0.0)

    def exact(variance: float) -> float:
        def density(effect: float) -> float:
            return float(np.exp(30 * effect - 100 * np.logaddexp(0, effect) + 61 - effect**2 / 2 / variance))

        return float(integrate.quad(density, -4, 2)[0] / np.sqrt(variance))

    laplace = np.exp(one.loss(np.log([0.2]))[0] - one.loss(np.log([2.0]))[0])
    assert laplace == pytest.approx(exact(2.0) / exact(0.2), rel=0.01)


def test_statsmodels_says_nearly_the_same_from_one_row_a_person() -> None:
    """Many values and people, so that neither the prior of its variances nor its approximation is felt."""
    rng = np.random.default_rng(0)
    effect = rng.normal(size=40) * 0.8
    n = rng.integers(30, 90, size=40)
    k = rng.binomial(n, expit(effect - 0.5))
    ours = mrp_shares([{"region": str(place)} for place in range(40)], np.stack([k, n - k], 1).astype(float))[:, 0]
    rows = np.repeat(np.arange(40), n)
    chosen = np.concatenate([np.arange(size) < many for many, size in zip(k, n, strict=True)]).astype(float)
    members = sparse.csr_matrix(np.eye(40)[rows])
    model = BinomialBayesMixedGLM(chosen, np.ones((len(rows), 1)), members, np.zeros(40, int), vcp_p=1, fe_p=2)
    theirs = model.fit_vb()
    np.testing.assert_allclose(ours, expit(theirs.fe_mean[0] + theirs.vc_mean), atol=0.012)
    truth = expit(effect - 0.5)
    assert np.mean((ours - truth) ** 2) < 0.9 * np.mean((k / n - truth) ** 2)


def test_few_answers_are_pooled_and_many_are_believed() -> None:
    rng = np.random.default_rng(1)
    n = np.where(np.arange(30) < 2, [4, 400] * 15, 50)
    k = rng.binomial(n, expit(0.7 * rng.normal(size=30)))
    k[:2] = [4, 400]  # everybody of a small group, and of a large one
    shares = mrp_shares([{"region": str(place)} for place in range(30)], np.stack([k, n - k], 1).astype(float))[:, 0]
    assert shares[0] < 0.85 < 0.97 < shares[1]


def test_chance_alone_is_pooled_to_the_average() -> None:
    n = np.full(60, 40.0)
    k = np.full(60, 20.0) + np.tile([-1, 0, 1], 20)  # less apart than chance would have them
    shares = mrp_shares([{"region": str(place)} for place in range(60)], np.stack([k, n - k], 1))
    np.testing.assert_allclose(shares, 0.5, atol=1e-3)


def test_what_was_never_met_or_is_absent_adds_nothing() -> None:
    table = np.stack([K, N - K], 1)
    more = [{"sex": "x", "school": "z"}, {}, {"school": "a"}, {"school": "a", "sex": "x"}, {"school": "a", "age": "9"}]
    shares = mrp_shares([*PROFILES, *more], np.vstack([table, np.zeros((5, 2))]))[8:, 0]
    assert shares[0] == pytest.approx(shares[1])
    assert shares[2] == pytest.approx(shares[3]) == pytest.approx(shares[4])
    assert abs(shares[0] - shares[2]) > 0.01


def test_options_that_nobody_chose_get_nothing_and_two_options_are_one_regression() -> None:
    table = np.stack([K, np.zeros(8), N - K], 1)
    shares = mrp_shares(PROFILES, table)
    assert (shares[:, 1] == 0).all()
    np.testing.assert_allclose(shares[:, [0, 2]], mrp_shares(PROFILES, table[:, [0, 2]]), atol=1e-9)
    np.testing.assert_allclose(shares[:, ::-1], mrp_shares(PROFILES, table[:, ::-1]), atol=1e-4)
    assert mrp_shares(PROFILES, np.stack([N, 0 * N], 1)).tolist() == [[1, 0]] * 8


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=6),
    st.integers(2, 5),
    st.data(),
)
def test_any_profiles_and_counts_give_distributions_whatever_the_order(profiles, options, data) -> None:
    counts = st.lists(st.integers(0, 30), min_size=options, max_size=options)
    table = np.array([data.draw(counts) for _ in profiles], dtype=np.float64)
    table[0, 0] += 1
    shares = mrp_shares(profiles, table)
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(mrp_shares(profiles[::-1], table[::-1])[::-1], shares, atol=2e-3)
