"""Gaussian processes over all groups and items at once, that read: an item's wording says which items it is like.

The root of a share is the mean at its place among the options, plus effects of the item, the group, of both, and of
what their words have in common (`process_kernel`). Options share one covariance, so that one factor serves them all.
Coded here because scikit-learn's regressor has no kernel over two kinds of inputs with a slope of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from cuma.errors import ProfileError
from cuma.evaluation.anchor_data import Cells, Floats, Ints, Known, Said, by_lot
from cuma.evaluation.option_scales import Scale, said_of, scales
from cuma.evaluation.process_kernel import Kernel

TO_LEARN = 800
"""Cells at most from which the kernel's sizes are learnt."""
TO_FIT = 4000
"""Cells of one kind of options at most that predictions are conditioned on: time grows with their cube."""
TEXT = "wordings like the item's"
"""What a new item is predicted from."""


def process_on_fields(known: Known) -> Said:
    """Groups are unlike by the fields of their profiles in which they differ."""
    names = sorted({field for group in known.groups for field in group.profile.fields})
    values = [np.array([group.profile.fields.get(name, "") for group in known.groups]) for name in names]
    unlike = [(value[:, None] != value).astype(np.float64) for value in values]
    return _process(known, np.array(unlike).reshape(len(names), len(known.groups), len(known.groups)))


def process_on_texts(known: Known) -> Said:
    """Groups are unlike by the squared distance of their sentences' embeddings, which is 1 on average."""
    vectors = texts_of(known)[0]
    squares = np.maximum((vectors**2).sum(axis=1)[:, None] + (vectors**2).sum(axis=1) - 2 * vectors @ vectors.T, 0.0)
    return _process(known, squares[None] / max(squares.mean(), 1e-12))


def texts_of(known: Known) -> tuple[Floats, Floats]:
    """Embeddings of the groups' sentences [G, D] and of the items' wordings [Q, D]; ProfileError without them."""
    if known.texts is None:
        raise ProfileError("This anchor reads profiles and items: it needs a sentence encoder, and got none.")
    return known.texts.profiles, known.texts.items


def _process(known: Known, unlike: Floats) -> Said:
    texts = texts_of(known)
    shares: list[Floats | None] = [None] * len(known.asked[0])
    left_out = 0
    for scale, asked in scales(known, known.training):
        kept = by_lot(known.names(scale.cells), min(1.0, TO_FIT / len(scale.cells)), "fit")
        left_out += int((~kept).sum())
        for row, answer in _answers(scale.only(kept), asked, unlike, texts):
            shares[row] = answer
    return said_of(known, shares, TEXT, left_out)


def _answers(scale: Scale, asked: Ints, unlike: Floats, texts: tuple[Floats, Floats]) -> list[tuple[int, Floats]]:
    """Asked places and what is said of them."""
    known, cells = scale.known, scale.cells
    if not len(asked):
        return []
    few = scale.only(_to_learn(known, cells))
    kernel = Kernel.of(known, unlike, texts, cells)
    theta = kernel.learn(few.cells, few.targets(max(len(counts) for counts in cells.counts))[0])
    factor = linalg.cho_factor(kernel.of_cells(theta, cells), lower=True, overwrite_a=True, check_finite=False)
    group, question = known.asked[0][asked], known.asked[1][asked]

    def predict(rows: Ints, roots: Floats) -> Floats:
        weights = linalg.cho_solve(factor, roots)
        return kernel.between(theta, (group[rows], question[rows]), (cells.group, cells.question)) @ weights

    return scale.predictions(asked, predict)


def _to_learn(known: Known, cells: Cells) -> NDArray[np.bool_]:
    """[N]: `TO_LEARN` cells by lot, of as many items as there are, but ten of each item that has them."""
    items = np.unique(cells.question)
    of_each = max(10, TO_LEARN // len(items))
    share = min(1.0, TO_LEARN / of_each / len(items))
    chosen = items[by_lot([known.questions[k].id for k in items], share, "item")]
    kept = np.zeros(len(cells), dtype=bool)
    for item in chosen:
        rows = np.flatnonzero(cells.question == item)
        kept[rows[by_lot(known.names(cells.where(cells.question == item)), min(1.0, of_each / len(rows)), "learn")]] = (
            True
        )
    return kept if len(cells) > TO_LEARN else np.ones(len(cells), dtype=bool)
