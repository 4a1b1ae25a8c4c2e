"""How much the gradients of groups agree: cosines between groups, and between batches of one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cuma.metrics.estimates import entry
from cuma.metrics.inference import GroupDraws, deviations, interval
from cuma.metrics.pointwise import Floats

DRAWS = 1000
BOUNDS = {"between": (-1.0, 1.0), "within": (-1.0, 1.0), "agreement": (-np.inf, np.inf), "conflicting": (0.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Cosines:
    """Cosines of one kind of parameters."""

    matrix: Floats
    """[G, G] between groups' mean gradients; NaN for a group whose gradient is zero."""
    value: dict[str, float]
    """between: mean cosine of two batches of different groups; within: of one group; agreement: between / within, the
    cosine that is left when the noise of batches is taken out (Spearman's correction for attenuation); conflicting:
    share of pairs of groups whose mean gradients have a negative cosine."""
    drawn: dict[str, Floats]
    """The same over draws of groups, [B]."""
    draws: GroupDraws

    @classmethod
    def of(cls, gradients: ArrayLike, seed: int = 0, draws: int = DRAWS) -> Cosines:
        """From gradients [G groups, B batches, n]. The same seed draws the same groups, whatever the gradients."""
        vectors: NDArray[Any] = np.asarray(gradients, dtype=np.float32)
        groups, batches, _ = vectors.shape
        matrix = _cosine(vectors.mean(axis=1))
        each = _cosine(vectors.reshape(groups * batches, -1)).reshape(groups, batches, groups, batches)
        pairs = np.moveaxis(each, 2, 1).reshape(groups, groups, -1)  # all pairs of batches
        between = _known_mean(pairs)
        apart = ~np.eye(batches, dtype=bool).ravel()
        within = _known_mean(np.stack([pairs[group, group][apart] for group in range(groups)]))
        drawn = GroupDraws.of(groups, draws, seed)
        once = np.ones((groups, 1))
        value = {name: float(array[0]) for name, array in _figures(matrix, between, within, once).items()}
        return cls(matrix, value, _figures(matrix, between, within, drawn.times), drawn)

    def entries(self) -> dict[str, Any]:
        """In the form of gradients.json."""
        found: dict[str, Any] = {"cosine": [[_known(value) for value in row] for row in self.matrix]}
        for name, value in self.value.items():
            around = deviations(value, self.drawn[name], self.draws)
            found[name] = entry(value, interval(value, around), BOUNDS[name])
        return found

    def minus(self, other: Cosines) -> dict[str, Any]:
        """The difference of agreement, paired: both were drawn with one seed. Parameters with noisier gradients have
        lower cosines between groups, but no lower agreement."""
        value = self.value["agreement"] - other.value["agreement"]
        drawn = self.drawn["agreement"] - other.drawn["agreement"]
        return entry(value, interval(value, deviations(value, drawn, self.draws)))


def _known_mean(values: Floats) -> Floats:
    """The mean over the last axis of what is not NaN; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)


def _cosine(vectors: NDArray[Any]) -> Floats:
    """[N, N] of vectors [N, n]."""
    gram = (vectors @ vectors.T).astype(np.float64)
    length = np.sqrt(np.diag(gram))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(gram / np.outer(length, length), -1.0, 1.0)


def _figures(matrix: Floats, between: Floats, within: Floats, times: Floats) -> dict[str, Floats]:
    """Each figure [B], groups counted `times` [G, B]; copies of one group make no pair."""
    first, second = np.triu_indices(len(matrix), 1)
    pairs = times[first] * times[second]
    others, same = _mean(between[first, second], pairs), _mean(within, times)
    return {
        "between": others,
        "within": same,
        "agreement": np.where(same > 0, others / np.where(same > 0, same, 1.0), np.nan),
        "conflicting": _mean(np.where(np.isnan(matrix), np.nan, matrix < 0)[first, second], pairs),
    }


def _mean(values: Floats, weight: Floats) -> Floats:
    there = np.isfinite(values)[:, None] * weight
    total = there.sum(axis=0)
    summed = (np.nan_to_num(values)[:, None] * there).sum(axis=0)
    return np.where(total > 0, summed / np.where(total > 0, total, 1.0), np.nan)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
