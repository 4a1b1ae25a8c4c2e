"""CSV as people have it: delimiter and header are found, and a quotation mark that goes wrong costs no row unsaid."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger
from cuma.data.builders.reading import MAX_LINE, lines
from cuma.errors import BenchmarkError

DELIMITERS = (",", ";", "\t", "|")
SAMPLE_LINES, SAMPLE_CHARACTERS = 200, 2**20
"""Of a file's beginning, by which delimiter and header are found."""
SWALLOWED = 5
"""Delimiters in the later lines of a cell from which on, if every line has those of a row, the cell holds rows."""
RAGGED = "row with more or fewer cells than the header"
UNCLOSED = "row with a quotation mark that is not closed, or not doubled within others"
SWALLOWING = "row inside a cell: a quotation mark is not closed where it should be"

csv.field_size_limit(MAX_LINE)


@dataclass(frozen=True)
class Layout:
    """How a file is to be read."""

    names: tuple[str, ...]
    """The columns' names, stripped, as the file has them."""
    style: dict[str, Any]
    """Options of `csv.reader`: the delimiter, and more where quotation marks are written otherwise."""
    lines: int
    """Lines up to the header's end."""
    before: int
    """Records that stand before the header: a title, `sep=;`, empty quotation marks."""
    fit: float
    """Share of the first rows that are as wide as the header."""


def csv_rows(
    path: Path,
    required: Sequence[str],
    ledger: Ledger,
    hint: str = "",
    single: Callable[[str], bool] = lambda name: False,
) -> Iterator[dict[str, str]]:
    """The rows of a CSV as dicts of names → text; every row is counted as read.

    Dropped and counted, with the first line: rows of another width than the header's, and rows whose quotation marks go
    wrong. Columns that occur twice are told apart by a number behind the name.

    Args:
        required: columns that must be there, once.
        hint: what to do if they are not ("Is this wave 7?").
        single: which other columns may not occur twice.

    Raises:
        BenchmarkError: no header, a required column is missing or a single one occurs twice, or a quotation mark goes
            wrong in a table of one or two columns, where rows and lines of a text cannot be told apart.
    """
    layout = read_layout(path, required, hint, single)
    names = _distinct(layout.names)
    ledger.note("line before the header, passed over", layout.before)
    feed = _Feed(islice(lines(path, ledger), layout.lines, None), layout.lines + 1)
    losses = _Losses(path, ledger, feed)
    for cells in _records(feed, layout.style):
        if cells is None:
            feed.done(losses.broken(len(names), layout.style["delimiter"]))
            continue
        if len(feed.taken) > 1 and losses.swallowed(len(names), layout.style["delimiter"]):
            feed.done()
            continue
        if cells:
            ledger.read()
            if len(cells) > len(names) and not any(map(str.strip, cells[len(names) :])):
                ledger.note("row with empty cells behind its last, passed over")
                del cells[len(names) :]
            if len(cells) == len(names):
                feed.done()
                yield dict(zip(names, cells, strict=True))
                continue
            losses.count(RAGGED)
        feed.done()


def read_layout(
    path: Path, required: Sequence[str], hint: str = "", single: Callable[[str], bool] = lambda name: False
) -> Layout:
    """Delimiter and header, by the first lines. Raises `BenchmarkError` as `csv_rows` does."""
    sample, complete = _sample(path)
    wanted = set(required)
    plain = [_layout(sample, complete, {"delimiter": delimiter}, required) for delimiter in DELIMITERS]
    best = _best(plain, wanted)
    if best is None or best.fit < 0.5:
        best = _best([best, *(_layout(sample, complete, style, required) for style in _other_styles(sample))], wanted)
    if best is None or (len(best.names) == 1 and None in plain):
        raise BenchmarkError(
            f"{path} has no header of a CSV: in its first lines a quotation mark is not closed, or nothing is named. "
            "Mend that line, or save the table as JSONL or parquet."
        )
    missing = [name for name in required if name not in best.names]
    if missing:
        some = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise BenchmarkError(
            f"{path} lacks {len(missing)} column(s) ({some}); its delimiter was read as {best.style['delimiter']!r}, "
            f"its header in line {best.lines}. {hint}".rstrip()
        )
    for name, times in Counter(best.names).items():
        if times > 1 and (name in wanted or single(name)):
            raise BenchmarkError(
                f"{path} has the column {name!r} {'twice' if times == 2 else f'{times} times'}. Keep one."
            )
    if not best.fit:
        raise BenchmarkError(
            f"{path}: the header, line {best.lines}, has {len(best.names)} names, and none of the first rows as many "
            "cells. Take out whatever stands above the header, name every column, and quote cells that hold delimiters."
        )
    return best


# --- the header ------------------------------------------------------------------------------------------------------


def _sample(path: Path) -> tuple[list[str], bool]:
    """The first lines, and whether they are all."""
    sample: list[str] = []
    size = 0
    for line in lines(path, Ledger()):
        if len(sample) == SAMPLE_LINES or size > SAMPLE_CHARACTERS:
            return sample, False
        sample.append(line)
        size += len(line)
    return sample, True


def _other_styles(sample: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Other ways than the standard's: \\" within quotation marks, blanks before them, tabs without any."""
    if any('\\"' in line for line in sample):
        yield from ({"delimiter": delimiter, "escapechar": "\\"} for delimiter in DELIMITERS)
    if any(re.search(r"[,;\t|] +\"", line) for line in sample):
        yield from ({"delimiter": delimiter, "skipinitialspace": True} for delimiter in DELIMITERS)
    yield {"delimiter": "\t", "quoting": csv.QUOTE_NONE}


def _best(layouts: Iterable[Layout | None], required: set[str]) -> Layout | None:
    """The layout with most of the required columns, of these one with several columns, of these the best fit."""
    found = [layout for layout in layouts if layout is not None]
    rank = {id(one): (len(required & {*one.names}), len(one.names) > 1, one.fit * len(one.names)) for one in found}
    return max(found, key=lambda one: rank[id(one)], default=None)


def _layout(sample: list[str], complete: bool, style: dict[str, Any], required: Sequence[str]) -> Layout | None:
    """The header and how well the rows fit it, if the file is read in this style; None: there is no header then."""
    feed = _Feed(iter(sample))
    records: list[tuple[int, list[str] | None]] = []
    for cells in _records(feed, style):
        if cells is None and feed.exhausted and not complete:
            break  # a cell that goes on behind the sample
        taken = 1 if cells is None else len(feed.taken)
        if cells != []:
            records.append((feed.first + taken - 1, cells))
        feed.done(taken)
    widths = Counter(len(cells) for _, cells in records if cells)
    usual = max(widths, key=lambda width: (widths[width], width), default=0)
    for place, (line, cells) in enumerate(records):
        if cells is None:
            return None
        if not _names_nothing(cells, usual) or (required and set(required) <= {cell.strip() for cell in cells}):
            rows = records[place + 1 :]
            fitting = sum(row is not None and _fits(row, len(cells)) for _, row in rows)
            names = tuple(re.sub(r"\s*[\r\n]+\s*", " ", cell.strip()) for cell in cells)
            return Layout(names, style, line, place, fitting / len(rows) if rows else 1.0)
    return None


def _names_nothing(cells: list[str], usual: int) -> bool:
    """Whether a record is blank, or one text over a table of several columns: a title, `sep=;`."""
    if any(map(str.strip, cells[1:])):
        return False
    is_title = usual > 1 and (len(cells) < usual or len(cells) > 2)
    is_title = is_title and (not re.search(r"[,;\t|]", cells[0]) or cells[0].startswith("sep="))
    return is_title or not cells[0].strip()


def _fits(cells: list[str], width: int) -> bool:
    return len(cells) == width or (len(cells) > width and not any(map(str.strip, cells[width:])))


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, those that were there before with a number behind them: "note", "note (2)"."""
    made: list[str] = []
    for name in names:
        number, own = 1, name
        while own in made:
            number += 1
            own = f"{name} ({number})"
        made.append(own)
    return made


# --- records ---------------------------------------------------------------------------------------------------------


class _Feed:
    """Lines for `csv.reader`, which can be read again."""

    def __init__(self, source: Iterator[str], first: int = 1) -> None:
        self.source, self.first = source, first
        """first: number of the line that the present record begins in."""
        self.taken: list[str] = []
        """The lines of the present record."""
        self.ahead: deque[str] = deque()
        self.exhausted = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.ahead.popleft() if self.ahead else next(self.source, None)
        if line is None:
            self.exhausted = True
            raise StopIteration
        self.taken.append(line)
        return line

    def done(self, lines: int | None = None) -> None:
        """So many of the record's lines are dealt with (None: all); the others are read again."""
        lines = len(self.taken) if lines is None else lines
        self.ahead.extendleft(reversed(self.taken[lines:]))
        self.first += lines
        self.taken.clear()


def _records(feed: _Feed, style: dict[str, Any]) -> Iterator[list[str] | None]:
    """Each record's cells; None where it is no CSV. After each the caller says how many of its lines are done."""
    reader = csv.reader(feed, strict=True, **style)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None
            reader = csv.reader(feed, strict=True, **style)
        else:
            yield cells


class _Losses:
    """Counts rows that are lost, under a reason with the first line."""

    def __init__(self, path: Path, ledger: Ledger, feed: _Feed) -> None:
        self.path, self.ledger, self.feed = path, ledger, feed
        self.reasons: dict[str, str] = {}

    def count(self, reason: str, times: int = 1) -> None:
        """So many rows are lost, the first of them in the present line."""
        named = self.reasons.setdefault(reason, f"{reason} (first in line {self.feed.first})")
        self.ledger.drop(named, times)

    def broken(self, width: int, delimiter: str) -> int:
        """How many lines a record that is no CSV costs: its first, or all but the last if they are those of a text."""
        if width < 3:
            raise BenchmarkError(
                f"{self.path}, line {self.feed.first}: a quotation mark is not closed, or not doubled within others. "
                "In a table this narrow the lines of a text look like rows. Mend it, or save the table as JSONL or "
                "parquet."
            )
        inner = self.feed.taken[1:-1]
        rows = sum(_width(line, delimiter) == width for line in inner)
        lost = 1 if 2 * rows >= len(inner) else len(inner) + 1
        self.ledger.read(lost)
        self.count(UNCLOSED, lost)
        return lost

    def swallowed(self, width: int, delimiter: str) -> bool:
        """Whether a record of several lines is as many rows, then counted as lost: each has a row's delimiters."""
        taken = self.feed.taken
        if (width - 1) * (len(taken) - 1) < SWALLOWED or width < 3:
            return False
        if any(_width(line, delimiter) != width for line in taken):
            return False
        self.ledger.read(len(taken))
        self.count(SWALLOWING, len(taken))
        return True


def _width(line: str, delimiter: str) -> int:
    return line.count(delimiter) + 1
