"""Choosing what an anchor cannot learn by itself, such as a penalty: by soft EMD on the cells that are kept for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from cuma.errors import BenchmarkError
from cuma.evaluation.anchor_data import Cells, Floats, Known
from cuma.metrics import emd

Choice = TypeVar("Choice")


def best(
    known: Known, choices: Sequence[Choice], fit: Callable[[Known, Choice], list[Floats]], of_groups: bool = False
) -> Choice:
    """The choice whose fit has the least mean soft EMD over the cells to choose by (`Known.trial`); the first of equal
    ones. Cells of which a fit says nothing (NaN) do not count. Raises BenchmarkError where there are no others."""
    trial, cells = known.trial(of_groups)
    errors = [mean_emd(trial, fit(trial, choice), cells) for choice in choices if len(cells) and len(trial.training)]
    if not errors or not np.isfinite(errors).all():
        raise BenchmarkError(
            f"{known.name}: {len(known.training)} training and {len(known.choosing)} validation cells are too few to "
            "choose an anchor's penalty by. It takes two groups that answered one question."
        )
    return choices[int(np.argmin(errors))]


def mean_emd(known: Known, shares: Sequence[Floats], cells: Cells) -> float:
    """Mean soft EMD between the shares and what the cells' people answered, over cells; NaN without any."""
    errors = [np.zeros(0)]
    for place in np.unique(cells.question):
        rows = np.flatnonzero(cells.question == place).tolist()
        predicted, people = (np.stack([values[row] for row in rows]) for values in (shares, cells.shares))
        there = np.isfinite(predicted).all(axis=1)
        errors.append(emd(predicted[there], people[there], known.questions[place].ordinal))
    every = np.concatenate(errors)
    return float(every.mean()) if len(every) else float("nan")
