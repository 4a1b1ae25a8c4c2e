"""The people's side of the metrics, the same for every method: noise floors, and how diverse people are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuma.metrics.cell_sums import Cells
from cuma.metrics.inference import GroupDraws
from cuma.metrics.measure import pair_sum
from cuma.metrics.noise import chance_diversity, noise_floor, sampler_floor
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Sample


@dataclass(frozen=True, eq=False)
class Truth:
    """Noise floors, and the spread's denominator with chance removed: as observed, and over bootstrap draws."""

    floors: tuple[Floats, Floats]
    """[Q, G, 1] each: noise floor and sampler floor of every cell, 0 in empty ones."""
    diversity: Floats
    """[1]: Σ JSD between observed groups, less its mean under permuted labels."""
    drawn: Floats
    """[B]: the same with groups drawn."""

    @classmethod
    def of(cls, people: Sample, sums: Floats, draws: GroupDraws, seed: int) -> Truth:
        """From the sums [K+Q, G, 1] of `Sample.features`, and draws of the groups."""
        cells = Cells.of(people, sums)
        tables = people.effective_counts()
        chance = [chance_diversity(counts, seed=(seed, number)) for number, counts in enumerate(tables)]
        n = np.stack([counts.sum(axis=1) for counts in tables]).astype(np.float64)
        shares = chance_shares(n, np.array(chance))
        once = np.ones((len(people.groups), 1))
        observed = pair_sum(cells, cells.observed, once) - sum(chance)
        drawn = pair_sum(cells, cells.observed, draws.times) - _between_groups(shares, draws.times * (cells.n > 0))
        return cls(cell_floors(people, seed), observed, drawn)


def cell_floors(people: Sample, seed: int) -> tuple[Floats, Floats]:
    """Noise floor and sampler floor of every cell, [Q, G, 1] each; 0 in empty cells."""
    pairs = list(enumerate(zip(people.scales, people.effective_counts(), strict=True)))
    noise = [np.nan_to_num(noise_floor(counts, scale.ordinal, seed=(seed, q))) for q, (scale, counts) in pairs]
    sampler = [np.nan_to_num(sampler_floor(counts, scale.ordinal, seed=(seed, q))) for q, (scale, counts) in pairs]
    return np.stack(noise)[:, :, None], np.stack(sampler)[:, :, None]


def chance_shares(n: Floats, chance: Floats) -> Floats:
    """Splits each question's chance diversity [Q] over groups: c [Q, G] with Σ_{i<j} (c_i + c_j) = chance.

    To leading order the noise of JSD(p_i, p_j) is proportional to 1/n_i + 1/n_j whatever the distributions. That says
    how much of it belongs to which pair, once a draw holds other pairs than the sample. n [Q, G]: people who answered.
    """
    inverse = np.where(n > 0, 1.0 / np.maximum(n, 1.0), 0.0)
    total = inverse.sum(axis=1) * np.maximum((n > 0).sum(axis=1) - 1, 1)
    return np.asarray(inverse * (chance / np.where(total > 0, total, 1.0))[:, None])


def _between_groups(shares: Floats, times: Floats) -> Floats:
    """[B]: noise that the sample itself put between the groups drawn; copies of one group share it, so it cancels."""
    total = times.sum(axis=1, keepdims=True)
    return np.asarray((times * shares[:, :, None] * (total - times)).sum(axis=(0, 1)))
