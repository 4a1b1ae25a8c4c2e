"""Files as people have them: sniffed, streamed, and never trusted. What cannot be read is told or counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cuma.data.builders.base import Ledger
from cuma.errors import BenchmarkError
from cuma.people.literals import NotPlain, Repeated, read_json

MAX_LINE = 16 * 2**20
"""Bytes of the longest line that is read; a longer one is passed over without being held in memory."""
MAX_ARRAY = 2**30
"""Bytes of the largest file that is read as one JSON array."""
_BOM = "\ufeff"
_MAGIC = {
    b"PK\x03\x04": "a zip archive. Unpack it",
    b"\x1f\x8b": "a gzip file. Unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel file. Save it as .xlsx or CSV",
    b"PAR1": "a parquet file",
    b"%PDF": "a PDF",
    b"$FL2": "an SPSS file. `cuma data draft` reads it",
    b"<stata_dta>": "a Stata file. `cuma data draft` reads it",
}


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
    """The lines of a text file, without BOM and NULs. Counted: other encodings, lines too long (blank ones instead).

    A line that is not UTF-8 is read as Windows-1252, which knows every byte but five; those are replaced.
    """
    check_text(path)
    for number, raw in enumerate(_raw_lines(path)):
        if len(raw) > MAX_LINE:
            ledger.read()
            ledger.drop(f"line longer than {MAX_LINE // 2**20} MiB")
            yield "\n"
            continue
        text = _decoded(raw, "line", ledger)
        yield text if number else text.removeprefix(_BOM)


def _raw_lines(path: Path) -> Iterator[bytes]:
    """Lines by "\\n", or by "\\r" in a file that has no other (an old Mac's); of one too long, its beginning."""
    with path.open("rb") as binary:
        head = binary.read(2**20)
    end = "\r" if b"\r" in head and b"\n" not in head else "\n"
    with path.open(encoding="latin-1", newline=end) as stream:  # which knows every byte
        while line := stream.readline(MAX_LINE + 1):
            rest = line
            while len(line) > MAX_LINE and rest and not rest.endswith(end):
                rest = stream.readline(MAX_LINE)
            raw = line.encode("latin-1")
            yield raw.replace(b"\r", b"\n") if end == "\r" else raw


def _decoded(raw: bytes, what: str, ledger: Ledger) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", errors="replace")
        ledger.note(f"{what} not in UTF-8, read as Windows-1252")
    if "\0" in text:
        ledger.note(f"{what} with NUL characters, taken out")
        text = text.replace("\0", "")
    return text


def json_rows(path: Path, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file, or of one JSON array; every line, or element, is counted as read.

    Dropped and counted: what is no object, and objects that name something twice. Raises `BenchmarkError` for a file
    that is one object, or an array too large to be read at once.
    """
    array = json_array(path, ledger)
    if array is not None:
        for row in array:
            ledger.read()
            yield from _usable(row, "element", ledger)
        return
    for line in lines(path, ledger):
        if not line.strip():
            continue
        ledger.read()
        try:
            row = read_json(line)
        except NotPlain:
            ledger.drop("line that is no JSON")
            continue
        for usable in _usable(row, "line", ledger):
            yield _whole_characters(usable, ledger) if "\\ud" in line.lower() else usable


def json_array(path: Path, ledger: Ledger) -> list[Any] | None:
    """The elements of a file that is one JSON array; None: it is JSONL, or no JSON.

    Raises `BenchmarkError` for a file that is one object, or an array too large to be read at once.
    """
    check_text(path)
    with path.open("rb") as stream:
        begin = stream.read(4096).decode("utf-8-sig", errors="replace").lstrip()[:1]
    first = next((line for line in lines(path, Ledger()) if line.strip()), "")
    if begin != "[" and (begin != "{" or _is_json(first)):
        return None
    if path.stat().st_size > MAX_ARRAY:
        raise BenchmarkError(f"{path} is a JSON array of more than {MAX_ARRAY // 2**30} GiB. Save it as JSONL.")
    aside = Ledger()
    try:
        value = read_json(_decoded(path.read_bytes(), "file", aside).removeprefix(_BOM))
    except NotPlain:
        return None
    if isinstance(value, dict):
        raise BenchmarkError(f"{path} is one JSON object. Save it as an array of objects, a row each, or as JSONL.")
    ledger.noted.update(aside.noted)
    return [_whole_characters(row, ledger) if isinstance(row, dict) else row for row in value]


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except NotPlain:
        return False
    return True


def _usable(row: Any, what: str, ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The row, if it is an object that names nothing twice; else nothing, and the ledger says why."""
    if not isinstance(row, dict):
        ledger.drop(f"{what} that is no JSON object")
    elif isinstance(row, Repeated):
        ledger.drop(f"{what} that names something twice")
    else:
        yield row


def _whole_characters(row: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    """JSON may hold halves of surrogate pairs, which no file can: they become question marks."""
    text = json.dumps(row, ensure_ascii=False)
    whole = text.encode("utf-8", "replace").decode("utf-8")
    if whole == text:
        return row
    ledger.note("line with half a character, replaced")
    return json.loads(whole)


def no_rows(source: Path, ledger: Ledger, hint: str = "") -> BenchmarkError:
    """The error for a source of which nothing can be used: it says what became of its rows."""
    reasons = "; ".join(f"{reason}: {times}" for reason, times in ledger.dropped.most_common(5))
    became = f"{ledger.rows_read} read; {reasons}" if reasons else f"{ledger.rows_read} read"
    rows = "no row that can be used" if ledger.rows_read or reasons else "no rows"
    return BenchmarkError(f"{source} has {rows} ({became}). {hint}".rstrip())
