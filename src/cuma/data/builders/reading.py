"""Files as people have them: sniffed, streamed, and never trusted. What cannot be read is told or counted."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger
from cuma.errors import BenchmarkError

MAX_LINE = 16 * 2**20
"""Bytes of the longest line that is read; a longer one is passed over without being held in memory."""
DELIMITERS = (",", ";", "\t", "|")
_BOM = "\ufeff"
_MAGIC = {
    b"PK\x03\x04": "a zip archive (or an Excel file). Unpack it, or save it as CSV",
    b"\x1f\x8b": "a gzip file. Unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel or SPSS file. Save it as CSV",
    b"PAR1": "a parquet file",
    b"%PDF": "a PDF",
    b"$FL2": "an SPSS file. Save it as CSV",
}

csv.field_size_limit(MAX_LINE)


def existing(path: str | Path) -> Path:
    """The path, if something is there. Raises `BenchmarkError`."""
    path = Path(path).expanduser()
    if not path.exists():
        raise BenchmarkError(f"{path} does not exist. Name the file or folder that you have obtained.")
    return path


def check_text(path: Path) -> None:
    """Raise `BenchmarkError` for a file that is empty, or is no text (a zip in place of a CSV)."""
    with existing(path).open("rb") as stream:
        head = stream.read(4096)
    if not head.strip():
        raise BenchmarkError(f"{path} is empty. Download it again.")
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise BenchmarkError(f"{path} is {what}; text was expected.")
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or head.count(0) > len(head) // 10:
        raise BenchmarkError(f"{path} is not UTF-8 text (UTF-16, or binary). Save it as UTF-8.")


def lines(path: Path, ledger: Ledger) -> Iterator[str]:
    """The lines of a text file, without their ends, BOM and NULs. Counted: other encodings, lines too long.

    A line that is not UTF-8 is read as Windows-1252, which knows every byte but five; those are replaced.
    """
    check_text(path)
    with path.open("rb") as stream:
        first = True
        while raw := stream.readline(MAX_LINE + 1):
            if len(raw) > MAX_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(MAX_LINE)
                ledger.read()
                ledger.drop(f"line longer than {MAX_LINE // 2**20} MiB")
                continue
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                text = raw.decode("cp1252", errors="replace")
                ledger.note("line not in UTF-8, read as Windows-1252")
            if "\0" in text:
                ledger.note("line with NUL characters, taken out")
                text = text.replace("\0", "")
            yield text.removeprefix(_BOM) if first else text
            first = False


def sniff_delimiter(header: str, required: Sequence[str]) -> str:
    """The delimiter under which a header line has most of the `required` columns, or else most columns."""

    def found(delimiter: str) -> tuple[int, int]:
        names = _cells(header, delimiter)
        return len(set(names) & set(required)), len(names)

    return max(DELIMITERS, key=found)


def _cells(header: str, delimiter: str) -> list[str]:
    """The names in a header line; none if it is no CSV."""
    try:
        return [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error:
        return []


def csv_rows(path: Path, required: Sequence[str], ledger: Ledger, hint: str = "") -> Iterator[dict[str, str]]:
    """The rows of a CSV as dicts of stripped names → text; every row is counted as read.

    required: columns that must be there. hint: what to do if they are not ("Is this wave 7?").
    Dropped and counted: rows with fewer or more cells than the header. Raises `BenchmarkError` for a missing column or
    one that occurs twice.
    """
    source = lines(path, ledger)
    header = next(source, "")
    delimiter = sniff_delimiter(header, required)
    names = _cells(header, delimiter)
    if not names:
        raise BenchmarkError(f"{path} has no header: its first line is no row of a CSV.")
    missing = [name for name in required if name not in names]
    if missing:
        raise BenchmarkError(
            f"{path} lacks {len(missing)} column(s) ({', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}); "
            f"its delimiter was read as {delimiter!r}. {hint}".rstrip()
        )
    twice = [name for name in required if names.count(name) > 1]
    if twice:
        raise BenchmarkError(f"{path} has the column {twice[0]!r} twice. Take one out.")
    reader = csv.reader(source, delimiter=delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            ledger.read()
            ledger.drop("row that is no CSV")
            continue
        if not cells:
            continue
        ledger.read()
        if len(cells) != len(names):
            ledger.drop("row with more or fewer cells than the header")
            continue
        yield dict(zip(names, cells, strict=True))


def json_rows(path: Path, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; every line is counted as read. Dropped and counted: lines that are no object."""
    for line in lines(path, ledger):
        if not line.strip():
            continue
        ledger.read()
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            ledger.drop("line that is no JSON")
            continue
        if not isinstance(row, dict):
            ledger.drop("line that is no JSON object")
            continue
        yield _whole_characters(row, ledger) if "\\ud" in line.lower() else row


def _whole_characters(row: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """JSON may hold halves of surrogate pairs, which no file can: they become question marks."""
    text = json.dumps(row, ensure_ascii=False)
    whole = text.encode("utf-8", "replace").decode("utf-8")
    if whole != text:
        ledger.note("line with half a character, replaced")
    return json.loads(whole)
