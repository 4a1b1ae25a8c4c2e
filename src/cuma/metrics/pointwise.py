"""Measures of predictions, of pairs of distributions, and of all pairs of groups: pure functions on arrays."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

Floats = NDArray[np.float64]

LOW_OPTION_MASS = 0.5
"""Below this, the answer letters hold less than half of the model's probability: the renormalised rest says little."""
BINS = 10
"""Equally wide bins of confidence, for the calibration error."""
NO_DIFFERENCE = 1e-18
"""Summed squared differences between groups below this are rounding, not difference."""


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


def ratio(above: Floats, below: Floats, otherwise: float = np.nan) -> Floats:
    """`above` / `below`, and `otherwise` where the latter is not positive."""
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, 1.0), otherwise)


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
    return jsd_unchecked(*_pair(p, q))


def jsd_unchecked(p: Floats, q: Floats, axis: int = -1) -> Floats:
    """`jsd` with the options along `axis` and no checks."""
    total = p + q  # twice the middle: half of the smallest float would be 0
    divergence = (rel_entr(2 * p, total) + rel_entr(2 * q, total)).sum(axis=axis) / 4
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
    return kl_unchecked(*_pair(p, q), least)


def kl_unchecked(p: Floats, q: Floats, least: float, axis: int = -1) -> Floats:
    """`kl` with the options along `axis` and no checks."""
    # rel_entr is -p where q is above p, so that the sum can be just below 0
    return np.maximum(rel_entr(p, np.maximum(q, least)).sum(axis=axis), 0.0)


def normalised_entropy(p: ArrayLike) -> Floats:
    """`entropy` over its largest value, ln m: 0 is certain, 1 is uniform, whatever the number of options."""
    return np.asarray(entropy(p) / np.log(np.asarray(p).shape[-1]))


def brier(p: ArrayLike, answers: ArrayLike) -> Floats:
    """Brier score in [0, 2] of distributions [n, m] against answers [n]: Σ_k (p_k - 1[answer = k])²; returns [n]."""
    shares, truth = distributions(p, "p"), np.asarray(answers)
    return np.asarray(((shares - np.eye(shares.shape[-1])[truth]) ** 2).sum(axis=-1))


def ece(confidence: ArrayLike, hits: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: over equally wide bins, the share of answers times |accuracy - mean confidence|.

    confidence: [n], the largest probability. hits: [n], whether its option was the answer.
    """
    gaps = calibration_gaps(np.asarray(confidence, dtype=np.float64), np.asarray(hits, dtype=np.float64), bins)
    return float(calibration_error(gaps.sum(axis=0), len(gaps)))


def calibration_gaps(confidence: Floats, hits: NDArray[Any], bins: int = BINS) -> Floats:
    """[n, bins]: hit minus confidence, in the bin of the confidence [n]; 0 in the others."""
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return np.asarray(np.eye(bins)[place] * (hits - confidence)[:, None])


def calibration_error(gaps: Floats, n: ArrayLike, axis: int = 0) -> Floats:
    """`ece` from `calibration_gaps` summed over n answers, with the bins along `axis`."""
    return ratio(np.abs(gaps).sum(axis=axis), np.asarray(n, dtype=np.float64))


def entropy(p: ArrayLike) -> Floats:
    """Shannon entropy in nats of distributions [..., m]; returns [...]."""
    return np.asarray(entr(distributions(p, "p")).sum(axis=-1))


def accuracy(predicted: ArrayLike, answers: ArrayLike) -> float:
    """Share of positions where `predicted` [n] equals `answers` [n]."""
    guess, truth = _labels(predicted, answers)
    return float((guess == truth).mean())


def macro_f1(predicted: ArrayLike, answers: ArrayLike) -> float:
    """Mean F1 over the options that occur in `predicted` [n] or `answers` [n]; an option never predicted counts 0."""
    guess, truth = _labels(predicted, answers)
    options = np.unique(np.concatenate([guess, truth]))[:, None]
    chosen, right = guess == options, truth == options  # [options, n]
    return float(mean_f1(chosen.sum(axis=1), right.sum(axis=1), (chosen & right).sum(axis=1)))


def mean_f1(predicted: ArrayLike, observed: ArrayLike, correct: ArrayLike, axis: int = 0) -> Floats:
    """`macro_f1` from how often each option, along `axis`, was predicted, was the answer, and was both."""
    either = np.asarray(predicted) + np.asarray(observed)
    f1 = ratio(2 * np.asarray(correct), either, 0.0)
    return np.asarray(f1.sum(axis=axis) / np.maximum((either > 0).sum(axis=axis), 1))


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


# --- pairs of groups -------------------------------------------------------------------------------------------------


def pairwise_jsd(shares: Floats) -> Floats:
    """JSD in nats [G, G] between all pairs of distributions [m options, G]; exactly 0 for equals, NaN where one is."""
    single = entr(shares).sum(axis=0)
    mixed = np.stack([entr((shares + shares[:, [group]]) * 0.5).sum(axis=0) for group in range(len(single))])
    return np.asarray(np.maximum(mixed - (single[:, None] + single) * 0.5, 0.0))


def pairwise_jsd_sum(shares: Floats, weight: Floats) -> Floats:
    """Σ_{i<j} w_i w_j JSD(p_i, p_j) in nats; returns [B].

    shares: [m options, G groups, B draws], or B = 1 for the same distributions in all draws; weight: [G, B] or [G, 1].
    JSD(p, q) = H((p+q)/2) - (H(p)+H(q))/2, which is exactly 0 for p = q: equal numbers meet equal roundings. Options
    come first and draws last, so that every pass runs through contiguous memory: this is the bootstrap's hot loop.
    """
    single = sum(entr(option) for option in shares)
    total = np.zeros(np.broadcast_shapes(single.shape, weight.shape)[1])
    for i in range(len(single) - 1):
        mixed = sum(entr((option[i + 1 :] + option[i]) * 0.5) for option in shares)
        divergence = mixed - (single[i + 1 :] + single[i]) * 0.5
        total += (np.maximum(divergence, 0.0) * weight[i + 1 :]).sum(axis=0) * weight[i]
    return total


def pairwise_covariance(x: Floats, y: Floats, weight: Floats) -> Floats:
    """Σ_{i<j} w_i w_j (x_i-x_j)(y_i-y_j) over groups, summed over columns; returns [B].

    x, y: [C columns, G groups, B or 1]; weight: [C, G, B or 1]. By Lagrange's identity the sum over pairs is
    (Σw)(Σ w x y) - (Σ w x)(Σ w y); x and y are centred first, so that nothing cancels.
    """
    mass = weight.sum(axis=1, keepdims=True)
    safe = np.where(mass > 0, mass, 1.0)
    x = x - (weight * x).sum(axis=1, keepdims=True) / safe
    y = y - (weight * y).sum(axis=1, keepdims=True) / safe
    return np.asarray((mass[:, 0] * (weight * x * y).sum(axis=1)).sum(axis=0))


def positions(shares: Floats, ordinal: bool) -> Floats:
    """What "a difference between groups" is a difference of: [m, …] → [C, …].

    Ordinal, or two options: the mean position in [0, 1], C = 1. Nominal: the probability of every option, C = m.
    """
    if ordinal or len(shares) == 2:
        return np.tensordot(np.linspace(0.0, 1.0, len(shares)), shares, axes=1)[None]
    return shares


def correlation(predicted: Floats, observed: Floats, weight: Floats) -> Floats:
    """Pearson correlation [B] over columns and pairs of groups of differences; arguments as `pairwise_covariance`.

    Each pair counts in both directions (i-j and j-i), so that the order of the groups cannot matter. NaN where either
    side does not differ between groups.
    """
    pairs = ((predicted, observed), (predicted, predicted), (observed, observed))
    return correlation_of(*(pairwise_covariance(x, y, weight) for x, y in pairs))


def correlation_of(covariance: Floats, predicted: Floats, observed: Floats) -> Floats:
    """[B]: from sums of products, and of each side's squares; NaN where one of the latter is 0."""
    differ = (predicted > NO_DIFFERENCE) & (observed > NO_DIFFERENCE)
    scale = np.sqrt(np.where(differ, predicted, 1.0)) * np.sqrt(np.where(differ, observed, 1.0))
    return np.where(differ, np.clip(covariance / scale, -1.0, 1.0), np.nan)
