"""Mean collapse, measured: do predicted groups differ as much as people do (spread), and in the same way (alignment)?

Both compare differences *between groups*, so a model that gives everybody the world average has no spread at all,
however small its error is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from cuma.metrics.noise import chance_diversity
from cuma.metrics.pointwise import Floats, correlation, distributions, pairwise_jsd_sum, positions


def spread(predicted: Sequence[ArrayLike], counts: Sequence[ArrayLike], seed: int = 0) -> float:
    """Σ_questions Σ_{i<j} JSD(pred_i, pred_j) / (Σ Σ JSD(true_i, true_j) - its mean under permuted group labels).

    predicted: per question [G groups, m options]; counts: per question people's answers [G, m], groups in the same
    order. 0: collapsed; 1: as diverse as people; above 1: exaggerated. The truth's own sum is inflated by sampling
    noise, which the permuted labels measure and the subtraction removes. Groups without answers to a question are left
    out of it. NaN when people's groups differ by no more than chance: there is then nothing to collapse.
    """
    model, people = 0.0, 0.0
    for number, (shares, table) in enumerate(zip(predicted, counts, strict=True)):
        answers = np.asarray(table)
        n = answers.sum(axis=1)
        there = n > 0
        sides = distributions(shares, "predicted")[there], answers[there] / n[there, None]
        once = np.ones((int(there.sum()), 1))
        own, truth = (float(pairwise_jsd_sum(side.T[:, :, None], once)[0]) for side in sides)
        model += own
        people += truth - chance_diversity(answers, seed=(seed, number))
    return model / people if people > 0 else float("nan")


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
