"""A survey file with one row a respondent, of whatever kind: SPSS, Stata, SAS, Excel, parquet, CSV, JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cuma.data.builders.any_file import any_rows, check_names, is_json, is_parquet
from cuma.data.builders.base import Ledger
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.respondent_columns import ColumnCells, FileColumn, collect
from cuma.data.builders.statistics_file import NAMES, StatisticsFile, kind_of
from cuma.errors import BenchmarkError

_ROWS = 5_000
"""Rows of a chunk."""
_ZIP = b"PK\x03\x04"


class RespondentFile(Protocol):
    """A file whose columns can be read."""

    columns: tuple[FileColumn, ...]
    lost: Counter[str]
    """Once the chunks were read: why rows could not be → how many."""

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Some columns, a chunk of rows at a time."""


def open_respondents(path: Path, ledger: Ledger) -> RespondentFile:
    """A file of a respondent a row. The ledger notes what was odd.

    Raises:
        BenchmarkError: the file is not there, is damaged or of no kind that is known, or has no columns.
    """
    path = existing(path)
    if path.is_dir():
        return _RowsFile(path, ledger)
    if kind := kind_of(path):
        return StatisticsFile(path, kind, ledger)
    with path.open("rb") as stream:
        zipped = stream.read(4) == _ZIP
    if zipped:
        return _ExcelFile(path, ledger)
    return _ParquetFile(path) if is_parquet(path) else _RowsFile(path, ledger)


def read_cells(
    file: RespondentFile, names: Sequence[str], path: Path, ledger: Ledger, **how: Any
) -> tuple[dict[str, ColumnCells], int]:
    """All respondents' cells of some columns, and how many respondents there are.

    how: `numeric` and `limit` of `collect`. Raises `BenchmarkError` for a file without respondents.
    """
    rows = 0

    def counted() -> Iterator[dict[str, np.ndarray]]:
        nonlocal rows
        for chunk in file.chunks(names):
            rows += len(next(iter(chunk.values()), ()))
            yield chunk

    cells = collect(names, counted(), **how)
    if not rows:
        raise no_rows(path, ledger)
    return cells, rows


def is_respondent_format(path: Path) -> str | None:
    """What a file is, if only a questionnaire can tell what its rows mean; None for CSV, JSON, parquet and folders."""
    if path.is_dir():
        return None
    kind = kind_of(path)
    if kind:
        return NAMES[kind]
    return "an Excel file" if path.suffix.lower() in (".xlsx", ".xlsm") else None


class _ParquetFile:
    """Columns of a parquet file, batch by batch."""

    def __init__(self, path: Path) -> None:
        self.path, self.lost = path, Counter[str]()
        try:
            with pq.ParquetFile(path) as table:
                names = table.schema_arrow.names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise BenchmarkError(f"{path} is damaged: no whole parquet file. Copy or download it again.") from error
        check_names(path, names, (), "")
        self.columns = tuple(FileColumn(name) for name in names)

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        try:
            with pq.ParquetFile(self.path) as table:
                for batch in table.iter_batches(_ROWS, columns=list(names)):
                    yield {name: _plain(batch.column(name)) for name in names}
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkError(f"{self.path} is damaged ({type(error).__name__}). Copy it again.") from error


class _ExcelFile:
    """The first sheet of an Excel file that has cells. Its first row that is not empty names the columns."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.path, self.lost = path, Counter[str]()
        rows = self._rows(ledger)
        names = [] if (first := next(rows, None)) is None else ["" if n is None else str(n).strip() for n in first]
        if not any(names):
            raise BenchmarkError(f"{path} has no cells in its sheets. Put the table into the first.")
        ledger.note("column without a name, left out", names.count(""))
        self.names = names
        named = [name for name in names if name]
        check_names(path, named, (), "")
        self.columns = tuple(FileColumn(name) for name in named)

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        place = {name: self.names.index(name) for name in names}
        rows = islice(self._rows(Ledger()), 1, None)
        while chunk := list(islice(rows, _ROWS)):
            yield {name: _objects(row[at] if at < len(row) else None for row in chunk) for name, at in place.items()}

    def _rows(self, ledger: Ledger) -> Iterator[tuple[Any, ...]]:
        try:
            import openpyxl
        except ImportError:
            raise BenchmarkError(
                f"{self.path} is an Excel file, which needs openpyxl: pip install 'cuma[surveys]'."
            ) from None
        try:
            book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
        except Exception as error:  # zipfile's, XML's and openpyxl's own: whatever a zip may hold
            raise BenchmarkError(
                f"{self.path} is a zip archive, and no whole Excel file ({type(error).__name__}). Unpack it, or save "
                "the table as CSV."
            ) from None
        for sheet in book.worksheets:
            sheet.reset_dimensions()
            rows = (row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row))
            if (first := next(rows, None)) is not None:
                ledger.note(f"further sheets, of which only {sheet.title!r} is read", len(book.worksheets) - 1)
                yield first
                yield from rows
                return


class _RowsFile:
    """CSV, JSON lines, a JSON array or a folder that `datasets` saved."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.path, self.ledger, self.lost = path, ledger, Counter[str]()
        # A row of JSON leaves out what it does not have: only all rows together have all columns.
        some = None if path.is_dir() or is_json(path) else 1
        rows = islice(any_rows(path, Ledger(), lambda name: False), some)
        names = tuple(dict.fromkeys(str(name) for row in rows for name in row))
        if not names:
            raise no_rows(path, ledger)
        self.columns = tuple(FileColumn(name) for name in names if name)

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        aside = Ledger()
        rows = any_rows(self.path, aside, lambda name: False)
        while chunk := list(islice(rows, _ROWS)):
            yield {name: _objects(row.get(name) for row in chunk) for name in names}
        self.lost = aside.dropped
        self.ledger.noted.update(aside.noted)


def _plain(cells: pa.Array) -> np.ndarray:
    """Numbers as they are; whole numbers beside gaps are objects, because long ones would lose digits."""
    if pa.types.is_floating(cells.type) or (pa.types.is_integer(cells.type) and not cells.null_count):
        return cells.to_numpy(zero_copy_only=False)
    return _objects(cells.to_pylist())


def _objects(cells: Any) -> np.ndarray:
    """Cells as objects. Lists and objects, which are no answers, become texts of their own."""
    plain = [str(cell) if isinstance(cell, list | dict | tuple | np.ndarray | bytes) else cell for cell in cells]
    return np.array([*plain, None], dtype=object)[:-1]
