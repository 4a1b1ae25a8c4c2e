"""Multilevel regression and post-stratification, the survey statistician's own predictor of groups nobody asked.

A group's log-odds for an option are the population's plus an effect for each of its profile's values and for each pair
of them (Gelman & Little 1997; Ghitza & Gelman 2013). The effects of one field, or of one pair of fields, are draws
from a normal distribution whose variance the training answers choose (empirical Bayes): what they do not tell apart is
pooled toward 0. A value or a pair that no training group has, and a field that is absent, add nothing. A group is one
cell of the population, so that post-stratification is what the sum says for its own fields.

Effects are integrated out: with variances v_b, the groups' log-odds have the covariance K = Σ v_b K_b, where K_b[i, j]
is 1 if groups i and j have the same value in b. Mode, Laplace's marginal likelihood and its gradient in the variances
are algorithms 3.1 and 5.1 of Rasmussen & Williams 2006, for k of n answers instead of one. statsmodels'
BinomialBayesMixedGLM takes a row a person, and priors of a width that somebody has to choose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize
from scipy.special import expit, logit

Floats = NDArray[np.float64]
_BOUNDS = (-12.0, 6.0)
"""Log variances: standard deviations from nothing (0.002) to more than answers can show (20), in log-odds."""
_STEPS = 100


def mrp_shares(profiles: Sequence[Mapping[str, str]], table: Floats) -> Floats:
    """[G, m]: each group's distribution over a question's options; one regression an option, made to sum to 1.

    profiles: G groups' present fields. table: [G, m] training answers; zeros for groups that are not trained on.
    """
    kernels, n = _kernels(profiles), table.sum(axis=1)
    total = table.sum(axis=0) / table.sum()
    shares = np.tile(total, (len(table), 1))
    chosen = np.flatnonzero((total > 0) & (total < 1))
    for option in chosen[:1] if len(chosen) == 2 else chosen:
        shares[:, option] = _fitted(kernels, table[:, option], n, float(logit(total[option])))
    if len(chosen) == 2:
        shares[:, chosen[1]] = 1 - shares[:, chosen[0]]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _kernels(profiles: Sequence[Mapping[str, str]]) -> Floats:
    """[1 + fields + pairs, G, G]: 1 where two groups share the intercept, a field's value, or both values of a pair."""
    names = sorted(set().union(*profiles))
    same = np.ones((1 + len(names), len(profiles), len(profiles)))
    for place, name in enumerate(names, 1):
        values = np.array([profile.get(name, "") for profile in profiles])
        same[place] = (values[:, None] == values) & (values != "")
    pairs = [same[one] * same[other] for one, other in combinations(range(1, len(same)), 2)]
    return np.concatenate([same, np.array(pairs).reshape(-1, *same.shape[1:])])


def _fitted(kernels: Floats, k: Floats, n: Floats, mean: float) -> Floats:
    """[G] probabilities of an option that k [G] of n [G] people chose, at the likeliest variances and effects."""
    there = n > 0
    answers = _Answers(kernels[:, there][:, :, there], k[there], n[there], mean)
    start = np.full(len(kernels), -np.log(len(kernels)))
    found = optimize.minimize(answers.loss, start, jac=True, method="L-BFGS-B", bounds=[_BOUNDS] * len(kernels))
    effects = answers.mode(np.tensordot(np.exp(found.x), answers.kernels, 1))
    return np.asarray(expit(mean + np.tensordot(np.exp(found.x), kernels[:, :, there], 1) @ effects))


@dataclass(frozen=True, eq=False)
class _Answers:
    """Of the groups that answered: kernels [B, G, G], k [G] of n [G] people for the option, and the mean log-odds."""

    kernels: Floats
    k: Floats
    n: Floats
    mean: float

    def mode(self, covariance: Floats) -> Floats:
        """[G] a, with the likeliest log-odds mean + covariance @ a: Newton's steps, halved where they overshoot."""
        a, last = np.zeros(len(self.k)), -np.inf
        for _ in range(_STEPS):
            f = covariance @ a
            w, share = self._weights(f)
            factor, root = _factor(covariance, w)
            b = w * f + self.k - self.n * share
            step = b - root * linalg.cho_solve(factor, root * (covariance @ b)) - a
            height = self._height(a, f)
            while self._height(a + step, covariance @ (a + step)) < height and np.abs(step).max() > 1e-9:
                step = step / 2
            a = a + step
            if height - last < 1e-9:
                break
            last = height
        return a

    def loss(self, log_variances: Floats) -> tuple[float, Floats]:
        """Minus Laplace's log marginal likelihood, and its gradient in the log variances [B]."""
        variances = np.exp(log_variances)
        covariance = np.tensordot(variances, self.kernels, 1)
        a = self.mode(covariance)
        f = covariance @ a
        w, share = self._weights(f)
        factor, root = _factor(covariance, w)
        value = self._height(a, f) - np.log(np.diag(factor[0])).sum()
        inverse = root[:, None] * linalg.cho_solve(factor, np.diag(root))
        half = linalg.solve_triangular(factor[0], root[:, None] * covariance, lower=True)
        slope = -0.5 * (np.diag(covariance) - (half**2).sum(axis=0)) * w * (1 - 2 * share)
        explicit = 0.5 * (self.kernels @ a @ a - (self.kernels * inverse).sum(axis=(1, 2)))
        moved = self.kernels @ (self.k - self.n * share)  # [B, G]
        implicit = (moved - moved @ inverse @ covariance) @ slope
        return -float(value), -variances * (explicit + implicit)

    def _weights(self, f: Floats) -> tuple[Floats, Floats]:
        """Binomial variances [G], and shares [G]."""
        share = expit(self.mean + f)
        return self.n * share * (1 - share), share

    def _height(self, a: Floats, f: Floats) -> float:
        """Log-likelihood plus log-prior, but for constants."""
        odds = self.mean + f
        return float((self.k * odds - self.n * np.logaddexp(0, odds)).sum() - 0.5 * a @ f)


def _factor(covariance: Floats, w: Floats) -> tuple[tuple[Floats, bool], Floats]:
    """Cholesky's factor of 1 + √w K √w, and √w."""
    root = np.sqrt(w)
    whole = np.eye(len(w)) + root[:, None] * covariance * root
    return (linalg.cholesky(whole, lower=True), True), root
