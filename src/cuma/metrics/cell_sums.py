"""Cells (group × question) over bootstrap draws: what people answered in them, and what a method said."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Item, Sample


@dataclass(frozen=True, eq=False)
class Cells:
    """What people answered in S groups (or bootstrap slots) of B draws; K options of all questions side by side."""

    people: Sample
    n: Floats
    """[Q, S, B] people who answered (their weights)."""
    observed: Floats
    """[K, S, B] their answers' distribution; zeros in an empty cell."""

    @classmethod
    def of(cls, people: Sample, sums: Floats) -> Cells:
        """From weighted sums [K+Q, S, B] over people of `Sample.features`."""
        options = len(people.column_question)
        n = sums[options:]
        return cls(people, n, sums[:options] / at_least_one(n)[people.column_question])

    def scales(self) -> list[tuple[Item, slice]]:
        """Each question with its columns among the K options."""
        return [(scale, self.people.columns(number)) for number, scale in enumerate(self.people.scales)]

    def at(self, group: int) -> Cells:
        """One group's alone (S = 1)."""
        return Cells(self.people, self.n[:, group : group + 1], self.observed[:, group : group + 1])


@dataclass(frozen=True, eq=False)
class CellPredictions:
    """What a method said in the same cells."""

    predicted: Floats
    """[K, S, B] mean predicted distribution."""
    greedy: Floats
    """[K, S, B] share of people who were told each option as the likeliest one."""
    correct: Floats
    """[K, S, B] share of people who were told it and gave it."""
    hits: Floats
    """[Q, S, B] share of people whose answer is the argmax."""
    entropy: Floats
    """[Q, S, B] mean entropy (nats) of the predictions."""
    mass: Floats
    """[Q, S, B] mean probability on the answer letters."""
    brier: Floats
    """[Q, S, B] mean Brier score."""
    calibration: Floats
    """[BINS, S, B] hits minus confidence, summed over people and questions."""
    unsteered: Floats | None
    """[K, 1, 1] what the method says when it is not told who asks."""

    @classmethod
    def of(cls, cells: Cells, sums: Floats, base: Floats, unsteered: Floats | None) -> CellPredictions:
        """From weighted sums [3K+4Q+BINS, S, B] over people of `Said.features`, and `Said.base` [K, S, B or 1]."""
        options, questions = len(cells.observed), len(cells.n)
        n = at_least_one(cells.n)
        per_option = sums[: 3 * options].reshape(3, options, *n.shape[1:]) / n[cells.people.column_question]
        rest, calibration = np.split(sums[3 * options :], [4 * questions])
        hits, entropy, mass, brier = rest.reshape(4, questions, *n.shape[1:]) / n
        alone = None if unsteered is None else unsteered[:, None, None]
        return cls(base + per_option[0], per_option[1], per_option[2], hits, entropy, mass, brier, calibration, alone)

    def at(self, group: int) -> CellPredictions:
        """One group's alone (S = 1)."""
        one = slice(group, group + 1)
        return CellPredictions(
            self.predicted[:, one],
            self.greedy[:, one],
            self.correct[:, one],
            self.hits[:, one],
            self.entropy[:, one],
            self.mass[:, one],
            self.brier[:, one],
            self.calibration[:, one],
            self.unsteered,
        )


def at_least_one(n: Floats) -> Floats:
    """`n`, and 1 where it is 0: what empty cells are divided by."""
    return np.where(n > 0, n, 1.0)
