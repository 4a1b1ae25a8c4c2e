"""Anchors that know one question at a time: a group's own answers, and regressions from its profile on them.

They learn nothing of one question from another, and say nothing of an item that is held out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import PolynomialFeatures

from cuma.errors import BenchmarkError, ProfileError
from cuma.evaluation.anchor_choice import best
from cuma.evaluation.anchor_data import AnchorShares, Floats, Known, one_hot_fields
from cuma.evaluation.mrp import mrp_shares
from cuma.evaluation.option_scales import OWN, average

PENALTIES = tuple(float(value) for value in np.logspace(-4, 4, 17))
"""Tried on validation groups, for the logistic regression as 1/C and for the ridge as alpha."""
PSEUDO_ANSWERS = 1e-6
"""Answers of the population's average added to each group's counts: only felt where nobody of a group answered."""


def own_counts(known: Known) -> AnchorShares:
    """Each seen group's own training answers; NaN for groups that were not seen."""

    def fit(table: Floats, mean: Floats) -> Floats:
        filled = table + PSEUDO_ANSWERS * mean
        return np.where(known.seen_groups[:, None], filled / filled.sum(axis=1, keepdims=True), np.nan)

    return _own_shares(known, _by_question(known, lambda k, table: fit(table, average(known, k)[0])))


def logistic(known: Known) -> AnchorShares:
    """Additive (multinomial) logistic regression per question on one-hot profile fields; a field or value that no seen
    group has is zeros, so that a profile of unseen values only gets the intercept."""
    return _tuned(known, _fields(known), _fit_logistic)


def logistic_on_pairs(known: Known) -> AnchorShares:
    """The same on the fields and on every pair of them, so that effects need not add up."""
    products = PolynomialFeatures(2, interaction_only=True, include_bias=False)
    return _tuned(known, products.fit_transform(_fields(known)), _fit_logistic)


def ridge(known: Known) -> AnchorShares:
    """Ridge regression per question from the profile embedding to the answer distribution, clipped and renormalised."""
    if known.profile_embeds is None:
        raise ProfileError("Anchor 'ridge' needs profile embeddings [groups, D]; got none. Encode the profiles first.")
    return _tuned(known, known.profile_embeds, _fit_ridge)


def process(known: Known) -> AnchorShares:
    """Gaussian process per option on one-hot profile fields: additive effects plus a smooth rest, of sizes that fit the
    training answers best (marginal likelihood); clipped and renormalised."""
    fields = _fields(known)
    return _own_shares(known, _by_question(known, lambda _, table: _fit_process(fields, table)))


def mrp(known: Known) -> AnchorShares:
    """Multilevel regression and post-stratification per question, on the profile's values and their pairs."""
    profiles = [group.profile.fields for group in known.groups]
    return _own_shares(known, _by_question(known, lambda _, table: mrp_shares(profiles, table)))


def _fields(known: Known) -> Floats:
    """[G, F]: the profiles' fields, one-hot. Raises BenchmarkError where no group that was trained on has one."""
    fields = one_hot_fields(known.groups)
    if not fields.size:
        raise BenchmarkError("no group that was trained on has a profile field")
    return fields


def _by_question(known: Known, fit: Callable[[int, Floats], Floats]) -> list[Floats]:
    """What is said of the asked cells: `fit` gives distributions [G, m] of a question and its counts [G, m]."""
    asked = np.unique(known.asked[1])
    of = {int(k): fit(int(k), known.table(known.training, k)) for k in known.trained if k in asked}
    nothing = {int(k): np.full((len(known.groups), len(known.questions[k].options)), np.nan) for k in asked}
    return [(of.get(int(k), nothing[int(k)]))[group] for group, k in zip(*known.asked, strict=True)]


def _own_shares(known: Known, shares: list[Floats]) -> AnchorShares:
    answered = sum(1 for k in np.unique(known.asked[1]) if k in known.trained)
    return AnchorShares(shares, {OWN: answered} if answered else {})


def _tuned(known: Known, inputs: Floats, fit: Callable[[Floats, Floats, float], Floats]) -> AnchorShares:
    """The fit whose one penalty, shared by all questions, has the least soft EMD on the groups to choose by."""

    def fitted(one: Known, penalty: float) -> list[Floats]:
        return _by_question(one, lambda _, table: fit(inputs, table, penalty))

    return _own_shares(known, fitted(known, best(known, PENALTIES, fitted, of_groups=True)))


def _fit_logistic(fields: Floats, table: Floats, penalty: float) -> Floats:
    """[G, m]: every (group, option) is a row weighted by its count, which is the same as one row per person."""
    groups, options = np.nonzero(table)
    shares = np.zeros_like(table)
    if len(set(options)) == 1:
        shares[:, options[0]] = 1.0
        return shares
    model = LogisticRegression(C=1 / penalty, max_iter=5000, tol=1e-6)
    model.fit(fields[groups], options, sample_weight=table[groups, options])
    shares[:, model.classes_] = model.predict_proba(fields)
    return shares


def _fit_ridge(inputs: Floats, table: Floats, penalty: float) -> Floats:
    """[G, m]: groups weigh as their number of answers (mean 1), as the variance of their observed shares demands."""
    n = table.sum(axis=1)
    fitted = n > 0
    model = Ridge(alpha=penalty)
    model.fit(inputs[fitted], table[fitted] / n[fitted, None], sample_weight=n[fitted] / n[fitted].mean())
    positive = np.maximum(model.predict(inputs), 0.0)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))


def _fit_process(fields: Floats, table: Floats) -> Floats:
    """[G, m]: a share of n answers has the noise of such a share, reckoned nearer to the average where n is small."""
    n = table.sum(axis=1)
    fitted = n > 0
    average = table.sum(axis=0) / table.sum()
    smoothed = (table[fitted] + average) / (n[fitted, None] + 1)
    predicted = np.zeros_like(table)
    for option in range(table.shape[1]):
        noise = smoothed[:, option] * (1 - smoothed[:, option]) / n[fitted]
        kernel = ConstantKernel(0.01) * DotProduct(1.0, "fixed") + ConstantKernel(0.01) * RBF(2.0)
        model = GaussianProcessRegressor(kernel, alpha=noise + 1e-8, n_restarts_optimizer=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a size at its bound: that part is not needed
            model.fit(fields[fitted], table[fitted, option] / n[fitted] - average[option])
        predicted[:, option] = model.predict(fields) + average[option]
    positive = np.maximum(predicted, 0.0)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))
