"""Columns of a survey file: what the file says of them, and their cells as small numbers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cuma.data.builders.cell_text import cell_number, cell_text
from cuma.data.builders.own_people import check_commas

EMPTY = -1
"""The code of a cell without anything in it."""


@dataclass(frozen=True)
class FileColumn:
    """What a file says of one of its columns."""

    name: str
    label: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Code, as text → its label."""
    missing: tuple[tuple[Any, Any], ...] = ()
    """User-missing ranges, both ends included, of numbers or texts."""
    ordinal: bool = False
    """Whether the file's measurement level says so."""
    dated: bool = False
    """Whether its numbers are dates or times."""

    def is_missing(self, code: str) -> bool:
        """Whether the file calls a code missing."""
        number = cell_number(code)
        for low, high in self.missing:
            if isinstance(low, str):
                if code == code_text(low):
                    return True
            elif number is not None and low <= number <= high:
                return True
        return False


@dataclass(eq=False)
class ColumnCells:
    """One column of all respondents: its distinct texts, and which one each has."""

    texts: list[str]
    codes: np.ndarray
    """[N] places in `texts`, or `EMPTY`."""
    values: np.ndarray | None = None
    """[N] float64 in the place of texts, for a column that was read as numbers."""

    def counts(self, weights: np.ndarray | None = None) -> np.ndarray:
        """[texts] how many respondents have each, or the sum of their weights."""
        inside = self.codes >= 0
        chosen = None if weights is None else weights[inside]
        return np.bincount(self.codes[inside], chosen, minlength=len(self.texts))

    def coded(self, places: Sequence[int], empty: int) -> np.ndarray:
        """[N] int32: each text's number in place of the text, and `empty` for an empty cell."""
        return np.append(np.asarray(places, dtype=np.int32), np.int32(empty))[self.codes]

    def numbers(self) -> np.ndarray:
        """[N] float64, NaN where the text is no number."""
        if self.values is not None:
            return self.values
        values = [cell_number(text) for text in self.texts]
        return np.append(np.array([np.nan if v is None else v for v in values], dtype=float), np.nan)[self.codes]


def collect(
    names: Sequence[str],
    chunks: Iterable[Mapping[str, np.ndarray]],
    numeric: Collection[str] = (),
    limit: Callable[[str], int | None] = lambda name: None,
) -> dict[str, ColumnCells]:
    """All rows of some columns, from chunks of cells. Every distinct cell is looked at once a chunk.

    numeric: columns whose texts nobody needs. limit: how many distinct texts of a column are kept, further ones are as
    empty; None: all.
    """
    vocabulary: dict[str, dict[str, int]] = {name: {} for name in names}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for chunk in chunks:
        for name in names:
            if name in numeric:
                parts[name].append(_numbers(chunk[name]))
                continue
            codes, distinct = pd.factorize(chunk[name], use_na_sentinel=True)
            known = vocabulary[name]
            most = limit(name)
            places = [_place(code_text(value), known, most) for value in distinct]
            coded = np.array([*places, EMPTY], dtype=np.int32)[codes]
            parts[name].append(coded.astype(np.int16) if len(known) < 2**15 else coded)
    whole = {name: np.concatenate(its) if its else np.empty(0, dtype=np.int16) for name, its in parts.items()}
    return {
        name: ColumnCells([], np.empty(0, dtype=np.int16), cells)
        if name in numeric
        else ColumnCells([*vocabulary[name]], cells)
        for name, cells in whole.items()
    }


def _place(text: str, known: dict[str, int], most: int | None) -> int:
    if not text or (most is not None and len(known) >= most and text not in known):
        return EMPTY
    return known.setdefault(text, len(known))


def _numbers(cells: np.ndarray) -> np.ndarray:
    if cells.dtype.kind in "fiu":
        return cells.astype(float)
    texts = [code_text(cell) for cell in cells]
    check_commas(texts, "A column of weights")
    numbers = [cell_number(text) for text in texts]
    return np.array([np.nan if number is None else number for number in numbers], dtype=float)


def code_text(value: Any) -> str:
    """A cell, or a code of a questionnaire, as text: 1, 1.0 and "1" are one, and so are texts but for their blanks."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return " ".join(cell_text(value).split())
