"""A folder of shares that was built before there were corners loads, and gives the figures that it gave then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.data.corpus import Corpus, Shares
from cuma.metrics import break_down, score
from cuma.runs.folder import read_json

FOLDER = Path(__file__).parent / "old_opinions"
"""20 questions of `helpers.make_opinions`, Japan and Peru held out, built and scored by version 0.1's code before
`share_splits`: scores.json holds what `score` and `break_down` then gave for `said`."""


def said(group: str, options: int) -> Any:
    weights = np.arange(1, options + 1) ** (1 + len(group) / 10)
    return weights / weights.sum()


def predictions(shares: Shares) -> pd.DataFrame:
    options = {question.id: len(question.options) for question in shares.questions}
    table = shares.table.drop(columns="profile")
    pairs = zip(table["group"], table["question_id"], strict=True)
    return table.assign(probabilities=[said(group, options[name]) for group, name in pairs], option_mass=0.75)


def test_old_folders_give_the_same_figures_to_the_last_bit() -> None:
    shares = Corpus.open(FOLDER).shares()
    assert shares is not None
    assert "item_seen" not in shares.table
    assert set(shares.table.loc[~shares.table["seen"], "group"]) == {"Japan", "Peru"}
    table, then = predictions(shares), read_json(FOLDER / "scores.json")
    now = score(table, shares.questions, draws=200)
    assert now["n"] == then["n"]
    assert {side: now[side] for side in ("seen", "unseen")} == {side: then[side] for side in ("seen", "unseen")}
    assert break_down(table, shares.questions, draws=200)["by_group"] == then["by_group"]
    assert "corners" not in now


def test_old_folders_can_be_trained_on() -> None:
    corpus = Corpus.open(FOLDER)
    training = corpus.training_shares()
    assert training is not None
    shares = corpus.shares()
    assert shares is not None
    assert set(training.table["group"]) == {"Great Britain", "Egypt", "France", "South Korea"}
    assert not {question.id for question in training.questions} & {question.id for question in shares.questions}
