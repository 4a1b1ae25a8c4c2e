"""A file of people, as many as are to be exported."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuma.errors import ExportError, ProfileError
from cuma.people.profiles import Profile

FORMS = 'JSONL (an object of fields, a sentence, or {"profile": …} a line) or CSV (a column for each field)'


def read_people(file: Path) -> list[Profile]:
    """The profiles of a JSONL or CSV file, in its order.

    Raises:
        ExportError: the file cannot be read, or a line of it is no profile. The text says which line, and never what
            stands there.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream) if file.suffix.lower() == ".csv" else _json_lines(stream)
            return [_profile(row, f"row {number} of {file}") for number, row in enumerate(rows, 1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExportError(f"Cannot read {file} ({type(error).__name__}). Expected {FORMS}, in UTF-8.") from error


def _json_lines(stream: Any) -> Iterator[Any]:
    for line in stream:
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                yield NotImplemented  # no JSON value: refused with its number


def _profile(row: Any, where: str) -> Profile:
    if isinstance(row, dict) and set(row) == {"profile"}:
        row = row["profile"]
    if not isinstance(row, dict | str):
        raise ExportError(f"{where} is no profile. Expected {FORMS}.")
    try:
        return Profile.parse(row)
    except ProfileError as error:
        raise ExportError(f"{where}: {error}") from error
