"""Files of SPSS, Stata and SAS, with what they say of their columns: labels, codes of labels, missing codes, measure.

Read by pyreadstat, a chunk of rows at a time: it makes a Python object of every cell before it makes arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cuma.data.builders.base import Ledger
from cuma.data.builders.respondent_columns import FileColumn, code_text
from cuma.errors import BenchmarkError

READERS = {
    ".sav": "read_sav", ".zsav": "read_sav", ".por": "read_por", ".dta": "read_dta", ".xpt": "read_xport",
    ".sas7bdat": "read_sas7bdat",
}  # fmt: skip
"""Ending → pyreadstat's function."""
NAMES = {".sav": "an SPSS file", ".zsav": "an SPSS file", ".por": "an SPSS file", ".dta": "a Stata file",
         ".xpt": "a SAS file", ".sas7bdat": "a SAS file"}  # fmt: skip
_MAGIC = {b"$FL2": ".sav", b"$FL3": ".zsav", b"<stata_dta>": ".dta", b"HEADER RECORD*******LIB": ".xpt"}
_MISSING = ("read_sav", "read_dta", "read_sas7bdat")
"""Functions that tell which missing value a cell has."""
_LETTERS = ("read_dta", "read_sas7bdat")
"""Functions that give missing values of numbers as letters."""
_ENCODINGS: tuple[str | None, ...] = (None, "UTF-8", "WINDOWS-1252", "LATIN1")
"""Tried in this order; None: the one that the file names. LATIN1 knows every byte."""
_CELLS = 4_000_000
"""Cells of a chunk: some 200 MiB while they are Python's."""
_DATES = ("DATE", "TIME", "%T", "%D", "MMDD", "DDMM", "YYMM", "MONYY", "JULIAN", "WEEK", "WKYR", "QYR", "MOYR")
"""What formats of dates and times have in them, in the three programs."""


def kind_of(path: Path) -> str | None:
    """The ending of the program's format that a file has, by its first bytes or else by its name; None: another."""
    with path.open("rb") as stream:
        head = stream.read(512)
    for magic, ending in _MAGIC.items():
        if head.startswith(magic):
            return ending
    if b"SPSS PORT FILE" in head:
        return ".por"
    return path.suffix.lower() if path.suffix.lower() in READERS else None


class StatisticsFile:
    """One such file, open for reading column by column.

    Raises `BenchmarkError` for a damaged file, texts that no encoding reads, and where pyreadstat is not installed.
    """

    def __init__(self, path: Path, kind: str, ledger: Ledger) -> None:
        self.path, self.function, self.ledger = path, READERS[kind], ledger
        self.encoding: str | None = None
        self.lost = Counter[str]()
        self.reader = getattr(_pyreadstat(path, kind), self.function)
        self.more: dict[str, Any] = {}
        if self.function in _MISSING:
            self.more["user_missing"] = True
        catalog = path.with_suffix(".sas7bcat")
        if self.function == "read_sas7bdat" and catalog.exists():
            self.more["catalog_file"] = str(catalog)
            ledger.note(f"labels read from {catalog.name}")
        self.texts: set[str] = set()
        self.columns = self._columns()

    def chunks(self, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Some columns, a chunk of rows at a time: column → its cells, as numbers or objects."""
        size, offset = max(1000, _CELLS // max(1, len(names))), 0
        dated = any(column.dated for column in self.columns if column.name in names)
        while True:
            cells, _ = self._decoded(
                usecols=list(names), row_limit=size, row_offset=offset, disable_datetime_conversion=not dated
            )
            read = {name: _array(cells[name], self.function in _LETTERS and name not in self.texts) for name in names}
            length = len(next(iter(read.values()), ()))
            if length:
                yield read
            if length < size:
                return
            offset += size

    def _columns(self) -> tuple[FileColumn, ...]:
        _, meta = self._decoded(metadataonly=True)
        self.texts = {name for name, kind in meta.readstat_variable_types.items() if kind == "string"}
        return tuple(_column(name, meta, self.function, name in self.texts) for name in meta.column_names)

    def _decoded(self, **options: Any) -> Any:
        """What `_read` gives, in the first encoding from the present one on in which it can be read."""
        left = _ENCODINGS[_ENCODINGS.index(self.encoding) :] if self.function != "read_por" else (None,)
        before = self.encoding
        for self.encoding in left:
            try:
                read = self._read(**options)
            except UnicodeError:
                continue
            if self.encoding != before:
                self.ledger.note(f"texts that are not in the encoding that the file names, read as {self.encoding}")
            return read
        raise BenchmarkError(f"{self.path} has texts in an encoding that cannot be read. Save it in UTF-8.")

    def _read(self, **options: Any) -> Any:
        """pyreadstat's cells and metadata. Raises `UnicodeError` for texts of another encoding."""
        encoding = {} if self.function == "read_por" else {"encoding": self.encoding}
        try:
            return self.reader(str(self.path), output_format="dict", **self.more, **encoding, **options)
        except UnicodeError:
            raise
        except Exception as error:  # pyreadstat has classes of its own, and lets Python's through
            if "encoding" in str(error) or "convert string" in str(error):
                raise UnicodeError from None
            raise BenchmarkError(
                f"{self.path} is damaged, or no whole file of its kind ({type(error).__name__}). Copy or download it "
                "again, or save it as CSV."
            ) from None


def _pyreadstat(path: Path, kind: str) -> Any:
    try:
        import pyreadstat
    except ImportError:
        raise BenchmarkError(f"{path} is {NAMES[kind]}, which needs pyreadstat: pip install 'cuma[surveys]'.") from None
    return pyreadstat


def _array(cells: Any, letters: bool) -> np.ndarray:
    """Numbers as they are, anything else as objects. letters: those among numbers are missing values, "a" is ".a"."""
    array = np.asarray(cells)
    if array.dtype.kind in "fiu":
        return array
    array = np.asarray(cells, dtype=object)
    if letters:
        marks = [isinstance(cell, str) for cell in array]
        array[marks] = [f".{cell}" for cell in array[marks]]
    return array


def _column(name: str, meta: Any, function: str, text: bool) -> FileColumn:
    letters = function in _LETTERS and not text
    form = str(meta.original_variable_types.get(name) or "").upper()
    labels = meta.variable_value_labels.get(name) or {}
    codes = {_code(value, letters): " ".join(str(label).split()) for value, label in labels.items()}
    ranges = tuple((missing["lo"], missing["hi"]) for missing in meta.missing_ranges.get(name, ()))
    return FileColumn(
        name=name,
        label=" ".join(str(meta.column_names_to_labels.get(name) or "").split()),
        labels={code: label for code, label in codes.items() if code and label},
        missing=ranges,
        ordinal=meta.variable_measure.get(name) == "ordinal",
        dated=not text and any(mark in form for mark in _DATES),
    )


def _code(value: Any, letters: bool) -> str:
    return f".{value}" if letters and isinstance(value, str) else code_text(value)
