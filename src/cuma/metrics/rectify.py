"""A population's shares from a model and a few real answers: valid whatever the model is worth.

Prediction-powered inference (Angelopoulos, Bates et al. 2023) with the power tuning of PPI++ (Angelopoulos, Duchi &
Zrnic 2023, arXiv 2311.01453), which survey research knows as the difference estimator (Särndal, Swensson & Wretman
1992, § 6.3): λ times what the model says of the population, and the sample's mean of what λ times the model gets wrong.
With λ = 0 that is the sample alone. One λ a question, so that its shares still sum to 1; it is not cut off at 1, for a
model that tells people apart too weakly is as good as one that does it in full (the regression estimator, § 6.4).

The package ppi_py is the oracle of the tests, not the engine: its interval with weights is that of a total (it does not
centre what is weighted), and it knows no strata, no units, no small samples and no population that is known whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from cuma.metrics.mean_variance import DrawnSample
from cuma.metrics.pointwise import Floats

LEVEL = 0.95
FEWEST = 5
"""With fewer degrees of freedom λ is 0: estimating it would cost more than any model is worth."""


@dataclass(frozen=True, eq=False)
class ModelMean:
    """What a model says of a population."""

    shares: Floats
    """[m]"""
    variance: Floats
    """[m]: of the people that stand for the population; zeros where the population is known cell by cell."""
    people: float = np.inf
    """How many people those are, effectively (Kish)."""
    shared: float = 0.0
    """Which share of the sample is among those people."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Shares [m] with their 95 % intervals."""

    shares: Floats
    variance: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class Rectified:
    """One question's shares in a population, in three ways."""

    n: int
    """People who answered."""
    chosen: NDArray[np.int64]
    """[m]: how many of them chose each option."""
    tuning: float
    """λ: 0 is the sample alone, 1 takes the model at its word, more stretches one whose people differ too little."""
    classical: Estimate
    """The sample alone."""
    model: Estimate
    """The model alone."""
    rectified: Estimate
    error: Floats
    """[m]: what the model gets wrong of the sample's people, predicted minus given shares."""
    error_beyond_chance: bool
    """Whether any option's error is, at 5 % for all options together (Bonferroni)."""

    @property
    def gain(self) -> float:
        """How many times as many people a sample alone would need; 1 where nothing varies."""
        before, after = self.classical.variance.sum(), self.rectified.variance.sum()
        return float(before / after) if after > 0 else 1.0


def rectify(answers: NDArray[np.int64], predicted: Floats, design: DrawnSample, model: ModelMean) -> Rectified:
    """The three estimates of one question.

    Args:
        answers: [n] option of each sampled person who answered.
        predicted: [n, m] what the model expects of the same people; it has not seen their answers.
        design: how those people were drawn, from the population that the model's mean is of.
        model: what the model says of that population.
    """
    given = np.eye(predicted.shape[1])[answers]
    tuning = _tuning(given, predicted, design, model)
    classical = design.mean(given)
    variance = design.variance(given)
    error = design.mean(predicted) - classical
    limit = t.ppf(1 - (1 - LEVEL) / 2 / len(error), design.freedom) * np.sqrt(design.variance(given - predicted))
    missed = given - tuning * predicted
    # λ is a slope that was estimated: one degree of freedom less, as in a regression.
    freedom = max(1.0, design.freedom - (tuning > 0))
    rest = design.variance(missed) * design.freedom / freedom + tuning**2 * model.variance
    if model.shared:  # the sample's own noise is in both parts
        both = _covariance(missed, predicted, design).clip(min=0)
        rest = rest + 2 * tuning * model.shared / model.people * both
    sizes = _sizes(classical, variance, design)
    with np.errstate(divide="ignore", invalid="ignore"):
        rectified_sizes = np.where((variance > 0) & (rest > 0), sizes * variance / rest, sizes)
    shares = tuning * model.shares + design.mean(missed)
    return Rectified(
        len(answers),
        np.bincount(answers, minlength=predicted.shape[1]),
        tuning,
        Estimate(classical, variance, *_wilson(classical, sizes, design.freedom)),
        model_alone(model),
        Estimate(shares, rest, *_wilson(shares, rectified_sizes, freedom)),
        error,
        bool((np.abs(error) > limit).any()),
    )


def model_alone(model: ModelMean) -> Estimate:
    """The model's shares. Their interval is of the people who stand for the population, and knows nothing of how wrong
    the model is."""
    spread = t.ppf((1 + LEVEL) / 2, max(1.0, model.people - 1)) * np.sqrt(model.variance)
    return Estimate(model.shares, model.variance, (model.shares - spread).clip(0), (model.shares + spread).clip(max=1))


def _tuning(given: Floats, predicted: Floats, design: DrawnSample, model: ModelMean) -> float:
    """The λ of the smallest variance, summed over options; people's variances stand for the design's."""
    if design.freedom < FEWEST:
        return 0.0
    both = float(_covariance(given, predicted, design).sum())
    own = float(_covariance(predicted, predicted, design).sum())
    one, common = 1 / design.effective, model.shared / model.people
    below = own * (one - 2 * common) + float(model.variance.sum())
    return max(0.0, both * (one - common) / below) if below > 0 else 0.0


def _covariance(one: Floats, other: Floats, design: DrawnSample) -> Floats:
    """[m]: weighted covariances of two tables [n, m], column by column."""
    return design.mean((one - design.mean(one)) * (other - design.mean(other)))


def _sizes(shares: Floats, variance: Floats, design: DrawnSample) -> Floats:
    """[m]: how many people drawn alone would be as sure of each share; where it is 0 or 1, Kish's number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, shares * (1 - shares) / variance, design.effective)


def _wilson(shares: Floats, sizes: Floats, freedom: float) -> tuple[Floats, Floats]:
    """Wilson's interval at an effective number of people, with Student's quantile; the usual one for shares of complex
    samples (Franco, Little, Louis & Slud 2019). It keeps to 0 and 1, and is never empty."""
    z2 = t.ppf((1 + LEVEL) / 2, freedom) ** 2
    p = shares.clip(0, 1)
    centre = (p + z2 / (2 * sizes)) / (1 + z2 / sizes)
    half = np.sqrt(z2) * np.sqrt(p * (1 - p) / sizes + z2 / (4 * sizes**2)) / (1 + z2 / sizes)
    return (centre - half).clip(0), (centre + half).clip(max=1)
