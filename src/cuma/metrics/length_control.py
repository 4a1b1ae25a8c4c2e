"""Win rates of one writer against another, judged pair by pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def length_controlled_win_rate(
    scores: Sequence[float], lengths: Sequence[int], reference_lengths: Sequence[int]
) -> float:
    """The win rate that would be left if both replies were equally long (Dubois et al. 2024, arXiv 2404.04475).

    P(win) = σ(θ + φ tanh(Δ / s)), Δ the candidate's length minus the reference's, s the standard deviation of Δ over
    the pairs (not centred: equal length stays 0); the result is σ(θ), the rate at Δ = 0.

    Simpler than theirs: there is no term for a prompt's difficulty, which they estimate from many other models'
    results, and φ has scikit-learn's default ridge penalty of ½φ² instead of a cross-validated one. A tie enters
    as half a win and half a loss. Where all candidates are longer (or all shorter) this is an extrapolation.

    Args:
        scores: N scores in [0, 1].
        lengths: N lengths of the candidate's replies, in characters.
        reference_lengths: N lengths of the other replies.

    Returns:
        the rate. Where length explains nothing, since all lengths are equal or all scores are 0 or all are 1: the plain
        mean. NaN without pairs, or if Δ is the same everywhere and not 0: then nothing tells length from quality.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import, and only this function needs it

    won = np.asarray(scores, dtype=float)
    difference = np.asarray(lengths, dtype=float) - np.asarray(reference_lengths, dtype=float)
    if not won.size:
        return np.nan
    if not difference.any() or won.mean() in (0, 1):
        return float(won.mean())
    if np.ptp(difference) == 0:
        return np.nan
    feature = np.tanh(difference / difference.std())[:, None]
    outcome = np.repeat([1, 0], won.size)
    fitted = LogisticRegression().fit(np.r_[feature, feature], outcome, sample_weight=np.r_[won, 1 - won])
    return float(fitted.predict_proba([[0.0]])[0, 1])
