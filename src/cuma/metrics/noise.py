"""What sampling noise alone does: the floor of the EMD, and the diversity of groups that do not differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import random_table

from cuma.metrics.pointwise import Floats, emd_unchecked, pairwise_jsd_sum

PERMUTATIONS = 200
"""Permuted tables behind `chance_diversity`; its own Monte-Carlo error is then about 1 % of itself."""


def noise_floor(counts: ArrayLike, ordinal: bool = True, draws: int = 1000, seed: int | Sequence[int] = 0) -> Floats:
    """Expected soft EMD of a *perfect* model, for answer counts [G groups, m options]; returns [G].

    Parametric bootstrap: the observed distribution of a cell stands for the truth, `draws` samples of the cell's own n
    are drawn from it, and their mean distance to it is the distance that a model which predicts the truth would show.
    A cell without answers gives NaN.
    """
    return _expected_emd(counts, ordinal, draws, seed, sampled=False)


def sampler_floor(counts: ArrayLike, ordinal: bool = True, draws: int = 1000, seed: int | Sequence[int] = 0) -> Floats:
    """Expected EMD [G] of a perfect *sampler*, which gives one answer for each person, drawn from the truth.

    The same parametric bootstrap as `noise_floor`, with the sampler's answers drawn too: the floor of every EMD between
    single answers, WorldValuesBench's among them.
    """
    return _expected_emd(counts, ordinal, draws, seed, sampled=True)


def _expected_emd(counts: ArrayLike, ordinal: bool, draws: int, seed: int | Sequence[int], *, sampled: bool) -> Floats:
    """[G]: mean EMD between people's answers, drawn from what was observed, and the truth, or another such draw."""
    table = _counts(counts)
    n = table.sum(axis=1)
    there = n > 0
    floor = np.full(len(table), np.nan)
    if there.any():
        truth = table[there] / n[there, None]
        rng, size = np.random.default_rng(seed), (draws, int(there.sum()))
        people = rng.multinomial(n[there], truth, size=size) / n[there, None]
        predicted = rng.multinomial(n[there], truth, size=size) / n[there, None] if sampled else truth
        floor[there] = emd_unchecked(people - predicted, ordinal).mean(axis=0)
    return floor


def chance_diversity(counts: ArrayLike, permutations: int = PERMUTATIONS, seed: int | Sequence[int] = 0) -> float:
    """Mean over permuted group labels of the sum over pairs of groups of JSD (nats), for answer counts [G, m].

    Permuting the labels of people keeps every group's size and every option's total, and nothing else: the counts are
    then a random table with these margins, which is what is drawn. Groups without answers are left out.
    """
    table = _counts(counts)
    table = table[table.sum(axis=1) > 0]
    options = table.sum(axis=0)
    if len(table) < 2 or (options > 0).sum() < 2:
        return 0.0
    kept = table[:, options > 0]
    tables = random_table(kept.sum(axis=1), kept.sum(axis=0)).rvs(
        permutations, random_state=np.random.default_rng(seed)
    )
    shares = np.moveaxis(tables / kept.sum(axis=1)[:, None], 0, -1)  # [G, m, permutations]
    return float(pairwise_jsd_sum(shares.transpose(1, 0, 2), np.ones((len(kept), 1))).mean())


def chance_shares(n: Floats, chance: Floats) -> Floats:
    """Splits each question's chance diversity [Q] over groups: c [Q, G] with Σ_{i<j} (c_i + c_j) = chance.

    To leading order the noise of JSD(p_i, p_j) is proportional to 1/n_i + 1/n_j whatever the distributions. That says
    how much of it belongs to which pair, once a draw holds other pairs than the sample. n [Q, G]: people who answered.
    """
    inverse = np.where(n > 0, 1.0 / np.maximum(n, 1.0), 0.0)
    total = inverse.sum(axis=1) * np.maximum((n > 0).sum(axis=1) - 1, 1)
    return np.asarray(inverse * (chance / np.where(total > 0, total, 1.0))[:, None])


def _counts(counts: ArrayLike) -> np.ndarray:
    table = np.asarray(counts)
    if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any() or (table != np.rint(table)).any():
        raise ValueError(
            f"Expected whole answer counts [groups, options], got shape {table.shape}, dtype {table.dtype}."
        )
    return table.astype(np.int64)
