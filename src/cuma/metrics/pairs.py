"""Sums over all pairs of groups, vectorised over bootstrap draws."""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from cuma.metrics.pointwise import Floats


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


def jsd_table(shares: Floats) -> Floats:
    """[G, G]: JSD in nats between all pairs of groups' distributions [m options, G groups]; exactly 0 for equals."""
    single = sum(entr(option) for option in shares)
    mixed = sum(entr((option[:, None] + option) * 0.5) for option in shares)
    return np.asarray(np.maximum(mixed - (single[:, None] + single) * 0.5, 0.0))


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
