"""How near held-out items are: by the real encoder as scikit-learn has it, and by words counted by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from cuma.answering.materials import Materials
from cuma.data.surveys.survey import Question
from cuma.errors import BackboneError
from cuma.evaluation.item_nearness import item_nearness, text_encoder
from cuma.metrics.corners import ITEM_SEEN
from helpers.served import encoder

YES_NO = ("Yes", "No")
TEXTS = {
    "a": "Should the law allow abortion?", "b": "Do you trust the police?", "c": "Should the law forbid abortion?",
    "d": "Is spending on parks too low?",
}  # fmt: skip
QUESTIONS = tuple(Question(name, text, YES_NO, ordinal=False) for name, text in TEXTS.items())
TRAINING = QUESTIONS[:2]


def predictions(new: str = "cd") -> pd.DataFrame:
    rows = [
        {"question_id": name, "group": f"g{g}", "seen": True, ITEM_SEEN: name not in new, "option_mass": 1.0,
         "shares": [0.4, 0.6], "probabilities": [0.5, 0.5 ]}
        for name in TEXTS
        for g in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def materials(encode: Any) -> Materials:
    """What the function reads of a recipe's materials."""
    return cast(Materials, SimpleNamespace(table=SimpleNamespace(encoder=encode)))


def test_similarities_are_scikit_learns_cosine_and_shared_words() -> None:
    found = item_nearness(predictions(), QUESTIONS, TRAINING, text_encoder(materials(encoder())))
    vectors = encoder()(list(TEXTS.values())).double().numpy()
    cosines = cosine_similarity(vectors[2:], vectors[:2])
    held = found["held_out_items"]
    assert [item["id"] for item in held] == ["c", "d"]
    assert [item["meaning"]["similarity"] for item in held] == pytest.approx(cosines.max(axis=1))
    assert [item["meaning"]["nearest"] for item in held] == [TEXTS["ab"[at]] for at in np.argmax(cosines, axis=1)]
    assert held[0]["words"] == {"similarity": pytest.approx(2 * 4 / (5 + 5)), "nearest": TEXTS["a"]}


def test_near_and_far_items_have_their_error() -> None:
    found = item_nearness(predictions(), QUESTIONS, TRAINING, None)
    assert {side: found["by_nearness"][side]["items"] for side in ("near", "far")} == {"near": 1, "far": 1}
    corner = found["by_nearness"]["near"]["unseen items · seen groups"]
    assert corner["soft_emd"]["value"] == pytest.approx(0.1)
    assert corner["soft_emd"]["low"] is None  # of one item


def test_without_an_encoder_words_alone_are_compared() -> None:
    def absent(texts: list[str]) -> None:
        raise BackboneError("The encoder is not on this machine.")

    found = item_nearness(predictions(), QUESTIONS, TRAINING, text_encoder(materials(absent)))
    assert set(found["held_out_items"][0]) == {"id", "words"}


def test_without_held_out_items_there_is_nothing() -> None:
    assert item_nearness(predictions(new=""), QUESTIONS, QUESTIONS, None) == {}
    assert item_nearness(predictions().drop(columns=ITEM_SEEN), QUESTIONS, TRAINING, None) == {}
    assert item_nearness(predictions(), QUESTIONS, (), None) == {}
