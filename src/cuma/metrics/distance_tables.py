"""Distances between groups in several spaces: whether they agree, who is near whom, which profile fields explain them.

Used for the router: groups in gate space beside groups by their answers and by their profiles' embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from cuma.metrics.pointwise import Floats

MIN_GROUPS = 4
"""Distances between fewer groups are not compared."""
MAX_FIELDS = 10
"""The most fields whose shares are computed; there are 2^F subsets of F fields."""
ROUNDING = 1e-12


@dataclass(frozen=True)
class Mantel:
    """A rank correlation of two tables of distances between the same groups (Mantel 1967)."""

    correlation: float
    low: float
    high: float
    """95 % of the correlations under permuted group labels lie between low and high."""
    p: float
    """(k+1)/(n+1): how often permuted labels give one at least as far from 0."""
    groups: int


def mantel(
    first: Floats, second: Floats, given: Floats | None = None, permutations: int = 999, seed: int = 0
) -> Mantel | None:
    """Spearman correlation of two distance tables [G, G], judged by permuting the groups of the first.

    Pairs of groups are not independent, so the yardstick is the same correlation under permuted labels. A group with a
    NaN in a table is left out. None with under 4 groups, or where all distances of a table are equal.

    Args:
        first, second: symmetric, zero on the diagonal.
        given: a third table, held fixed: the partial Mantel test (Smouse, Long and Sokal 1986).
        permutations: of labels.
        seed: of the permutations.
    """
    tables = [np.asarray(table) for table in (first, second, given) if table is not None]
    kept = np.all([whole(table) for table in tables], axis=0)
    groups = int(kept.sum())
    if groups < MIN_GROUPS:
        return None
    upper = np.triu_indices(groups, 1)
    ranks = [_ranks(table[np.ix_(kept, kept)]) for table in tables]
    if any(rank[upper].std() < ROUNDING for rank in ranks):
        return None
    rng = np.random.default_rng(seed)
    orders = [np.arange(groups), *(rng.permutation(groups) for _ in range(permutations))]
    values = np.array(
        [_correlation(ranks[0][np.ix_(order, order)][upper], *(r[upper] for r in ranks[1:])) for order in orders]
    )
    value, chance = float(values[0]), values[1:]
    low, high = np.quantile(chance, [0.025, 0.975]) if permutations else (np.nan, np.nan)
    as_far = int((np.abs(chance) >= abs(value) - ROUNDING).sum())
    return Mantel(value, float(low), float(high), (as_far + 1) / (permutations + 1), groups)


def whole(distances: Floats) -> NDArray[np.bool_]:
    """[G]: the groups to keep so that no distance is missing; those with the most missing ones go first."""
    kept = np.ones(len(distances), dtype=bool)
    missing = np.isnan(distances)
    while missing[np.ix_(kept, kept)].any():
        count = np.where(kept, (missing & kept[None, :]).sum(axis=1), -1)
        kept[int(count.argmax())] = False
    return kept


def _ranks(distances: Floats) -> Floats:
    """Centred ranks [G, G] of the pairs' distances, scaled to variance 1 where they differ."""
    ranks = rankdata(squareform(distances, checks=False))
    centred = ranks - ranks.mean()
    deviation = centred.std()
    return squareform(centred / deviation if deviation > 0 else centred, checks=False)


def _correlation(x: Floats, y: Floats, z: Floats | None = None) -> float:
    """Of centred values of variance 1; with z the partial correlation of x and y."""
    xy = float((x * y).mean())
    if z is None:
        return xy
    xz, yz = float((x * z).mean()), float((y * z).mean())
    scale = np.sqrt(max(1 - xz**2, 0.0) * max(1 - yz**2, 0.0))
    return (xy - xz * yz) / scale if scale > ROUNDING else 0.0


def gate_distances(gates: Floats) -> Floats:
    """[G, G]: the share of the mixture that two groups give to different experts, from gates [G, L layers, E].

    Total variation between the gates, averaged over layers: 0 served alike, 1 by no expert in common.
    """
    flat = np.asarray(gates, dtype=np.float64).reshape(len(gates), -1)
    return squareform(pdist(flat, metric="cityblock")) / (2 * np.shape(gates)[1])


def principal_axes(vectors: Floats) -> tuple[Floats, tuple[float, float]]:
    """Project [G, features] on the first two principal axes [G, 2], with the share of the variance that each holds.

    Signs are fixed, so that one input gives one map. The same picture as classical scaling of Euclidean distances.
    """
    centred = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    variance = singular**2
    total = variance.sum()
    shares = variance / total if total > 0 else np.zeros_like(variance)
    places = left * signs * singular
    places = np.pad(places, ((0, 0), (0, max(0, 2 - places.shape[1]))))
    shares = np.pad(shares, (0, max(0, 2 - len(shares))))
    return places[:, :2], (float(shares[0]), float(shares[1]))


def turned_to(positions: Floats, target: Floats) -> Floats:
    """A map [G, 2] turned and mirrored, but not stretched, to lie like another (orthogonal Procrustes)."""
    rotation, _ = orthogonal_procrustes(positions - positions.mean(axis=0), target - target.mean(axis=0))
    return np.asarray((positions - positions.mean(axis=0)) @ rotation)


def nearest(distances: Floats, k: int) -> NDArray[np.int64]:
    """[G, k]: each group's k nearest others, nearest first; ties go to the lower number, missing distances last."""
    table = np.where(np.isnan(distances), np.inf, distances)
    np.fill_diagonal(table, np.inf)
    order = np.argsort(table, axis=1, kind="stable")
    return order[:, : min(k, len(table) - 1)].astype(np.int64)


def shared_neighbours(first: Floats, second: Floats, k: int) -> float:
    """Share of each group's k nearest in one table that are among its k nearest in the other; k/(G-1) by chance."""
    one, other = nearest(first, k), nearest(second, k)
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one.tolist(), other.tolist(), strict=True)]))


def field_shares(fields: Mapping[str, Floats], vectors: Floats) -> dict[str, float] | None:
    """How much of the variance of `vectors` [G, features] each field explains; with the rest it adds up to 1.

    Adjusted R² of a regression on the fields' columns, divided among them by their Shapley values (Lindeman, Merenda
    and Gold 1980): the mean gain over all orders in which fields can come in. Fields that always go together share
    what both explain. A share can be a little below 0 by chance.

    Args:
        fields: field → its columns [G, values], such as one-hot values.
        vectors: what is to be explained.

    Returns:
        field → share. None where nothing varies, without fields or with over 10, and where the fields differ between
        nearly all groups (columns ≥ G - 2), so that they would explain anything.
    """
    target = vectors - vectors.mean(axis=0)
    total = float((target**2).sum())
    names = list(fields)
    if not 0 < len(names) <= MAX_FIELDS or total < ROUNDING:
        return None
    rank = np.linalg.matrix_rank(_design([fields[name] for name in names], len(vectors)))
    if rank > len(vectors) - 2:
        return None
    explained = {
        subset: _adjusted(_design([fields[name] for name in subset], len(vectors)), target, total)
        for size in range(len(names) + 1)
        for subset in combinations(names, size)
    }
    return {name: _shapley(name, names, explained) for name in names}


def _design(columns: list[Floats], groups: int) -> Floats:
    return np.concatenate([np.ones((groups, 1)), *columns], axis=1)


def _adjusted(design: Floats, target: Floats, total: float) -> float:
    """Adjusted R² of centred `target` [G, features] on `design` [G, columns], which holds the constant."""
    solution, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    rest = float(((target - design @ solution) ** 2).sum()) / total
    return 1 - rest * (len(target) - 1) / (len(target) - int(rank))


def _shapley(name: str, names: list[str], explained: Mapping[tuple[str, ...], float]) -> float:
    others = [other for other in names if other != name]
    gain = 0.0
    for size in range(len(others) + 1):
        weight = factorial(size) * factorial(len(others) - size) / factorial(len(names))
        for subset in combinations(others, size):
            with_it = tuple(other for other in names if other in subset or other == name)
            gain += weight * (explained[with_it] - explained[subset])
    return gain
