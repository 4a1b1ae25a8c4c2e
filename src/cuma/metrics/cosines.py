"""How much the gradients of groups agree: cosines between groups, and between batches of one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cuma.metrics.inference import GroupDraws, estimate, group_deviations, known
from cuma.metrics.pointwise import Floats, ratio

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
    replicates: dict[str, Floats]
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
        group_draws = GroupDraws.of(groups, draws, seed)
        once = np.ones((groups, 1))
        value = {name: float(array[0]) for name, array in _figures(matrix, between, within, once).items()}
        return cls(matrix, value, _figures(matrix, between, within, group_draws.times), group_draws)

    def entries(self) -> dict[str, Any]:
        """In the form of gradients.json."""
        entries: dict[str, Any] = {"cosine": [[known(value) for value in row] for row in self.matrix]}
        for name, value in self.value.items():
            deviations = group_deviations(value, self.replicates[name], self.draws)
            entries[name] = estimate(value, deviations, BOUNDS[name])
        return entries

    def minus(self, other: Cosines) -> dict[str, Any]:
        """The difference of agreement, paired: both were drawn with one seed. Parameters with noisier gradients have
        lower cosines between groups, but no lower agreement."""
        value = self.value["agreement"] - other.value["agreement"]
        replicates = self.replicates["agreement"] - other.replicates["agreement"]
        return estimate(value, group_deviations(value, replicates, self.draws))


def _known_mean(values: Floats) -> Floats:
    """The mean over the last axis of what is not NaN; NaN where nothing is."""
    there = np.isfinite(values)
    return ratio(np.where(there, values, 0.0).sum(axis=-1), there.sum(axis=-1))


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
        "agreement": ratio(others, same),
        "conflicting": _mean(np.where(np.isnan(matrix), np.nan, matrix < 0)[first, second], pairs),
    }


def _mean(values: Floats, weight: Floats) -> Floats:
    there = np.isfinite(values)[:, None] * weight
    return ratio((np.nan_to_num(values)[:, None] * there).sum(axis=0), there.sum(axis=0))
