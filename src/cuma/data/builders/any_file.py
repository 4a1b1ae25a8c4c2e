"""Rows of whatever kind of file somebody has: CSV, JSONL or a JSON array, parquet, a folder that `datasets` saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, load_from_disk

from cuma.data.builders.base import Ledger
from cuma.data.builders.delimited import csv_rows
from cuma.data.builders.reading import json_rows, lines
from cuma.errors import BenchmarkError
from cuma.people.literals import decoded


def any_rows(source: Path, ledger: Ledger, single: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """The rows of a file or folder, each counted as read.

    single: which columns may not occur twice. Raises `BenchmarkError` for a file that is none of these.
    """
    if source.is_dir():
        return as_texts(_folder_rows(source, ledger), ledger)
    if is_parquet(source):
        return as_texts(parquet_rows(source, (), ledger), ledger)
    if is_json(source):
        return as_texts(json_rows(source, ledger), ledger)
    return as_texts(csv_rows(source, (), ledger, single=single), ledger)


def as_texts(rows: Iterable[dict[str, Any]], ledger: Ledger) -> Iterator[dict[str, Any]]:
    """The rows with texts in the place of bytes and of their print (b'…'), noted. What is no UTF-8 stays bytes."""
    for row in rows:
        texts = decoded(row)
        ledger.note("row with texts kept as bytes, read as UTF-8", texts != row)
        yield texts


def is_json(file: Path) -> bool:
    """Whether a text file is called or begins as JSON is."""
    begin = next((line for line in lines(file, Ledger()) if line.strip()), "").lstrip()
    return file.suffix.lower() in (".jsonl", ".json", ".ndjson") or begin.startswith(("{", "[{", "[\n", "[\r"))


def is_parquet(file: Path) -> bool:
    """Whether a file begins as parquet does, whatever it is called."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PAR1"


def parquet_rows(file: Path, required: Sequence[str], ledger: Ledger, hint: str = "") -> Iterator[dict[str, Any]]:
    """The rows of a parquet file, each counted as read.

    Raises `BenchmarkError` for a damaged file, one that lacks a required column, and one in which two columns have a
    name, of which a row could keep one only.
    """
    try:
        with pq.ParquetFile(file) as table:
            check_names(file, table.schema_arrow.names, required, hint)
            for batch in table.iter_batches(256):
                for row in batch.to_pylist():
                    ledger.read()
                    yield row
    except BenchmarkError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BenchmarkError(f"{file} is damaged: no whole parquet file. Copy or download it again.") from error


def check_names(file: Path, names: Sequence[str], required: Sequence[str], hint: str) -> None:
    missing = [name for name in required if name not in names]
    if missing:
        raise BenchmarkError(f"{file} lacks {len(missing)} column(s) ({', '.join(missing[:5])}). {hint}".rstrip())
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise BenchmarkError(f"{file} has the column {twice[0]!r} more than once. Keep one.")


def _folder_rows(source: Path, ledger: Ledger) -> Iterator[dict[str, Any]]:
    try:
        found = load_from_disk(str(source))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise BenchmarkError(f"{source} is no folder that `datasets` saved. Give a file, or such a folder.") from error
    for part in found.values() if isinstance(found, DatasetDict) else [found]:
        for row in part:
            ledger.read()
            yield row
