"""The covariance of a Gaussian process over groups and items, and how its sizes are learnt (`text_process`).

The terms, each with a variance of its own; "near" and "alike" are exp(−Σ_f rate_f · unlike_f) between two groups, with
rates of their own; "wording" is the product of two wordings' embeddings, centred over the training items and scaled to
a mean square of 1. Variances and rates maximise the marginal likelihood of all options (Rasmussen & Williams 2006,
equations 5.8 and 5.9) times log-normal priors, so that what the cells do not tell stays near its prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, optimize

from cuma.evaluation.anchor_data import Cells, Floats, Ints, Known
from cuma.evaluation.option_scales import words

Places = tuple[Ints, Ints]
"""Groups [N] and questions [N] of cells."""
TERMS = (
    "item by wording", "item", "item by options", "likeness of sentence and wording", "cell",
    "group (near)", "group by wording (near)", "group by item (alike)",
)  # fmt: skip
_PRIORS = {"variance": (0.02, 3.0, 14.0), "rate": (0.5, 1.5, 5.0)}
"""Median, standard deviation of the logarithm, and how far that may go from the median's."""
_JITTER = 1e-6
_AT_ONCE = 1000
_STEPS = 60


@dataclass(frozen=True, eq=False)
class Kernel:
    """What is known of groups and items before any answer is. theta below: the logarithms of the variances of `TERMS`,
    of the rates of "near" and of those of "alike"."""

    unlike: Floats
    """[F, G, G]"""
    wording: Floats
    """[Q, Q]"""
    options: Floats
    """[Q, Q]: 1 where two questions have the same options."""
    likeness: Floats
    """[G, Q]"""
    counted: bool
    """Whether a cell's noise follows from its number of people; otherwise the term "cell" is all there is."""

    @classmethod
    def of(cls, known: Known, unlike: Floats, texts: tuple[Floats, Floats], cells: Cells) -> Kernel:
        """The kernel of a benchmark whose items are centred over those of `cells`."""
        profiles, items = texts
        group, question = np.unique(cells.group), np.unique(cells.question)
        wordings, sentences = items - items[question].mean(axis=0), profiles - profiles[group].mean(axis=0)
        sets = [sorted(words(one)) for one in known.questions]
        likeness = _unit(sentences) @ _unit(wordings).T
        likeness = likeness - likeness[group].mean(axis=0)
        size = likeness[np.ix_(group, question)].std()
        square = (wordings[question] ** 2).sum(axis=1).mean()
        return cls(
            unlike,
            wordings @ wordings.T / max(square, 1e-12),
            np.array([[one == other for other in sets] for one in sets], dtype=np.float64),
            likeness / max(size, 1e-12),
            known.counted,
        )

    def learn(self, cells: Cells, targets: Floats) -> Floats:
        """The likeliest theta. targets: [N, m]."""
        rates = 2 * len(self.unlike)
        median, sd, reach = (
            np.concatenate([np.full(len(TERMS), variance), np.full(rates, rate)])
            for variance, rate in zip(*_PRIORS.values(), strict=True)
        )
        likelihood = _Likelihood(self, cells, targets)
        centre = np.log(median)

        def loss(theta: Floats) -> tuple[float, Floats]:
            value, slope = likelihood(theta)
            away = (theta - centre) / sd
            return value + 0.5 * float(away @ away), slope + away / sd

        bounds = list(zip(centre - reach, centre + reach, strict=True))
        options = {"maxiter": _STEPS, "ftol": 1e-6}
        return np.asarray(
            optimize.minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
        )

    def between(self, theta: Floats, first: Places, second: Places) -> Floats:
        """[N, M]: the covariance of two lists of cells, but for noise."""
        near, alike = self._groups(theta)
        variances = np.exp(theta[: len(TERMS)])
        blocks = []
        for start in range(0, len(first[0]), _AT_ONCE):
            part = (first[0][start : start + _AT_ONCE], first[1][start : start + _AT_ONCE])
            parts = self.parts(part, second, near, alike)
            blocks.append(sum(variance * term for variance, term in zip(variances, parts, strict=True)))
        return np.concatenate(blocks)

    def of_cells(self, theta: Floats, cells: Cells) -> Floats:
        """[N, N]: the covariance of what was observed."""
        places = (cells.group, cells.question)
        return self.between(theta, places, places) + np.diag(self.noise(cells))

    def noise(self, cells: Cells) -> Floats:
        """[N]"""
        return (0.25 / cells.n if self.counted else np.zeros(len(cells))) + _JITTER

    def parts(self, first: Places, second: Places, near: Floats, alike: Floats) -> list[Floats]:
        """The terms without their variances."""
        (group, question), (other, another) = first, second
        wording = self.wording[np.ix_(question, another)]
        same = (question[:, None] == another).astype(np.float64)
        near, alike = near[np.ix_(group, other)], alike[np.ix_(group, other)]
        likeness = np.outer(self.likeness[group, question], self.likeness[other, another])
        cell = same * (group[:, None] == other)
        options = self.options[np.ix_(question, another)]
        return [wording, same, options, likeness, cell, near, near * wording, alike * same]

    def _groups(self, theta: Floats) -> tuple[Floats, Floats]:
        near, alike = np.exp(theta[len(TERMS) :]).reshape(2, len(self.unlike))
        return np.exp(-np.tensordot(near, self.unlike, 1)), np.exp(-np.tensordot(alike, self.unlike, 1))


class _Likelihood:
    """theta → minus the log marginal likelihood of all options, but for a constant, and its slope."""

    def __init__(self, kernel: Kernel, cells: Cells, targets: Floats) -> None:
        self.kernel, self.targets, self.noise = kernel, targets, kernel.noise(cells)
        self.places = (cells.group, cells.question)
        ones = np.ones(kernel.unlike.shape[1:])
        *self.fixed, _, self.wording, self.same = kernel.parts(self.places, self.places, ones, ones)
        self.unlike = kernel.unlike[:, cells.group[:, None], cells.group]

    def __call__(self, theta: Floats) -> tuple[float, Floats]:
        count, fields = len(TERMS), len(self.unlike)
        variances, rates = np.exp(theta[:count]), np.exp(theta[count:]).reshape(2, fields)
        near, alike = (np.exp(-np.tensordot(rate, self.unlike, 1)) for rate in rates)
        parts = [*self.fixed, near, near * self.wording, alike * self.same]
        whole = sum(variance * part for variance, part in zip(variances, parts, strict=True))
        factor = linalg.cholesky(whole + np.diag(self.noise), lower=True, check_finite=False)
        weights = linalg.cho_solve((factor, True), self.targets, check_finite=False)
        inverse = linalg.cho_solve((factor, True), np.eye(len(factor)), check_finite=False)
        options = self.targets.shape[1]
        value = 0.5 * (self.targets * weights).sum() + options * np.log(np.diag(factor)).sum()
        slope = 0.5 * (options * inverse - weights @ weights.T)
        by_term = [variance * np.vdot(slope, part) for variance, part in zip(variances, parts, strict=True)]
        moved = (variances[-3] * parts[-3] + variances[-2] * parts[-2], variances[-1] * parts[-1])
        by_rate = [-rate * np.tensordot(self.unlike, slope * part, 2) for rate, part in zip(rates, moved, strict=True)]
        return float(value), np.concatenate([by_term, *by_rate])


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
