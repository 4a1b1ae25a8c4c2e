"""Anchors of shares: what they say is an average of what was trained on, and they say where they have it from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cuma.data.corpus import Shares
from cuma.data.surveys.survey import Question
from cuma.evaluation.share_anchors import anchor_scores, anchor_shares
from cuma.metrics import score

YES = ("Yes", "No")
QUESTIONS = {
    "a": Question("a", "A?", YES, False),
    "b": Question("b", "B?", ("no", "Yes"), False),  # the same options in another order and case
    "c": Question("c", "C?", ("x", "y", "z"), False),
    "new": Question("new", "New?", YES, False),
    "lone": Question("lone", "Lone?", ("1", "2", "3", "4"), True),
}


def shares(cells: list[tuple[str, str, list[float]]], **columns: object) -> Shares:
    rows = [{"group": g, "seen": True, "question_id": q, "shares": np.array(s), "profile": None} for g, q, s in cells]
    names = list(dict.fromkeys(q for _, q, _ in cells))
    return Shares(tuple(QUESTIONS[name] for name in names), pd.DataFrame(rows).assign(**columns))


TRAINING = shares(
    [("g", "a", [0.2, 0.8]), ("h", "a", [0.4, 0.6]), ("g", "b", [0.1, 0.9]), ("g", "c", [0.5, 0.3, 0.2])],
    n=[5, 500, 9, 9],
)
ASKED = shares(
    [("i", "a", [0.3, 0.7]), ("i", "new", [0.5, 0.5]), ("g", "new", [0.6, 0.4]), ("i", "lone", [0.1, 0.2, 0.3, 0.4])]
)


def said(name: str) -> dict[str, list[float]]:
    table, _ = anchor_shares(TRAINING, ASKED)
    rows = table[table["anchor"] == name]
    return {question: list(p) for question, p in zip(rows["question_id"], rows["probabilities"], strict=True)}


def test_the_average_is_of_the_item_or_of_items_with_the_same_options_or_uniform() -> None:
    average = said("average")
    assert average["a"] == pytest.approx([0.3, 0.7])  # groups alike, whatever their number of people
    assert average["new"] == pytest.approx([(0.3 + 0.9) / 2, (0.7 + 0.1) / 2])  # of a and b, items alike
    assert average["lone"] == [0.25] * 4
    assert said("uniform")["new"] == [0.5, 0.5]
    _, sources = anchor_shares(TRAINING, ASKED)
    assert sources["average"] == {
        "the item's own average": 1, "items with the same options": 1, "no training item with these options": 1
    }  # fmt: skip
    assert anchor_shares(None, ASKED)[1]["average"] == {"no training item with these options": 3}


def test_scores_are_those_of_a_model_that_says_the_same() -> None:
    model = ASKED.table.drop(columns="profile").assign(item_seen=ASKED.table["question_id"] == "a", option_mass=0.5)
    model["probabilities"] = ASKED.table["shares"]
    table, sources = anchor_shares(TRAINING, ASKED)
    found = anchor_scores(table, sources, model, ASKED.questions)
    average = said("average")
    as_model = model.assign(probabilities=[np.array(average[name]) for name in model["question_id"]], option_mass=1.0)
    wanted = score(as_model, ASKED.questions)
    assert found["average"]["seen"]["soft_emd"] == wanted["seen"]["soft_emd"]
    corner = "seen items · seen groups"
    assert found["average"]["corners"][corner]["soft_emd"]["value"] == pytest.approx(0, abs=1e-12)
    assert found["uniform"]["corners"][corner]["soft_emd"]["value"] == pytest.approx(0.2)
    assert found["average"]["label"] == "training average"
