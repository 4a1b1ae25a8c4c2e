"""How near each held-out item is to the items of training, by its words and by the sentence encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.answering.materials import Materials
from cuma.data.surveys.item_families import word_similarity
from cuma.data.surveys.survey import Question
from cuma.errors import MissingModelError
from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.design import Design
from cuma.metrics.nearness import errors_by_nearness, way_of

Encode = Callable[[Sequence[str]], NDArray[np.float64] | None]
"""From n texts to unit vectors [n, D]; None where there is no encoder here."""


def text_encoder(materials: Materials) -> Encode:
    """The recipe's encoder of profiles, for wordings. It is loaded when texts come."""

    def encode(texts: Sequence[str]) -> NDArray[np.float64] | None:
        try:
            vectors = materials.table.encoder(list(texts)).double().numpy()
        except MissingModelError:
            return None  # an evaluation does not need it, and the table says by which ways it was measured
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))

    return encode


def item_nearness(
    predictions: pd.DataFrame,
    questions: Sequence[Question],
    training: Sequence[Question],
    encode: Encode | None,
    design: Design | None = None,
) -> dict[str, Any]:
    """What scores.json says of held-out items; nothing where there are none, or it is not known.

    Args:
        predictions: of the model.
        questions: those that it was asked.
        training: those that were trained on.
        encode: None: only words are compared.
        design: of the survey.

    Returns:
        {"held_out_items": [{"id", WAY: {"similarity", "nearest": wording}}], "by_nearness": {"near": {"items", "from",
        "to", CORNER: {"n", "soft_emd"}}, "far": …}}, by the last of `WAYS` that is known; the latter is empty where all
        are near, or all far.
    """
    if ITEM_SEEN not in predictions:
        return {}
    new = set(predictions["question_id"][~predictions[ITEM_SEEN].astype(bool)])
    held = sorted((question for question in questions if question.id in new), key=lambda question: question.id)
    known = sorted({question.text for question in training if question.id not in new})
    if not held or not known:
        return {}
    similar = {"words": word_similarity([question.text for question in held], known)}
    vectors = None if encode is None else encode([*(question.text for question in held), *known])
    if vectors is not None:
        similar["meaning"] = vectors[: len(held)] @ vectors[len(held) :].T
    nearest = {way: each.argmax(axis=1) for way, each in similar.items()}
    items: list[dict[str, Any]] = []
    for place, question in enumerate(held):
        beside = {
            way: {"similarity": float(similar[way][place, at[place]]), "nearest": known[at[place]]}
            for way, at in nearest.items()
        }
        items.append({"id": question.id, **beside})
    way = way_of(items)
    similarity = {item["id"]: item[way]["similarity"] for item in items}
    found = errors_by_nearness({"": predictions}, questions, similarity, design=design)
    by_nearness = {
        side: {**{key: part[key] for key in ("items", "from", "to")}, **part["methods"][""]}
        for side, part in found.items()
    }
    return {"held_out_items": items, "by_nearness": by_nearness}
