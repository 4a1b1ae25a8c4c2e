"""Measures of one prediction, or of one pair of distributions. Pure functions on arrays [..., m options]."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

Floats = NDArray[np.float64]

LOW_OPTION_MASS = 0.5
"""Below this, the answer letters hold less than half of the model's probability: the renormalised rest says little."""


def distributions(values: ArrayLike, name: str = "distribution") -> Floats:
    """`values` [..., m] as float64, checked: finite, not negative, summing to 1 (to 1e-6). ValueError otherwise."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] < 2:
        raise ValueError(f"{name}: expected an array [..., options] of at least 2 options, got shape {array.shape}.")
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"{name}: probabilities must be finite and not negative; got {array.min()} as the least.")
    worst = float(np.abs(array.sum(axis=-1) - 1).max(initial=0.0))
    if worst > 1e-6:
        raise ValueError(
            f"{name}: probabilities must sum to 1; got a sum that is off by {worst:.3g}. Divide by the sum."
        )
    return array


def _pair(p: ArrayLike, q: ArrayLike) -> tuple[Floats, Floats]:
    first, second = distributions(p, "p"), distributions(q, "q")
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"p has {first.shape[-1]} options and q has {second.shape[-1]}: they answer different questions."
        )
    return first, second


def emd(p: ArrayLike, q: ArrayLike, ordinal: bool = True) -> Floats:
    """Earth mover's distance in [0, 1] between distributions [..., m]; returns [...].

    Ordinal options stand at positions 0, 1/(m-1), …, 1: Wasserstein-1, the sum of |CDF differences| over m-1.
    Nominal options are all equally far apart: total variation. With two options the two agree.
    """
    first, second = _pair(p, q)
    return emd_unchecked(first - second, ordinal)


def emd_unchecked(difference: Floats, ordinal: bool, axis: int = -1) -> Floats:
    """`emd` from p - q, with the options along `axis` and no checks: for large arrays that are known to be right."""
    options = difference.shape[axis]
    if ordinal and options > 2:
        return np.asarray(np.abs(np.cumsum(difference, axis=axis)).sum(axis=axis) / (options - 1))
    return np.asarray(np.abs(difference).sum(axis=axis) / 2)


def jsd(p: ArrayLike, q: ArrayLike) -> Floats:
    """Jensen–Shannon *divergence* in nats, in [0, ln 2], between distributions [..., m]; returns [...]."""
    first, second = _pair(p, q)
    total = first + second  # twice the middle: half of the smallest float would be 0
    divergence = (rel_entr(2 * first, total) + rel_entr(2 * second, total)).sum(axis=-1) / 4
    return np.maximum(divergence, 0.0)  # rounding leaves -1e-16, of which the distance would be NaN


def js_distance(p: ArrayLike, q: ArrayLike) -> Floats:
    """Jensen–Shannon *distance*, the square root of `jsd` (what `scipy.spatial.distance.jensenshannon` returns)."""
    return np.asarray(np.sqrt(jsd(p, q)))


def js_similarity(p: ArrayLike, q: ArrayLike) -> Floats:
    """1 - `js_distance`, GlobalOpinionQA's score: 1 is equal, 1 - √ln 2 ≈ 0.17 has nothing in common."""
    return np.asarray(1 - js_distance(p, q))


def kl(p: ArrayLike, q: ArrayLike, least: float = 0.0) -> Floats:
    """Kullback–Leibler divergence of q from p in nats, Σ p ln(p/q), of distributions [..., m]; returns [...].

    Infinite where q is 0 and p is not. least: probabilities of q below it count as it.
    """
    first, second = _pair(p, q)
    # rel_entr is -p where q is above p, so that the sum can be just below 0
    return np.maximum(rel_entr(first, np.maximum(second, least)).sum(axis=-1), 0.0)


def normalised_entropy(p: ArrayLike) -> Floats:
    """`entropy` over its largest value, ln m: 0 is certain, 1 is uniform, whatever the number of options."""
    return np.asarray(entropy(p) / np.log(np.asarray(p).shape[-1]))


def brier(p: ArrayLike, answers: ArrayLike) -> Floats:
    """Brier score in [0, 2] of distributions [n, m] against answers [n]: Σ_k (p_k - 1[answer = k])²; returns [n]."""
    shares, truth = distributions(p, "p"), np.asarray(answers)
    return np.asarray(((shares - np.eye(shares.shape[-1])[truth]) ** 2).sum(axis=-1))


def ece(confidence: ArrayLike, hits: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: over equally wide bins, the share of answers times |accuracy - mean confidence|.

    confidence: [n], the largest probability. hits: [n], whether its option was the answer.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(hits, dtype=np.float64)
    which = np.minimum((sure * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(which, right - sure, minlength=bins)).sum() / len(sure))


def entropy(p: ArrayLike) -> Floats:
    """Shannon entropy in nats of distributions [..., m]; returns [...]."""
    return np.asarray(entr(distributions(p, "p")).sum(axis=-1))


def accuracy(predicted: ArrayLike, answers: ArrayLike) -> float:
    """Share of positions where `predicted` [n] equals `answers` [n]."""
    guess, truth = _labels(predicted, answers)
    return float((guess == truth).mean())


def macro_f1(predicted: ArrayLike, answers: ArrayLike) -> float:
    """Mean F1 over the options that occur in `predicted` [n] or `answers` [n]; an option never predicted counts 0."""
    from sklearn.metrics import f1_score  # takes a second to import, and only this function needs it

    guess, truth = _labels(predicted, answers)
    return float(f1_score(truth, guess, average="macro", zero_division=0.0))


def _labels(predicted: ArrayLike, answers: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    guess, truth = np.asarray(predicted), np.asarray(answers)
    if guess.shape != truth.shape or guess.ndim != 1 or guess.size == 0:
        raise ValueError(f"Expected two equally long, non-empty lists, got shapes {guess.shape} and {truth.shape}.")
    return guess, truth


def distinct_n(texts: Sequence[Sequence[Hashable]], n: int) -> float:
    """Distinct n-grams over all n-grams of tokenised `texts` (Li et al. 2016); 0.0 when no text has n tokens."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    grams = [tuple(text[i : i + n]) for text in texts for i in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def low_option_mass(option_mass: float) -> bool:
    """Whether the mean probability on the answer letters is too small (under 0.5) for the scores to be trusted."""
    return option_mass < LOW_OPTION_MASS
