"""Replicate weights of a design, as surveys publish them."""

from __future__ import annotations

import numpy as np
from scipy.linalg import hadamard


def half_samples(stratum: np.ndarray, unit: np.ndarray, fay: float = 0.0) -> np.ndarray:
    """[N, R] times: balanced halves of strata [N] of two units, 0 and 1 [N]; with `fay` the other half counts so."""
    strata = int(stratum.max()) + 1
    size = 1 << int(strata).bit_length()
    chosen = hadamard(size)[:, 1 : strata + 1] > 0
    mine = (unit == 1)[:, None] == chosen[:, stratum].T
    return np.where(mine, 2 - fay, fay)


def left_out(stratum: np.ndarray, unit: np.ndarray, one_each: bool = False) -> np.ndarray:
    """[N, R] times: without each unit once, the others of its stratum raised; `one_each`: each stratum's first only."""
    columns = []
    for of in np.unique(stratum):
        units = np.unique(unit[stratum == of])
        for gone in units[:1] if one_each else units:
            raised = np.where(unit == gone, 0.0, len(units) / (len(units) - 1))
            columns.append(np.where(stratum == of, raised, 1.0))
    return np.stack(columns, axis=1)
