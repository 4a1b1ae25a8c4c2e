"""The answers of a survey file: a respondent a row, an item a column, each a small number; and why others are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cuma.data.builders.cell_text import cell_number
from cuma.data.builders.questionnaire import ColumnEntry, Questionnaire, bin_texts, worded
from cuma.data.builders.respondent_columns import ColumnCells, FileColumn
from cuma.data.surveys.survey import NO_ANSWER, OWN_COLUMNS
from cuma.errors import BenchmarkError, suggestion
from cuma.people.absence import is_absent
from cuma.privacy.small_groups import MIN_PEOPLE

EMPTY = "empty cell"
LISTED = "no answer, says the questionnaire"
FILE = "missing code of the file"
ABSENT = "a word or code for missing"
UNLISTED = "code that stands nowhere in the questionnaire"
OUTSIDE = "no number within the bins"
REASONS = (EMPTY, LISTED, FILE, ABSENT, UNLISTED, OUTSIDE)
"""Why a cell is no answer: the reason at place k has the code NO_ANSWER - k while columns are read."""
RESERVED = (*OWN_COLUMNS, "person_id", "profile", "profile_text", "language", "split", "label")
"""What no item can be called: columns of the built tables."""


@dataclass(frozen=True)
class Wide:
    """One item as it will be asked, in every language of the questionnaire."""

    id: str
    column: str
    texts: Mapping[str, str]
    """Language → wording."""
    options: Mapping[str, tuple[str, ...]]
    """Language → options in their order."""
    ordinal: bool


def wide_items(questionnaire: Questionnaire, source: str) -> list[Wide]:
    """The items of a questionnaire. Raises `BenchmarkError` for one whose name the tables need themselves."""
    items = []
    for name, column in questionnaire.of("item").items():
        known = column.id or name
        if known in RESERVED:
            raise BenchmarkError(
                f"{source}: an item cannot be called {known!r}, which is a column of the built tables. Give it an `id`."
            )
        options = {
            language: tuple(bin_texts(column.bins) if column.bins else _distinct(column, language))
            for language in questionnaire.languages
        }
        texts = {language: worded(column.text, language) for language in questionnaire.languages}
        items.append(Wide(known, name, texts, options, column.ordinal))
    if not items:
        raise BenchmarkError(f"{source} has no column of the role item. Give at least one column that role.")
    return items


def _distinct(column: ColumnEntry, language: str) -> list[str]:
    return list(dict.fromkeys(worded(option, language) for option in column.options.values()))


def read_answers(
    questionnaire: Questionnaire, item: Wide, file: FileColumn, cells: ColumnCells, stays: np.ndarray, source: str
) -> tuple[np.ndarray, Counter[str]]:
    """[N] int8: each respondent's option of one item or `NO_ANSWER`; and why there is none → how many of
    those who stay in the data.

    Raises `BenchmarkError` for codes that stand nowhere, unless the questionnaire says that they are no answer.
    """
    column = questionnaire.columns[item.column]
    first = questionnaire.languages[0]
    place = {code: item.options[first].index(worded(option, first)) for code, option in column.options.items()}
    codes = [_code(text, column, place, file) for text in cells.texts]
    unlisted = [n for n, code in enumerate(codes) if code == _of(UNLISTED)]
    if unlisted and questionnaire.unlisted == "refuse":
        known = [*column.options, *column.no_answer]
        raise BenchmarkError(unmapped(item.column, cells, unlisted, known, source))
    coded = cells.coded(codes, _of(EMPTY))
    reasons = Counter({reason: int((coded[stays] == _of(reason)).sum()) for reason in REASONS})
    return np.maximum(coded, NO_ANSWER).astype(np.int8), +reasons


def _of(reason: str) -> int:
    return NO_ANSWER - REASONS.index(reason)


def _code(text: str, column: ColumnEntry, place: Mapping[str, int], file: FileColumn) -> int:
    if text in place:
        return place[text]
    if text in column.no_answer:
        return _of(LISTED)
    if file.is_missing(text):
        return _of(FILE)
    if column.bins:
        number = cell_number(text)
        if number is not None and column.bins[0] <= number <= column.bins[-1]:
            return min(int(np.searchsorted(column.bins, number, side="right")) - 1, len(column.bins) - 2)
        return _of(ABSENT if is_absent(text) else OUTSIDE)
    return _of(ABSENT if is_absent(text) else UNLISTED)


def unmapped(name: str, cells: ColumnCells, places: list[int], known: list[str], source: str) -> str:
    """The error text for codes that stand nowhere: those that enough people have, and the nearest that is known."""
    counts = cells.counts()
    shown = [(cells.texts[n], int(counts[n])) for n in places if counts[n] >= MIN_PEOPLE]
    rare = len(places) - len(shown)
    parts = [f"{code!r} ({times:,} respondents)" for code, times in shown[:5]]
    parts += [f"{len(shown) - 5} more"] if len(shown) > 5 else []
    parts += [f"{rare} code(s) that fewer than {MIN_PEOPLE} people have"] if rare else []
    near = f" {suggestion(shown[0][0], known)}" if shown and len(known) <= 40 else ""
    return (
        f"{source}: columns.{name} does not list {', '.join(parts)}.{near} Put them under options or no_answer, or say "
        "`unlisted: no_answer` at the top, and they are left out and counted."
    )
