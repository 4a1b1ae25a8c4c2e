"""Anchors: predictors in closed form, that know the training counts and no language model.

They give the same table of predictions as a model, and say how good a number is: what pure mean collapse scores, what
a group's own training answers score, and how far the profile alone goes without any text being read.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import PolynomialFeatures

from cuma.data.surveys.survey import NO_ANSWER, Question, Survey
from cuma.errors import BenchmarkError, ProfileError, suggestion
from cuma.evaluation.mrp import mrp_shares
from cuma.metrics import emd

Floats = NDArray[np.float64]
Shares = list[Floats]
"""Per question, predicted distributions [G, m options], groups in the survey's order; NaN rows: not predicted."""

PENALTIES = tuple(float(value) for value in np.logspace(-4, 4, 17))
"""Tried on validation groups, for the logistic regression as 1/C and for the ridge as alpha."""

PSEUDO_ANSWERS = 1e-6
"""Answers of the population's average added to each group's counts: only felt where nobody of a group answered."""


@dataclass(frozen=True)
class Anchor:
    """A named predictor."""

    label: str
    """As in the report's table."""
    description: str
    """One plain sentence."""
    predict: Callable[[Survey, Floats | None], Shares]


def anchor_predictions(name: str, survey: Survey, embeddings: Floats | None = None) -> pd.DataFrame:
    """What the anchor says of every test person, in the form of predictions.parquet.

    A question that a person did not answer has no row. embeddings: [groups, D] profile embeddings in the order of
    `survey.groups`; only "ridge" needs them. Fitted on the training people of seen groups; a penalty is chosen by soft
    EMD on the validation groups, and nothing else of them is used. BenchmarkError for an unknown name or a survey
    without training answers, ProfileError for embeddings that are missing or do not fit.
    """
    if name not in ANCHORS:
        raise BenchmarkError(f"Unknown anchor {name!r}. {suggestion(name, ANCHORS)}")
    shares = ANCHORS[name].predict(survey, embeddings)
    index = {group.id: number for number, group in enumerate(survey.groups)}
    seen = np.array([group.role == "seen" for group in survey.groups])
    people = survey.people[survey.people["part"] == "test"]
    tables = []
    for question, predicted in zip(survey.questions, shares, strict=True):
        rows = people[people[question.id] != NO_ANSWER]
        group = rows["group"].map(index).to_numpy(dtype=np.int64)
        table = pd.DataFrame({"person": rows["person"].to_numpy(dtype=np.int64), "group": rows["group"].to_numpy()})
        table["seen"] = seen[group]
        table["question_id"] = question.id
        table["answer"] = rows[question.id].to_numpy(dtype=np.int64)
        table["probabilities"] = list(predicted[group])
        table["option_mass"] = 1.0
        tables.append(table[np.isfinite(predicted[group]).all(axis=1)])
    return pd.concat(tables).sort_values("person", kind="stable", ignore_index=True)


def _counts(survey: Survey, part: str, role: str) -> list[Floats]:
    """Per question, answer counts [G, m] of the people of one part and of groups with one role; zeros for the others,
    and for questions that are held out."""
    index = {group.id: number for number, group in enumerate(survey.groups)}
    tables = {question.id: np.zeros((len(index), len(question.options))) for question in survey.questions}
    wanted = {group.id for group in survey.groups if group.role == role}
    trained = {question.id for question in survey.with_roles(("seen",))}
    for row in survey.counts(part, {"seen", role}).itertuples():
        if row.group in wanted and row.question_id in trained:
            tables[row.question_id][index[row.group]] = row.counts
    return [tables[question.id] for question in survey.questions]


def _training(survey: Survey) -> list[Floats]:
    tables = _counts(survey, "train", "seen")
    for question, table in zip(survey.questions, tables, strict=True):
        if not table.sum():
            raise BenchmarkError(
                f"{survey.name}: no training person answered {question.id}, so no anchor can be fitted."
            )
    return tables


def _average(survey: Survey, embeddings: Floats | None) -> Shares:
    """The same for everybody: each training person counts once."""
    return [np.tile(table.sum(axis=0) / table.sum(), (len(table), 1)) for table in _training(survey)]


def _own_counts(survey: Survey, embeddings: Floats | None) -> Shares:
    """Each seen group's own training answers; NaN for groups that were not seen."""
    shares = []
    seen = np.array([group.role == "seen" for group in survey.groups])
    for table, average in zip(_training(survey), _average(survey, None), strict=True):
        filled = table + PSEUDO_ANSWERS * average
        shares.append(np.where(seen[:, None], filled / filled.sum(axis=1, keepdims=True), np.nan))
    return shares


def _logistic(survey: Survey, embeddings: Floats | None) -> Shares:
    """Additive (multinomial) logistic regression per question on one-hot profile fields; a field or value that no seen
    group has is zeros, so that a profile of unseen values only gets the intercept."""
    fields = one_hot_profiles(survey)
    tables = _training(survey)
    return _tuned(survey, lambda penalty: [_fit_logistic(fields, table, penalty) for table in tables])


def _logistic_pairs(survey: Survey, embeddings: Floats | None) -> Shares:
    """The same on the fields and on every pair of them, so that effects need not add up."""
    products = PolynomialFeatures(2, interaction_only=True, include_bias=False)
    pairs = products.fit_transform(one_hot_profiles(survey))
    tables = _training(survey)
    return _tuned(survey, lambda penalty: [_fit_logistic(pairs, table, penalty) for table in tables])


def _ridge(survey: Survey, embeddings: Floats | None) -> Shares:
    """Ridge regression per question from the profile embedding to the answer distribution, clipped and renormalised."""
    if embeddings is None:
        raise ProfileError("Anchor 'ridge' needs profile embeddings [groups, D]; got none. Encode the profiles first.")
    inputs = np.asarray(embeddings, dtype=np.float64)
    if inputs.ndim != 2 or len(inputs) != len(survey.groups) or not np.isfinite(inputs).all():
        raise ProfileError(
            f"Anchor 'ridge' expected finite profile embeddings [{len(survey.groups)}, D], one row for each group of "
            f"the survey, got shape {inputs.shape}. Encode the profiles of survey.groups, in their order."
        )
    tables = _training(survey)
    return _tuned(survey, lambda penalty: [_fit_ridge(inputs, table, penalty) for table in tables])


def _gaussian_process(survey: Survey, embeddings: Floats | None) -> Shares:
    """Gaussian process per option on one-hot profile fields: additive effects plus a smooth rest, of sizes that fit the
    training answers best (marginal likelihood); clipped and renormalised."""
    fields = one_hot_profiles(survey)
    return [_fit_process(fields, table) for table in _training(survey)]


def _mrp(survey: Survey, embeddings: Floats | None) -> Shares:
    """Multilevel regression and post-stratification per question, on the profile's values and their pairs."""
    profiles = [group.profile.fields for group in survey.groups]
    return [mrp_shares(profiles, table) for table in _training(survey)]


def one_hot_profiles(survey: Survey) -> Floats:
    """[G, F]: one column for every (field, value) of the seen groups' profiles."""
    present = [set(group.profile.fields.items()) for group in survey.groups]
    seen = [pairs for group, pairs in zip(survey.groups, present, strict=True) if group.role == "seen"]
    columns = sorted(set().union(*seen))
    return np.array([[column in pairs for column in columns] for pairs in present], dtype=np.float64)


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


def _tuned(survey: Survey, fit: Callable[[float], Shares]) -> Shares:
    """The fit whose one penalty, shared by all questions, has the least soft EMD on the validation groups' answers."""
    tables = _counts(survey, "validation", "validation")
    if not any(table.sum() for table in tables):
        raise BenchmarkError(f"{survey.name}: validation groups have no answers to choose an anchor's penalty on.")
    fits = [fit(penalty) for penalty in PENALTIES]
    errors = [_validation_emd(survey.questions, shares, tables) for shares in fits]
    return fits[int(np.argmin(errors))]


def _validation_emd(questions: tuple[Question, ...], shares: Shares, tables: list[Floats]) -> float:
    cells = []
    for question, predicted, table in zip(questions, shares, tables, strict=True):
        answered = table.sum(axis=1) > 0
        people = table[answered] / table[answered].sum(axis=1, keepdims=True)
        cells.append(emd(predicted[answered], people, question.ordinal))
    return float(np.concatenate(cells).mean())


ANCHORS: dict[str, Anchor] = {
    "average": Anchor(
        "population average",
        "Everybody gets the average answer of all training people: pure mean collapse.",
        _average,
    ),
    "counts": Anchor(
        "own training counts",
        "Each seen group gets the answers of its own training people; groups not seen in training get none.",
        _own_counts,
    ),
    "logistic": Anchor(
        "logistic regression",
        "An additive logistic regression on the fields of the profile, fitted to the training people's answers.",
        _logistic,
    ),
    "pairs": Anchor(
        "logistic regression on pairs",
        "A logistic regression on the fields of the profile and on every pair of them.",
        _logistic_pairs,
    ),
    "process": Anchor(
        "Gaussian process",
        "A Gaussian process on the fields of the profile, fitted to the training people's answers.",
        _gaussian_process,
    ),
    "mrp": Anchor(
        "multilevel regression (MRP)",
        "Multilevel regression and post-stratification: effects of the profile's fields and of pairs of them, pooled.",
        _mrp,
    ),
    "ridge": Anchor(
        "ridge regression",
        "A ridge regression from the embedding of the profile to the training people's answers.",
        _ridge,
    ),
}
