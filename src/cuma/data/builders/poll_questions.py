"""The files of a poll: tables of any kind, and the questions in one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from cuma.data.builders.any_file import any_rows
from cuma.data.builders.base import Ledger
from cuma.data.builders.own_rows import read_question
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.scales import is_ordinal
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import IN_TWO_WAYS, Question
from cuma.errors import BenchmarkError, suggestion
from cuma.recipes import strict_yaml

EXCEL = (".xlsx", ".xlsm")
_ASKED = ("question_id", "question", "options", "ordinal")


@dataclass(frozen=True, eq=False)
class Table:
    """A file's rows, and what there is to say of it."""

    path: Path
    rows: list[dict[str, Any]]
    names: tuple[str, ...]
    """All columns."""
    noted: Counter[str] = field(default_factory=Counter)
    """What was odd, and mended → how often."""

    def require(self, *columns: str) -> None:
        """Raises BenchmarkError for a column that is not there, with the nearest name."""
        for column in columns:
            if column not in self.names:
                raise BenchmarkError(f"{self.path} lacks the column {column!r}. {suggestion(column, self.names)}")


def read_table(path: str | Path) -> Table:
    """The rows of a CSV, JSON, JSONL, parquet, YAML or Excel file.

    Raises:
        BenchmarkError: it cannot be read, or not whole: who is left out here would be missing from an estimate.
    """
    path, ledger = existing(path), Ledger()
    suffix = path.suffix.lower()
    if suffix in EXCEL:
        rows: list[dict[str, Any]] = _excel(path)
    elif suffix in (".yaml", ".yml"):
        rows = _yaml(path)
    else:
        rows = list(any_rows(path, ledger, lambda name: True))
    if ledger.dropped:
        reasons = "; ".join(f"{reason}: {times}" for reason, times in ledger.dropped.items())
        raise BenchmarkError(f"{path} cannot be read whole ({reasons}). Mend those rows.")
    if not rows:
        raise no_rows(path, ledger)
    return Table(path, rows, tuple(dict.fromkeys(name for row in rows for name in row)), ledger.noted)


def _excel(path: Path) -> list[dict[str, Any]]:
    try:
        frame = pd.read_excel(path, dtype=object, na_filter=False)
    except ImportError as error:
        raise BenchmarkError(f"To read {path} openpyxl is needed: pip install 'cuma[surveys]', or save CSV.") from error
    except (ValueError, KeyError, OSError, BadZipFile) as error:  # what is said of a file that is none
        raise BenchmarkError(f"{path} is no Excel file that can be read ({type(error).__name__}). Save CSV.") from error
    return [{str(name): cell for name, cell in row.items()} for row in frame.to_dict("records")]


def _yaml(path: Path) -> list[dict[str, Any]]:
    try:
        value = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except (strict_yaml.StrictYamlError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path} is no YAML ({error}).") from error
    value = value.get("questions") if isinstance(value, Mapping) else value
    if not isinstance(value, list) or not all(isinstance(row, Mapping) for row in value):
        raise BenchmarkError(f"{path} is no list. Expected entries with question and options: - question: …")
    return [dict(row) for row in value]


@dataclass(frozen=True)
class QuestionFile:
    """What is asked."""

    questions: tuple[Question, ...]
    noted: tuple[str, ...] = ()
    """What a user should know of how the file was read."""


def read_questions(path: str | Path) -> QuestionFile:
    """The questions of a file: columns question, options (a list, or text with `|`), optionally question_id, ordinal.

    A question that stands there again in the same words is asked once.

    Raises:
        BenchmarkError: no such file, a column is missing, a row is no question, or one id names two questions.
    """
    table = read_table(path)
    table.require("question", "options")
    found: dict[str, Question] = {}
    for number, row in enumerate(table.rows, 1):
        asked = _question(row, f"{table.path}, question {number}")
        if found.setdefault(asked.id, asked) != asked:
            raise BenchmarkError(f"{table.path}: {IN_TWO_WAYS.format(asked.id)}")
    again = len(table.rows) - len(found)
    noted = [f"{what}: {times}" for what, times in table.noted.items()]
    noted += [f"{again} rows of {table.path.name} repeat a question, which is asked once"] if again else []
    return QuestionFile(tuple(found.values()), (*noted, *not_read(table.names, _ASKED)))


def _question(row: dict[str, Any], where: str) -> Question:
    try:
        read = read_question(row)
    except BenchmarkError as error:
        raise BenchmarkError(f"{where}: {error}.") from error
    options = tuple(read["options"])
    if len(options) > len(LETTERS):
        raise BenchmarkError(f"{where} has {len(options)} options; at most {len(LETTERS)} can have a letter each.")
    ordinal = read["ordinal"]
    return Question(read["question_id"], read["question"], options, is_ordinal(options) if ordinal is None else ordinal)


def not_read(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """A sentence about columns that mean nothing here, if there are any."""
    others = [name for name in names if name not in known]
    if not others:
        return []
    more = ", …" if len(others) > 8 else ""
    return [f"not read: the columns {', '.join(others[:8])}{more}" if len(others) > 1 else f"not read: {others[0]}"]
