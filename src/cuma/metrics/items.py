"""Questions as the metrics see them, and whether a table of predictions fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.errors import BenchmarkError


class QuestionLike(Protocol):
    """What the metrics need of a question."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def options(self) -> Sequence[str]: ...
    @property
    def ordinal(self) -> bool: ...


Questions = Sequence[QuestionLike | Mapping[str, Any]]
"""A survey's questions, or their entries in scores.json."""


@dataclass(frozen=True)
class Item:
    """A question; also its form in scores.json."""

    id: str
    text: str
    options: tuple[str, ...]
    ordinal: bool

    @classmethod
    def of(cls, question: QuestionLike | Mapping[str, Any]) -> Item:
        """From a survey's question, or from its entry in scores.json."""
        if isinstance(question, Mapping):
            return cls(question["id"], question["text"], tuple(question["options"]), bool(question["ordinal"]))
        return cls(question.id, question.text, tuple(question.options), bool(question.ordinal))


Columns = list[tuple[Item, slice]]
"""Each item with its columns among K: the options of all items side by side."""


def columns_of(items: Sequence[Item]) -> Columns:
    """Where each item's options lie when all are put side by side."""
    ends = np.cumsum([len(item.options) for item in items]).tolist()
    return [(item, slice(end - len(item.options), end)) for item, end in zip(items, ends, strict=True)]


def per_option(columns: Columns, values: NDArray[Any]) -> NDArray[Any]:
    """[K, …]: `values` [Q, …] of questions, repeated for each of their options."""
    return np.repeat(values, [len(item.options) for item, _ in columns], axis=0)


def items_of(predictions: pd.DataFrame, questions: Questions, columns: Sequence[str]) -> tuple[Item, ...]:
    """The questions' items. BenchmarkError if the table lacks one of `columns`, or has answers to another question."""
    items = tuple(Item.of(question) for question in questions)
    missing = [column for column in columns if column not in predictions.columns]
    if missing:
        raise BenchmarkError(f"The predictions lack the columns {missing}; expected {list(columns)}.")
    unknown = sorted(set(predictions["question_id"].unique()) - {item.id for item in items})
    if unknown:
        raise BenchmarkError(f"The predictions answer unknown questions {unknown}; pass the questions of their survey.")
    return items
