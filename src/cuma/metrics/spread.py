"""Mean collapse, measured: do predicted groups differ as much as people do (spread), and in the same way (alignment)?

Both compare differences *between groups*, so a model that says the world average for everybody has no spread at all,
however small its error is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cuma.metrics.noise import chance_diversity
from cuma.metrics.pairs import pairwise_covariance, pairwise_jsd_sum
from cuma.metrics.pointwise import Floats, distributions

NO_DIFFERENCE = 1e-18
"""Summed squared differences between predictions below this are rounding, not difference."""


def spread(predicted: Sequence[ArrayLike], counts: Sequence[ArrayLike], seed: int = 0) -> float:
    """Σ_questions Σ_{i<j} JSD(pred_i, pred_j) / (Σ Σ JSD(true_i, true_j) - its mean under permuted group labels).

    predicted: per question [G groups, m options]; counts: per question people's answers [G, m], groups in the same
    order. 0: collapsed; 1: as diverse as people; above 1: exaggerated. The truth's own sum is inflated by sampling
    noise, which the permuted labels measure and the subtraction removes. Groups without answers to a question are left
    out of it. NaN when people's groups differ by no more than chance: there is then nothing to collapse.
    """
    said, people = 0.0, 0.0
    for number, (shares, table) in enumerate(zip(predicted, counts, strict=True)):
        answers = np.asarray(table)
        n = answers.sum(axis=1)
        asked = n > 0
        model, truth = distributions(shares, "predicted")[asked], answers[asked] / n[asked, None]
        once = np.ones((int(asked.sum()), 1))
        said += float(pairwise_jsd_sum(model.T[:, :, None], once)[0])
        people += float(pairwise_jsd_sum(truth.T[:, :, None], once)[0]) - chance_diversity(answers, seed=(seed, number))
    return said / people if people > 0 else float("nan")


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
    both = pairwise_covariance(predicted, observed, weight)
    model = pairwise_covariance(predicted, predicted, weight)
    truth = pairwise_covariance(observed, observed, weight)
    differ = (model > NO_DIFFERENCE) & (truth > NO_DIFFERENCE)
    scale = np.sqrt(np.where(differ, model, 1.0)) * np.sqrt(np.where(differ, truth, 1.0))
    return np.where(differ, np.clip(both / scale, -1.0, 1.0), np.nan)


def alignment(predicted: Sequence[ArrayLike], counts: Sequence[ArrayLike], ordinal: Sequence[bool]) -> float:
    """Correlation of predicted with true signed differences between groups, over questions and pairs of groups.

    Arguments as `spread`, and per question whether its options are ordered. Sampling noise of the true differences is
    *not* removed: a perfect model stays below 1 at small n. NaN when the predictions do not differ between groups.
    """
    columns: list[tuple[Floats, Floats, Floats]] = []
    for shares, table, ordered in zip(predicted, counts, ordinal, strict=True):
        answers = np.asarray(table, dtype=np.float64)
        n = answers.sum(axis=1)
        model = positions(distributions(shares, "predicted").T, ordered)
        truth = positions((answers / np.maximum(n, 1)[:, None]).T, ordered)
        columns.append((model, truth, np.broadcast_to(n > 0, model.shape).astype(np.float64)))
    model, truth, weight = (np.concatenate(parts)[:, :, None] for parts in zip(*columns, strict=True))
    return float(correlation(model, truth, weight)[0])
