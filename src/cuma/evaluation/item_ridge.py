"""Ridge regression over all groups and items at once: the profile's fields, the item, and fields × wording.

The root of a share is the mean at its place among the options plus w · (φ_g ⊗ ψ_q), where φ_g is 1 and the group's
one-hot fields, ψ_q is 1, the item's own column, and its wording's embedding; one penalty for all weights. Solved in its
dual form, whose matrix has a row for each cell (Hastie, Tibshirani & Friedman 2009, section 12.3.7).
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from cuma.evaluation.anchor_choice import best
from cuma.evaluation.anchor_data import Floats, Ints, Known, Said, by_lot, one_hot_fields
from cuma.evaluation.option_scales import Scale, said_of, scales
from cuma.evaluation.text_process import TEXT, TO_FIT, texts_of

PENALTIES = tuple(float(value) for value in np.logspace(-2, 3, 11))
TO_CHOOSE = 1000
"""Cells of one kind of options at most that a penalty is tried on."""


def ridge_on_items(known: Known) -> Said:
    """One penalty, chosen on the cells to choose by, of all corners that they have."""
    penalty = best(known, PENALTIES, lambda trial, one: said_of(trial, _fit(trial, one, TO_CHOOSE)[0], TEXT).shares)
    shares, left_out = _fit(known, penalty, TO_FIT)
    return said_of(known, shares, TEXT, left_out)


def _fit(known: Known, penalty: float, most: int) -> tuple[list[Floats | None], int]:
    """What is said of the asked cells, and how many training cells are left out."""
    shares: list[Floats | None] = [None] * len(known.asked[0])
    left_out = 0
    fields = one_hot_fields(known.groups)
    groups = np.column_stack([np.ones(len(fields)), fields / max(1.0, fields.sum(axis=1).max(initial=0.0)) ** 0.5])
    items = texts_of(known)[1]
    for scale, asked in scales(known, known.training):
        kept = by_lot(known.names(scale.cells), min(1.0, most / len(scale.cells)), "fit")
        left_out += int((~kept).sum())
        for row, answer in _answers(scale.only(kept), asked, groups @ groups.T, items, penalty):
            shares[row] = answer
    return shares, left_out


def _answers(scale: Scale, asked: Ints, groups: Floats, items: Floats, penalty: float) -> list[tuple[int, Floats]]:
    """Asked places and what is said of them. groups: [G, G] products of φ; items: [Q, D] embeddings."""
    known, cells = scale.known, scale.cells
    if not len(asked):
        return []
    used = np.unique(cells.question)
    wording = items - items[used].mean(axis=0)
    square = max((wording[used] ** 2).sum(axis=1).mean(), 1e-12)
    products = 1 + np.eye(len(items)) + wording @ wording.T / square
    noise = np.diag(penalty * cells.n.mean() / cells.n)
    whole = groups[np.ix_(cells.group, cells.group)] * products[np.ix_(cells.question, cells.question)]
    factor = linalg.cho_factor(whole + noise, lower=True, overwrite_a=True, check_finite=False)

    def predict(rows: Ints, roots: Floats) -> Floats:
        group, question = known.asked[0][asked[rows]], known.asked[1][asked[rows]]
        cross = groups[np.ix_(group, cells.group)] * products[np.ix_(question, cells.question)]
        return np.asarray(cross @ linalg.cho_solve(factor, roots))

    return scale.predictions(asked, predict)
