"""Weights whose margins are given: iterative proportional fitting (Deming & Stephan 1940), or raking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cuma.metrics.pointwise import Floats

CLOSE = 1e-9
"""A margin is met where no share of it is farther off."""
ROUNDS = 2000


def rake(weights: Floats, margins: Sequence[tuple[NDArray[np.int64], Floats]]) -> tuple[Floats, Floats]:
    """Weights in proportion to the given ones, cell by cell, as far as the margins allow.

    Args:
        weights: [C], none below 0, at least one above.
        margins: each ([C] which value of its field a cell has, [V] the shares of the values, which sum to 1).

    Returns:
        ([C] weights that sum to 1, [margins] how far the worst share of each margin is off: at most `CLOSE` where
        they agree with each other and with the cells).
    """
    shares = weights / weights.sum()
    for _ in range(ROUNDS):
        for value, wanted in margins:
            now = np.bincount(value, shares, minlength=len(wanted))
            shares = shares * np.divide(wanted, now, out=np.zeros_like(now), where=now > 0)[value]
        total = shares.sum()
        shares = shares / total if total > 0 else shares
        off = np.array([_off(shares, value, wanted) for value, wanted in margins])
        if off.max(initial=0.0) <= CLOSE:
            break
    return shares, off


def _off(shares: Floats, value: NDArray[np.int64], wanted: Floats) -> float:
    return float(np.abs(np.bincount(value, shares, minlength=len(wanted)) - wanted).max())
