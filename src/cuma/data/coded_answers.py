"""The people of a built folder whose coded tables hold every answer, and the questions in one language."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from cuma.data.surveys.survey import ITEM_ROLES, NO_ANSWER, Question
from cuma.errors import BenchmarkError, suggestion

OWN = "own"
"""As the language: everybody's answers are to the wording that they were asked in."""


def coded_people(folder: Path, card: dict[str, Any], language: str) -> tuple[tuple[Question, ...], pd.DataFrame]:
    """The questions, and a row a person: person_id, group, split, profile, weight if there are any, and their answers.

    With the language `OWN` a question is there once in every language, "Q1 (ja)", answered by those who were asked in
    it. Raises `BenchmarkError` for a language in which nothing was built.
    """
    known = card.get("languages", [])
    if language and language not in (*known, *([OWN] if known else [])):
        near = suggestion(language, [*known, OWN]) if known else "Its questions have no languages: leave it out."
        raise BenchmarkError(f"data.language is {language!r}, in which {folder} has no wording. {near}")
    tables = []
    for path in sorted((folder / "answers").glob("*.parquet")):
        table = pq.read_table(path).to_pandas()
        tables.append(table.assign(split=path.stem))
    people = pd.concat(tables, ignore_index=True)
    if language != OWN:
        return with_card_roles(_questions(folder, language, bool(known)), card), people
    if "language" not in people:
        raise BenchmarkError(
            f"data.language is {OWN!r}, and {folder} does not know who was asked in which. Give a column the role "
            "language in the questionnaire."
        )
    return _each_in_their_own(folder, card, known, people)


def with_card_roles(questions: Iterable[Question], card: Mapping[str, Any]) -> tuple[Question, ...]:
    """The questions with the roles that they were built with; all are seen where the card does not tell."""
    roles = card.get(ITEM_ROLES, {})
    return tuple(replace(question, role=roles.get(question.id, "seen")) for question in questions)


def _questions(folder: Path, language: str, several: bool) -> tuple[Question, ...]:
    file = folder / "wordings" / f"{language}.parquet" if language and several else None
    if file is None or not file.exists():
        file = folder / "questions" / "questions.parquet"
    rows = pq.read_table(file).to_pylist()
    return tuple(Question(row["question_id"], row["question"], tuple(row["options"]), row["ordinal"]) for row in rows)


def _each_in_their_own(
    folder: Path, card: Mapping[str, Any], languages: list[str], people: pd.DataFrame
) -> tuple[tuple[Question, ...], pd.DataFrame]:
    """Who was asked in no known language counts with the first, in which the questionnaire is written."""
    questions: list[Question] = []
    asked_in = people["language"].where(people["language"].isin(languages), languages[0])
    columns: dict[str, Any] = {}
    for language in languages:
        for question in with_card_roles(_questions(folder, language, True), card):
            own = replace(question, id=f"{question.id} ({language})")
            columns[own.id] = np.where(asked_in == language, people[question.id], NO_ANSWER)
            questions.append(own)
    return tuple(questions), pd.concat([people, pd.DataFrame(columns, index=people.index)], axis=1)
