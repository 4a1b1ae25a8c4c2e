"""Low-rank completion of the table groups × (item, option), where many of the cells are missing.

The roots of a group's shares are the items' means plus u_g · V, with few columns; each cell counts as its number of
people. Alternating ridge regressions find both (Hastie, Mazumder, Lee & Zadeh 2015, section 5: softImpute-ALS without
the imputation), from the singular vectors of the table with zeros for what is missing. It reads nothing: a new group
gets the u that a ridge regression on its fields says, a new item the average.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from sklearn.linear_model import RidgeCV

from cuma.evaluation.anchor_choice import best
from cuma.evaluation.anchor_data import Floats, Ints, Known, Said, one_hot_fields
from cuma.evaluation.option_scales import said_of, squared

RANKS = (1, 2, 3, 5, 8)
PENALTIES = tuple(float(value) for value in np.logspace(-2, 1.5, 8))
ROUNDS = 20


@dataclass(frozen=True, eq=False)
class _Table:
    """groups × (item, option)."""

    groups: Ints
    """Places of the G' groups that have training cells."""
    start: dict[int, int]
    """Question → its first column."""
    rest: Floats
    """[G', C]: roots of shares less the mean over groups; 0 where missing."""
    weight: Floats
    """[G', C]: people over the mean number of people; 0 where missing."""
    mean: Floats
    """[C]"""


def low_rank(known: Known) -> Said:
    """Rank and penalty are chosen on the cells to choose by."""
    choices = list(product(RANKS, PENALTIES))
    choice = best(known, choices, lambda trial, one: said_of(trial, _fit(trial, *one), "").shares)
    return said_of(known, _fit(known, *choice), "")


def _fit(known: Known, rank: int, penalty: float) -> list[Floats | None]:
    """What is said of the asked cells; None of new items."""
    table = _table(known)
    left, right = _factors(table, min(rank, *table.rest.shape), penalty)
    whole = _with_new_groups(known, table, left) @ right + table.mean
    shares: list[Floats | None] = []
    for group, question in zip(*known.asked, strict=True):
        first = table.start.get(int(question))
        size = len(known.questions[question].options)
        shares.append(None if first is None else squared(whole[[group], first : first + size])[0])
    return shares


def _table(known: Known) -> _Table:
    cells = known.training
    groups = np.unique(cells.group)
    sizes = [len(known.questions[k].options) for k in known.trained]
    start = dict(zip(known.trained.tolist(), np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    roots, weight = np.zeros((len(groups), sum(sizes))), np.zeros((len(groups), sum(sizes)))
    for row, group in enumerate(np.searchsorted(groups, cells.group)):
        first = start[int(cells.question[row])]
        columns = slice(first, first + len(cells.counts[row]))
        roots[group, columns], weight[group, columns] = np.sqrt(cells.shares[row]), cells.n[row] / cells.n.mean()
    there = weight > 0
    mean = roots.sum(axis=0) / there.sum(axis=0)
    return _Table(groups, start, np.where(there, roots - mean, 0.0), weight, mean)


def _factors(table: _Table, rank: int, penalty: float) -> tuple[Floats, Floats]:
    """[G', k] and [k, C]"""
    _, sizes, vectors = np.linalg.svd(table.rest, full_matrices=False)
    right = np.sqrt(sizes[:rank, None]) * vectors[:rank]
    for _ in range(ROUNDS):
        left = _solved(table.weight, table.rest, right.T, penalty)
        right = _solved(table.weight.T, table.rest.T, left, penalty).T
    return left, right


def _solved(weight: Floats, rest: Floats, columns: Floats, penalty: float) -> Floats:
    """[R, k]: each row's ridge regression of rest [R, C] on columns [C, k]."""
    rank = columns.shape[1]
    pairs = (columns[:, :, None] * columns[:, None]).reshape(len(columns), rank * rank)
    squares = (weight @ pairs).reshape(-1, rank, rank)
    products = (weight * rest) @ columns
    return np.asarray(np.linalg.solve(squares + penalty * np.eye(rank), products[:, :, None])[:, :, 0])


def _with_new_groups(known: Known, table: _Table, left: Floats) -> Floats:
    """[G, k]: of all groups."""
    fields = one_hot_fields(known.groups)
    whole = np.tile(left.mean(axis=0), (len(known.groups), 1))
    if fields.shape[1] and len(left) > 1:
        model = RidgeCV(alphas=np.logspace(-2, 3, 11)).fit(fields[table.groups], left)
        whole = np.asarray(model.predict(fields)).reshape(len(fields), -1)
    whole[table.groups] = left
    return whole
