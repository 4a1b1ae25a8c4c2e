"""How far groups of people lie from each other in their answers, and how far they would by chance alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import random_table

from cuma.metrics.noise import chance_shares
from cuma.metrics.pointwise import Floats, pairwise_jsd_sum

SINGULAR = 1e-8
"""Directions in which people vary less than this share of the widest are left out of the inverse covariance."""
MAX_CLUSTERS = 10
_CELLS = 4_000_000
"""Numbers held at once while tables are drawn."""


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """One question under permuted group labels."""

    observed: float
    """Sum over pairs of groups of the JSD, in nats."""
    chance: float
    """Its mean under permutation."""
    p: float
    """(k+1)/(n+1): how often chance gives as much."""


def permutation_test(counts: ArrayLike, permutations: int = 1000, seed: int | Sequence[int] = 0) -> PermutationTest:
    """Do groups answer one question alike? counts: whole numbers [G, m]; groups without answers are left out.

    Labels are permuted over people, which makes the counts a random table with the same margins: that is drawn. Where
    nothing can differ (one group, one option) p is 1.
    """
    table = np.asarray(counts).astype(np.int64)
    table = table[table.sum(axis=1) > 0]
    table = table[:, table.sum(axis=0) > 0]
    if len(table) < 2 or table.shape[1] < 2:
        return PermutationTest(0.0, 0.0, 1.0)
    n = table.sum(axis=1)
    once = np.ones((len(table), 1))

    def total(tables: NDArray[np.int64]) -> Floats:
        shares = np.moveaxis(tables / n[:, None], 0, -1)
        return pairwise_jsd_sum(np.ascontiguousarray(shares.transpose(1, 0, 2)), once)

    observed = float(total(table[None])[0])
    drawn, rng = [], np.random.default_rng(seed)
    margins = random_table(n, table.sum(axis=0))
    step = max(1, _CELLS // table.size)
    for start in range(0, permutations, step):
        drawn.append(total(margins.rvs(min(step, permutations - start), random_state=rng)))
    chance = np.concatenate(drawn) if drawn else np.zeros(0)
    as_much = int((chance >= observed - 1e-12).sum())  # ties: the same table comes out with another rounding
    return PermutationTest(observed, float(chance.mean()) if len(chance) else 0.0, (as_much + 1) / (permutations + 1))


def chance_jsd(counts: ArrayLike, chance: float) -> Floats:
    """What chance alone gives each pair [G, G], of its sum over all pairs: in proportion to 1/n_i + 1/n_j."""
    share = chance_shares(np.asarray(counts, dtype=float).sum(axis=1)[None], np.array([chance]))[0]
    return np.asarray(share[:, None] + share[None, :])


def value_space(options: int, ordinal: bool) -> Floats:
    """Where each option stands in the value space [m, d]: on a scale in [0, 1], or one-hot less the last (d = m-1)."""
    if ordinal or options == 2:
        return np.linspace(0.0, 1.0, options)[:, None]
    return np.eye(options)[:, :-1]


def mahalanobis(means: Floats, covariance: Floats) -> tuple[Floats, int]:
    """(μ_i-μ_j)ᵀ Σ̄⁻¹ (μ_i-μ_j) for all pairs [G, G] of means [G, d], and the dimension in which it was taken.

    covariance [d, d]: pooled within groups. Where it is singular its pseudo-inverse is used, and the dimension is its
    rank: differences in directions in which nobody differs from their own group do not count.
    """
    variances, axes = np.linalg.eigh(covariance)
    kept = variances > SINGULAR * max(float(variances.max(initial=0.0)), 1e-12)
    scaled = (means @ axes[:, kept]) / np.sqrt(variances[kept])
    difference = scaled[:, None, :] - scaled[None, :, :]
    return np.asarray((difference**2).sum(axis=-1)), int(kept.sum())


def question_mahalanobis(weights: Floats, ordinal: bool, pooled_degrees: bool = True) -> tuple[Floats, int]:
    """`mahalanobis` on one question, from counts [G, m] of answers, or shares of them; NaN for groups without any.

    pooled_degrees: Σ̄ is divided by N - G, as from counts; otherwise every group weighs the same (shares, no counts).
    """
    n = weights.sum(axis=1)
    there = n > 0
    result = np.full((len(n), len(n)), np.nan)
    if there.sum() < 2:
        return result, 0
    shares = weights[there] / n[there, None]
    places = value_space(weights.shape[1], ordinal)
    means = shares @ places
    moments = np.einsum("gm,ma,mb->gab", shares, places, places) - means[:, :, None] * means[:, None, :]
    if pooled_degrees:
        covariance = (n[there, None, None] * moments).sum(axis=0) / max(n.sum() - there.sum(), 1.0)
    else:
        covariance = moments.mean(axis=0)
    distance, rank = mahalanobis(means, covariance)
    result[np.ix_(there, there)] = distance
    return result, rank


def joint_mahalanobis(values: Floats, group: NDArray[np.int64], groups: int) -> tuple[Floats, int]:
    """`mahalanobis` over all questions together. values: [N people, d], NaN where not answered; group: [N] in 0..G-1.

    Σ̄ is pooled within groups over the people who answered both of two columns. A group in which nobody
    answered some column has NaN against all others.
    """
    there = ~np.isnan(values)
    filled = np.where(there, values, 0.0)
    n, sums = np.zeros((groups, values.shape[1])), np.zeros((groups, values.shape[1]))
    for number in range(groups):
        rows = group == number
        n[number], sums[number] = there[rows].sum(axis=0), filled[rows].sum(axis=0)
    means = sums / np.maximum(n, 1)
    deviation = np.where(there, filled - means[group], 0.0)
    both = there.astype(np.float64)
    covariance = (deviation.T @ deviation) / np.maximum(both.T @ both - groups, 1.0)
    whole = (n > 0).all(axis=1)
    result = np.full((groups, groups), np.nan)
    if whole.sum() < 2:
        return result, 0
    distance, rank = mahalanobis(means[whole], covariance)
    result[np.ix_(whole, whole)] = distance
    return result, rank


def clusters(distance: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Average linkage on distances [G, G]: each group's cluster (from 0, along the order), the order, the silhouette.

    The number of clusters, 2 to 10, is the one with the largest mean silhouette. Under three groups: one cluster, NaN.
    """
    count = len(distance)
    if count < 3 or not (distance > 0).any():
        return np.zeros(count, dtype=np.int64), np.arange(count), float("nan")
    from sklearn.metrics import silhouette_score  # takes a second to import, and only this function needs it

    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=count <= 200)
    order = leaves_list(tree).astype(np.int64)
    best, chosen = -np.inf, np.zeros(count, dtype=np.int64)
    for number in range(2, min(MAX_CLUSTERS, count - 1) + 1):
        labels = fcluster(tree, number, "maxclust")
        if len(set(labels)) > 1:
            score = float(silhouette_score(distance, labels, metric="precomputed"))
            if score > best:
                best, chosen = score, labels
    numbers = {label: number for number, label in enumerate(dict.fromkeys(chosen[order].tolist()))}
    return np.array([numbers[label] for label in chosen.tolist()]), order, best
