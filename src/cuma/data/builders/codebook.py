"""A codebook: wordings, and what codes mean, by column, from a file beside the survey's own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger
from cuma.data.builders.cell_text import cell_text
from cuma.data.builders.reading import existing
from cuma.data.builders.respondent_file import open_respondents, read_cells
from cuma.errors import BenchmarkError
from cuma.people.literals import NotPlain, read_json

_COLUMN = ("column", "variable", "name", "var", "question_id", "item", "code")
_TEXT = ("text", "wording", "question", "question_text", "label", "description")
_OPTIONS = ("options", "choices", "values", "value_labels", "codes", "categories")
_PAIR = re.compile(r"\s*(?P<code>[^=:]+?)\s*[=:]\s*(?P<label>.+?)\s*")


@dataclass(frozen=True)
class Entry:
    """What a codebook says of one column."""

    text: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    """Code → label."""


def read_codebook(path: Path) -> dict[str, Entry]:
    """Column → what the codebook says of it; names in lower case.

    A table (CSV, Excel) with a column that names the survey's columns, one with wordings, and optionally one with
    options as "1=Yes|2=No"; or JSON, {column: wording} or {column: {"text": …, "options": {code: label}}}.

    Raises:
        BenchmarkError: it is not there, or has no such columns.
    """
    rows = _json(path) if existing(path).suffix.lower() == ".json" else _table(path)
    found = {}
    for row in rows:
        low = {str(key).strip().casefold(): value for key, value in row.items()}
        name = next((cell_text(low[key]) for key in _COLUMN if cell_text(low.get(key))), "")
        text = next((cell_text(low[key]) for key in _TEXT if cell_text(low.get(key))), "")
        options: Any = next((low[key] for key in _OPTIONS if low.get(key)), {})
        if name:
            found[name.casefold()] = Entry(" ".join(text.split()), _options(options, path))
    if not any(entry.text or entry.options for entry in found.values()):
        raise BenchmarkError(
            f"{path} is no codebook: expected a column {' or '.join(_COLUMN[:3])} that names the survey's columns, "
            f"one called {' or '.join(_TEXT[:3])}, and optionally options, as 1=Yes|2=No."
        )
    return found


def _table(path: Path) -> list[dict[str, str]]:
    aside = Ledger()
    file = open_respondents(path, aside)
    names = [column.name for column in file.columns]
    cells, rows = read_cells(file, names, path, aside)
    return [
        {name: cells[name].texts[code] for name in names if (code := int(cells[name].codes[row])) >= 0}
        for row in range(rows)
    ]


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        tree = read_json(path.read_text(encoding="utf-8-sig"))
    except (NotPlain, UnicodeDecodeError):
        raise BenchmarkError(f"{path} is no JSON in UTF-8. Save the codebook as JSON or CSV.") from None
    if isinstance(tree, list):
        return [row for row in tree if isinstance(row, dict)]
    if not isinstance(tree, dict):
        raise BenchmarkError(f"{path} is no JSON object of columns. Save the codebook as {{column: wording}}.")
    return [{"column": name, **(entry if isinstance(entry, dict) else {"text": entry})} for name, entry in tree.items()]


def _options(value: Any, path: Path) -> dict[str, str]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise BenchmarkError(f"{path}: options that begin with {{ are no JSON object. Write 1=Yes|2=No.") from None
    if isinstance(value, Mapping):
        return {cell_text(code): " ".join(cell_text(text).split()) for code, text in value.items() if cell_text(text)}
    parts = re.split(r"[|\n;]" if isinstance(value, str) else r"$^", str(value)) if isinstance(value, str) else []
    if isinstance(value, list):
        parts = [str(place + 1) + "=" + cell_text(text) for place, text in enumerate(value)]
    pairs = [match for part in parts if part.strip() and (match := _PAIR.fullmatch(part))]
    if len(pairs) < sum(bool(part.strip()) for part in parts):
        raise BenchmarkError(f"{path}: options are written as 1=Yes|2=No, each with its code. Write them so.")
    return {cell_text(match["code"]): match["label"] for match in pairs}
