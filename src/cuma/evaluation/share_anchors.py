"""Anchors where only shares of groups are known: what one says without a language model, whoever asks.

They know the shares that are trained on. A model that does no better has learnt nothing of the groups, or, on new
items, nothing of the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.data.corpus import Shares
from cuma.data.surveys.survey import Question
from cuma.metrics import score_many
from cuma.runs.anchor_file import predictions_of

Floats = NDArray[np.float64]
SHOWN = "soft_emd"
"""The metric that scores.json keeps of an anchor."""
_OWN, _SAME, _NONE = "the item's own average", "items with the same options", "no training item with these options"


@dataclass(frozen=True)
class ShareAnchor:
    """A named predictor."""

    label: str
    description: str
    predict: Callable[[Question, Shares | None], tuple[Floats, str]]
    """What it says of a question, given what was trained on, as probabilities of the options; and from what."""


def _uniform(question: Question, training: Shares | None) -> tuple[Floats, str]:
    return np.full(len(question.options), 1 / len(question.options)), _NONE


def _average(question: Question, training: Shares | None) -> tuple[Floats, str]:
    """Groups and items count alike, whatever their number of people."""
    if training is None:
        return _uniform(question, training)
    own = training.table[training.table["question_id"] == question.id]
    if len(own):
        return np.stack(own["shares"].to_list()).mean(axis=0), _OWN
    same = {other.id: other.options for other in training.questions if _scale(other) == _scale(question)}
    cells = training.table[training.table["question_id"].isin(list(same))]
    if cells.empty:
        return _uniform(question, training)
    means = [
        _in_order(np.stack(rows["shares"].to_list()).mean(axis=0), same[str(name)], question.options)
        for name, rows in cells.groupby("question_id")
    ]
    return np.mean(means, axis=0), _SAME


def _scale(question: Question) -> list[str]:
    return sorted(option.casefold() for option in question.options)


def _in_order(shares: Floats, options: Iterable[str], wanted: Iterable[str]) -> Floats:
    """The shares of another question's options, in the order of the wanted ones, which are the same."""
    of = dict(zip((option.casefold() for option in options), shares, strict=True))
    return np.array([of[option.casefold()] for option in wanted])


SHARE_ANCHORS: dict[str, ShareAnchor] = {
    "uniform": ShareAnchor("uniform", "Every option is as likely as every other: nothing is known.", _uniform),
    "average": ShareAnchor(
        "training average",
        "Every group gets the item's average over the training groups; of a new item, the average of the training "
        "items with the same options, or where there is none, every option alike.",
        _average,
    ),
}


def anchor_shares(training: Shares | None, asked: Shares) -> tuple[pd.DataFrame, dict[str, dict[str, int]]]:
    """What every anchor says of what was asked.

    Returns:
        Columns anchor, group, question_id, probabilities; and of each anchor how many items it answered from what.
    """
    tables, sources = [], {}
    for name, anchor in SHARE_ANCHORS.items():
        answers = {question.id: anchor.predict(question, training) for question in asked.questions}
        rows = asked.table[["group", "question_id"]].assign(anchor=name)
        tables.append(rows.assign(probabilities=[answers[item][0] for item in rows["question_id"]]))
        found = [source for _, source in answers.values()]
        sources[name] = {source: found.count(source) for source in (_OWN, _SAME, _NONE) if source in found}
    return pd.concat(tables, ignore_index=True)[["anchor", "group", "question_id", "probabilities"]], sources


def anchor_scores(
    said: pd.DataFrame, sources: Mapping[str, Mapping[str, int]], predictions: pd.DataFrame, questions: Any
) -> dict[str, Any]:
    """What scores.json holds of the anchors: {anchor: {"label", "items": {source: n}, side: {"soft_emd"}, "corners":
    {corner: {"soft_emd"}}}}. predictions: of the model, whose people they are measured against."""
    tables = {str(name): predictions_of(rows, predictions) for name, rows in said.groupby("anchor", sort=False)}
    scores = score_many(tables, questions)["scores"]
    return {
        name: {
            "label": SHARE_ANCHORS[name].label,
            "description": SHARE_ANCHORS[name].description,
            "items": dict(sources[name]),
            **{side: {SHOWN: scores[name][side][SHOWN]} for side in ("seen", "unseen") if side in scores[name]},
            "corners": {corner: {SHOWN: part[SHOWN]} for corner, part in scores[name].get("corners", {}).items()},
        }
        for name in tables
    }
