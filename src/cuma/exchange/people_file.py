"""A file of people, as many as are to be exported."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger
from cuma.data.builders.delimited import csv_rows
from cuma.data.builders.reading import json_array, lines
from cuma.errors import BenchmarkError, ExportError, ProfileError
from cuma.people.literals import NotPlain, Repeated, read_json
from cuma.people.profiles import CODED, FIELDS, Profile, without_codes

logger = logging.getLogger(__name__)

FORMS = (
    'JSONL or a JSON array (each an object of fields, a sentence, or {"profile": …}) or CSV (a column for each field), '
    "in UTF-8"
)


def read_people(file: Path) -> list[Profile]:
    """The profiles of a JSONL, JSON or CSV file, in its order, without the codes of coded columns.

    Raises:
        ExportError: the file cannot be read, or a line of it is no profile. The text says which line, and never what
            stands there.
    """
    ledger = Ledger()
    try:
        rows = _csv_rows(file, ledger) if file.suffix.lower() == ".csv" else _json_values(file, ledger)
        people = [_profile(row, f"row {number} of {file}") for number, row in enumerate(rows, 1)]
    except (OSError, BenchmarkError) as error:
        raise ExportError(f"Cannot read {file} ({error}). Expected {FORMS}.") from error
    odd = "; ".join(f"{reason}: {times}" for reason, times in {**ledger.dropped, **ledger.noted}.items())
    if odd:
        raise ExportError(f"{file} cannot be read whole ({odd}). Expected {FORMS}.")
    bare, times = without_codes(people)
    for name, count in times.items():
        logger.warning("%s: %s: %d times.", name, CODED, count)
    return bare


def _csv_rows(file: Path, ledger: Ledger) -> Iterator[dict[str, str]]:
    for row in csv_rows(file, (), ledger, single=lambda name: True):
        if row.keys().isdisjoint(("profile", *FIELDS)):  # its names may be somebody's answers
            raise ExportError(f"{file} names no field of a profile in its first line. Expected {FORMS}.")
        yield row


def _json_values(file: Path, ledger: Ledger) -> Iterator[Any]:
    array = json_array(file, ledger)
    if array is not None:
        yield from array
        return
    for line in lines(file, ledger):
        if line.strip():
            try:
                yield read_json(line)
            except NotPlain:
                yield NotImplemented  # no JSON value: refused with its number


def _profile(row: Any, where: str) -> Profile:
    if isinstance(row, dict) and set(row) == {"profile"}:
        row = row["profile"] or {}
    if not isinstance(row, dict | str) or isinstance(row, Repeated):
        raise ExportError(f"{where} is no profile. Expected {FORMS}.")
    try:
        return Profile.parse(row)
    except ProfileError as error:
        raise ExportError(f"{where}: {error}") from error
