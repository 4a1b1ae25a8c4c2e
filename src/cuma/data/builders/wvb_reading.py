"""The answers of WorldValuesBench, from either of its forms, as small numbers: a person a row, a question a column."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from tqdm import tqdm

from cuma.data.builders.base import Ledger
from cuma.data.builders.delimited import RAGGED, UNCLOSED, csv_rows, read_layout
from cuma.data.builders.reading import MAX_LINE, lines, no_rows
from cuma.data.builders.wvb_codes import (
    FIELDS,
    MISSING,
    NO_NUMBER,
    OUTSIDE,
    PROFILE_COLUMNS,
    TAKEN_OUT,
    UNKNOWN,
    Encoder,
    answer_encoder,
    profile_encoders,
    whole_id,
)
from cuma.data.builders.wvb_scales import Metadata, find
from cuma.errors import BenchmarkError

PERSON = "D_INTERVIEW"
TWICE = "858069901"
"""The id that occurs more than once in the survey's own file: WorldValuesBench leaves out all of its rows."""
TREE = {"test": "test", "valid": "validation", "train": "train"}
"""WorldValuesBench's folder → our split. In this order somebody who is in two of them stays out of training."""
_ODD = {
    OUTSIDE: "answer outside its question's scale, made missing",
    NO_NUMBER: "answer that is no number, made missing",
    TAKEN_OUT: "answer that answer_adjustment.json makes missing",
}
_BLOCK = MAX_LINE + 2**20
"""Bytes that are parsed at a time; every line that is read fits."""
_WAVE = "WorldValuesBench needs wave 7 of the World Values Survey, the CSV (v5 or v6)."
_COMPANIONS = ("country2continent.csv", "education2level.csv")
"""CSV files of WorldValuesBench that hold no people."""


@dataclass(eq=False)
class Respondents:
    """N people and their coded answers to Q questions."""

    ids: np.ndarray
    """[N] text: D_INTERVIEW."""
    fields: np.ndarray
    """[N, F] places in `vocabulary`, by `FIELDS`; -1 where absent."""
    vocabulary: dict[str, list[str]]
    """Field → its texts."""
    answers: np.ndarray
    """[N, Q] int8 indices of options; -1 where missing."""
    split: np.ndarray
    """[N] text: "train", "validation" or "test"."""
    sources: list[Path] = field(default_factory=list)

    def only(self, chosen: np.ndarray) -> Respondents:
        """Some of the people, by a mask."""
        return Respondents(
            self.ids[chosen],
            self.fields[chosen],
            self.vocabulary,
            self.answers[chosen],
            self.split[chosen],
            self.sources,
        )


def read(source: Path, metadata: Metadata, ledger: Ledger) -> Respondents:
    """The people of a raw CSV, or of WorldValuesBench's TSV tree, each person once and each with a country.

    Raises `BenchmarkError` where neither is found, or a file is not what it should be.
    """
    folder = source if source.is_dir() else source.parent
    raw = _raw_file(source)
    people = _read_raw(raw, metadata, ledger) if raw else _read_tree(folder, metadata, ledger)
    first = np.zeros(len(people.ids), dtype=np.bool_)
    first[np.unique(people.ids.astype(str), return_index=True)[1]] = True
    ledger.drop(f"duplicate {PERSON}, the first is kept", int((~first).sum()))
    known = people.fields[:, FIELDS.index("country")] >= 0
    ledger.drop("unknown country code", int((first & ~known).sum()))
    people = people.only(first & known)
    for code, what in _ODD.items():
        ledger.note(what, int((people.answers == code).sum()))
    people.answers[people.answers < 0] = MISSING
    for place, name in enumerate(FIELDS):
        ledger.note(f"unknown code of {name}, read as absent", int((people.fields[:, place] == UNKNOWN).sum()))
    people.fields[people.fields < 0] = -1
    return people


def probe_people(folder: Path, ledger: Ledger) -> tuple[set[str], list[Path]]:
    """The ids in samples.tsv, if it is there, and the file. Noted: its rows that cannot be read."""
    path = find(folder, "samples.tsv")
    if path is None:
        return set(), []
    aside = Ledger()
    ids = {whole_id(row[PERSON]) for row in csv_rows(path, [PERSON], aside)} - {""}
    for reason, times in aside.dropped.items():
        ledger.note(f"{path.name}: {reason}", times)
    return ids, [path]


def released_splits(people: int) -> np.ndarray:
    """[people] text: the split of each row in the file's order, as WorldValuesBench draws it."""
    order = list(range(people))
    random.Random(0).shuffle(order)
    train, test = int(0.7 * people), int(0.15 * people)
    splits = np.empty(people, dtype="<U10")
    splits[order[:train]] = "train"
    splits[order[train : train + test]] = "test"
    splits[order[train + test :]] = "validation"
    return splits


# --- the two forms ---------------------------------------------------------------------------------------------------


def _raw_file(source: Path) -> Path | None:
    """The CSV of people, or what is there in its place; None: a TSV tree is there. Raises `BenchmarkError`."""
    if source.is_file():
        return source
    files = [path for path in sorted(source.glob("*.csv")) if path.name not in _COMPANIONS]
    found = [path for path in files if _looks_raw(path)]
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise BenchmarkError(f"{source} holds {len(found)} CSV files with people ({names}). Keep one.")
    if found:
        return found[0]
    if find(source, "train_value_qa.tsv"):
        return None
    if files:
        return files[0]
    raise BenchmarkError(
        f"{source} holds neither the survey's CSV nor WorldValuesBench's train_value_qa.tsv. {_WAVE} "
        "Unpack what you have downloaded into this folder."
    )


def _looks_raw(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(2**20)
    first = head.split(b"\n", 1)[0]
    return not head.strip() or b"\0" in head or PERSON.encode() in first or b"B_COUNTRY" in first


def _read_raw(path: Path, metadata: Metadata, ledger: Ledger) -> Respondents:
    vocabulary: dict[str, list[str]] = {}
    encoders = profile_encoders(metadata, vocabulary) | {s.id: answer_encoder(s, raw=True) for s in metadata.scales}
    ids, columns = _read_coded(path, encoders, ledger)
    ledger.drop(f"{PERSON} {TWICE}, which several people share", int((ids == TWICE).sum()))
    stays = (ids != "") & (ids != TWICE)
    people = _respondents(ids[stays], {n: c[stays] for n, c in columns.items()}, metadata, vocabulary, [path])
    people.split = released_splits(len(people.ids))
    return people


def _read_tree(folder: Path, metadata: Metadata, ledger: Ledger) -> Respondents:
    vocabulary: dict[str, list[str]] = {}
    parts = []
    about = profile_encoders(metadata, vocabulary)
    values = {s.id: answer_encoder(s, raw=False) for s in metadata.scales}
    for name, split in TREE.items():
        paths = []
        for kind in ("value", "demographic"):
            path = find(folder, f"{name}_{kind}_qa.tsv")
            if path is None:
                raise BenchmarkError(f"{folder} has no {name}_{kind}_qa.tsv. Copy WorldValuesBench's whole tree.")
            paths.append(path)
        ids, answers = _read_coded(paths[0], values, ledger)
        aside = Ledger()
        theirs, profiles = _read_coded(paths[1], about, aside)
        for reason, times in aside.dropped.items():
            ledger.drop(f"demographics: {reason}", times)
        for what, times in aside.noted.items():
            ledger.note(f"demographics: {what}", times)
        row: dict[str, int] = {}
        for place, person in enumerate(theirs):
            row.setdefault(str(person), place)
        ledger.drop(
            f"demographics: duplicate {PERSON}, the first is kept", int((theirs != "").sum()) - len(row.keys() - {""})
        )
        row.pop("", None)
        at = np.array([row.get(str(person), -1) for person in ids], dtype=np.int64)
        ledger.drop("demographics: row without answers", len(row.keys() - set(map(str, ids))))
        ledger.drop("person without a row of demographics", int(((at < 0) & (ids != "")).sum()))
        ledger.drop(f"{PERSON} {TWICE}, which several people share", int(((ids == TWICE) & (at >= 0)).sum()))
        stays = (at >= 0) & (ids != TWICE)
        columns = {n: c[stays] for n, c in answers.items()} | {n: c[at[stays]] for n, c in profiles.items()}
        part = _respondents(ids[stays], columns, metadata, vocabulary, paths)
        part.split = np.full(len(part.ids), split, dtype="<U10")
        parts.append(part)
    return Respondents(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.fields for part in parts]),
        vocabulary,
        np.concatenate([part.answers for part in parts]),
        np.concatenate([part.split for part in parts]),
        [path for part in parts for path in part.sources],
    )


def _respondents(
    ids: np.ndarray,
    columns: dict[str, np.ndarray],
    metadata: Metadata,
    vocabulary: dict[str, list[str]],
    sources: list[Path],
) -> Respondents:
    answers = np.empty((len(ids), len(metadata.scales)), dtype=np.int8)
    for place, scale in enumerate(metadata.scales):
        answers[:, place] = columns[scale.id]
    fields = np.stack([columns[column] for column in PROFILE_COLUMNS], axis=1)
    return Respondents(ids, fields, vocabulary, answers, np.empty(0, dtype="<U10"), sources)


# --- large files ----------------------------------------------------------------------------------------------------


def _read_coded(
    path: Path, encoders: Mapping[str, Encoder], ledger: Ledger
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The ids and the coded columns of a file, block by block; no text of a cell is kept but ids.

    Every row is counted as read; rows of another width and rows without an id (they come back with "") as dropped.
    """
    cells = {name: _Cells(encode) for name, encode in encoders.items()}
    ids: list[str] = []
    try:
        with tqdm(desc=f"Read {path.name}", unit=" people") as bar:
            for batch in batches(path, [PERSON, *encoders], ledger):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                ids += map(whole_id, columns[PERSON].to_pylist())
                for name, column in cells.items():
                    column.add(columns[name])
                bar.update(batch.num_rows)
    except pa.ArrowInvalid:
        # Arrow's own text may quote a row. It also comes for a file without rows.
        if ids:
            raise BenchmarkError(f"{path} cannot be read as CSV. Download it again.") from None
    ledger.read(len(ids))
    people = np.array(ids, dtype=object)
    ledger.drop(f"row without {PERSON}", int((people == "").sum()))
    if not ids:
        raise no_rows(path, ledger, "Download it again.")
    return people, {name: np.concatenate(column.parts) for name, column in cells.items()}


def batches(path: Path, wanted: Sequence[str], ledger: Ledger) -> Iterator[pa.RecordBatch]:
    """Some columns of a CSV as texts, 16 MiB at a time. Rows that are left out are counted as read and dropped.

    Raises `BenchmarkError` if a column is missing or occurs twice, and `pa.ArrowInvalid` for a file without rows.
    """
    layout = read_layout(path, wanted, _WAVE)

    def skip(row: Any) -> str:
        ledger.read()
        ledger.drop(RAGGED)
        return "skip"

    rows = _Lines(islice(lines(path, ledger), layout.lines, None), layout.style["delimiter"], ledger)
    source = io.BufferedReader(rows, _BLOCK)
    with arrow_csv.open_csv(
        source,
        read_options=arrow_csv.ReadOptions(
            column_names=[name if name in wanted else f"\0{place}" for place, name in enumerate(layout.names)],
            block_size=_BLOCK,
            use_threads=False,
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=layout.style["delimiter"], invalid_row_handler=skip),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=list(wanted),
            column_types={name: pa.string() for name in wanted},
            strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


class _Lines(io.RawIOBase):
    """The rows of a file as UTF-8 for arrow: a line a row, whatever its quotation marks say.

    A line in which arrow would find a cell that goes on in the next one is dropped and counted.
    It gives a line at a time: arrow makes a batch of every read, so that it is to be read through a buffer.
    """

    def __init__(self, source: Iterator[str], delimiter: str, ledger: Ledger) -> None:
        self.lines, self.ledger = source, ledger
        cell, end = r'(?:"(?:[^"]|"")*+"|[^"{0}][^{0}]*+)?+', re.escape(delimiter)
        self.whole = re.compile(f"{cell}(?:{{0}}{cell})*+".format(end))
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.rest:
            line = next(self.lines, None)
            if line is None:
                return 0
            text = line.rstrip("\r\n").replace("\r", " ")
            if '"' in text and not self.whole.fullmatch(text):
                self.ledger.read()
                self.ledger.drop(UNCLOSED)
            elif text:
                self.rest = f"{text}\n".encode()
        size = min(len(buffer), len(self.rest))
        buffer[:size] = self.rest[:size]
        self.rest = self.rest[size:]
        return size


class _Cells:
    """One column, coded: every distinct text is looked at once."""

    def __init__(self, encode: Encoder) -> None:
        self.encode = encode
        self.known: dict[str, int] = {}
        self.parts: list[np.ndarray] = []

    def add(self, column: Any) -> None:
        """Code a block's cells."""
        coded = column.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        for text in texts:
            if text not in self.known:
                self.known[text] = self.encode(text)
        codes = np.array([self.known[text] for text in texts], dtype=np.int32)
        narrow = codes.astype(np.int8) if len(codes) and np.abs(codes).max() < 128 else codes
        self.parts.append(narrow[coded.indices.to_numpy(zero_copy_only=False)] if len(codes) else narrow)
