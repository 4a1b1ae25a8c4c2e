"""Your own data: JSONL, CSV, parquet or a `datasets` folder, in TRL's own forms or as survey answers, with who asks.

Everything about the person is optional. A column of another name is mapped onto ours; a profile may be an object, a
sentence, or columns named like the fields of `cuma.Profile`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value
from tqdm.auto import tqdm

from cuma.data.builders import own_survey
from cuma.data.builders.any_file import any_rows
from cuma.data.builders.base import ANSWER_CODES, SPLITS, TASKS, Built, Ledger, Options, Task, who
from cuma.data.builders.own_columns import (
    HOW,
    check_there,
    checked_mapping,
    is_read,
    renamed_columns,
    task_of_row,
    tasks_of,
    used_columns,
)
from cuma.data.builders.own_items import FileItem, settle_items
from cuma.data.builders.own_people import Row, in_common, settle_people, without_column_codes
from cuma.data.builders.own_rows import DESIGN, PEOPLE, WEIGHT, RawRow, read_row
from cuma.data.builders.own_splits import missing_splits, questions_of, split_rows, tasks_in
from cuma.data.builders.person_splits import check_holdout, draw
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.respondent_file import is_respondent_format
from cuma.data.builders.share_splits import QUESTION_SPLIT
from cuma.errors import BenchmarkError, suggestion

LICENCE = "yours"
_R = (".rds", ".rdata")


@dataclass(frozen=True)
class FilePart:
    """What one of several sources gave."""

    name: str
    """Of the file, without its folder."""
    rows_read: int
    tasks: dict[Task, int]
    """Task → rows that can be read alone."""
    dropped: dict[str, int]


@dataclass
class Understood:
    """Files, read and checked, and not yet split."""

    parts: tuple[FilePart, ...]
    rows: list[Row]
    ledger: Ledger
    used: tuple[str, ...]
    """The files' columns that mean something to us."""
    unused: tuple[str, ...]
    """The others."""
    items: list[FileItem] = field(default_factory=list)
    """The questions of a survey or of shares."""
    absent: dict[str, Counter[str]] = field(default_factory=dict)
    """Profile field → why its cell says nothing → rows."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What the columns make, whether or not a row of it can be used."""
        return tuple(dict.fromkeys(task for part in self.parts for task in part.tasks))

    def warnings(self) -> list[str]:
        """What training would refuse, or do otherwise than one thinks, though every row can be used."""
        answers = [row for row in self.rows if row.task == "survey"]
        if not answers or any(in_common(answers).values()):
            return []
        return [
            "The people of no group have a profile field in common, so that nothing can be told of a group, and "
            "recipes with encoder.fields refuse the data. Group people by a field, or set encoder.fields=false."
        ]


def build(source: Path, options: Options) -> Built:
    """Read, check and split files. Raises `BenchmarkError`; whatever a single row lacks is counted instead."""
    if options.questionnaire is not None:
        if options.further:
            raise BenchmarkError("A questionnaire explains one file. Give one --source, or build the others apart.")
        return own_survey.build(source, options)
    sources = (source, *options.further)
    understood = understand(sources, options.columns, options.answer_codes)
    rows, ledger = understood.rows, understood.ledger
    if not rows:
        raise no_rows(source, ledger)
    check_holdout(options.holdout, (row.profile for row in rows))
    chosen = draw({row.person: row.group for row in rows}, options.sample, options.seed)
    rows = [row for row in rows if row.person in chosen]
    ledger.drop("person not in the sample", len(understood.rows) - len(rows))
    by_split, facts = split_rows(rows, options, ledger)
    ledger.rows_kept = sum(map(len, by_split.values()))
    several = len(sources) > 1 or len(understood.tasks) > 1
    return Built(
        "own",
        {task: _datasets(task, by_split) for task in tasks_in(rows)},
        ledger,
        sources=sources,
        licence=LICENCE,
        citation="",
        facts={
            "columns": dict(sorted(options.columns.items())),
            "answer_codes": options.answer_codes,
            "questions_left_out": _left_out(understood),
            "warnings": [*understood.warnings(), *missing_splits(by_split, options)],
            **({"parts": [asdict(part) for part in understood.parts]} if several else {}),
            **({"design": _design(options, rows)} if any(any(row.design) for row in rows) else {}),
            **facts,
        },
        tables=_design_tables(by_split),
    )


def _left_out(understood: Understood) -> dict[str, str]:
    """Question of which no row can be used → why."""
    usable = questions_of(understood.rows, "survey", "distribution")
    return {item.id: item.left_out.most_common(1)[0][0] for item in understood.items if item.id not in usable}


def understand(
    sources: Path | Sequence[Path], columns: Mapping[str, str] | None = None, answer_codes: str = ""
) -> Understood:
    """What can be used of files, and why the rest cannot. A row's task is told by the columns that it fills.

    Args:
        sources: files, or folders that `datasets` saved.
        columns: our name → the files', where they differ; "profile.country" names the column of one profile field.
        answer_codes: what numbers among the answers are, one of `ANSWER_CODES`; "": each question's column tells.

    Raises:
        BenchmarkError: not a file of these kinds, a mapped column is not there or mapped twice, no form fits its
            columns, a whole column cannot be read, or of one of several sources no row can be used.
    """
    files = [existing(one) for one in ([sources] if isinstance(sources, Path) else sources)]
    if answer_codes not in ("", *ANSWER_CODES):
        raise BenchmarkError(f"Unknown answer_codes {answer_codes!r}. {suggestion(answer_codes, ANSWER_CODES)}")
    if len({file.resolve() for file in files}) < len(files):
        raise BenchmarkError("A source is given twice, and its rows would count twice. Give each one once.")
    mapping = checked_mapping(columns or {})
    ledgers = [Ledger() for _ in files]
    wholes = [_whole(file, mapping, own) for file, own in zip(files, ledgers, strict=True)]
    # A row of JSON leaves out what it does not have: only all rows together have all columns.
    names = [tuple(dict.fromkeys(name for row in whole for name in row)) for whole in wholes]
    check_there(dict(zip(files, names, strict=True)), mapping)
    result = Understood((), [], Ledger(), (), ())
    raw: list[RawRow] = []
    number = count()
    for file, whole, own, its_names in zip(files, wholes, ledgers, names, strict=True):
        renamed = renamed_columns(its_names, mapping)
        tasks = tasks_of(file, set(renamed.values()))
        rows = _rows(tasks, whole, renamed, number, own)
        if len(files) > 1 and not rows:
            raise no_rows(file, own)
        of_tasks = {task: its for task in tasks if (its := sum(row.task == task for row in rows))}
        result.parts += (FilePart(file.name, own.rows_read, of_tasks or {tasks[0]: 0}, dict(own.dropped)),)
        used, unused = used_columns(renamed)
        result.used, result.unused = _both(result.used, used), _both(result.unused, unused)
        result.ledger.add(own)
        raw += rows
    _settle(result, raw, answer_codes)
    return result


def _settle(result: Understood, raw: list[RawRow], answer_codes: str) -> None:
    """What only all rows together tell: codes, questions, people."""
    ledger = result.ledger
    raw = without_column_codes(raw, ledger)
    for one in raw:
        for name, why in one.absent:
            result.absent.setdefault(name, Counter())[why] += 1
    for task in ("survey", "distribution"):
        asked = [row for row in raw if row.task == task]
        usable, items = settle_items(asked, answer_codes, ledger)
        raw = [row for row in raw if row.task != task] + usable
        result.items += items
    result.rows = settle_people(raw, ledger)
    ledger.keep(len(result.rows))


def _whole(source: Path, mapping: Mapping[str, str], ledger: Ledger) -> list[dict[str, Any]]:
    """All rows of a file, as they are."""
    _check_kind(source)
    read = any_rows(source, ledger, lambda name: is_read(name, mapping))
    whole = list(tqdm(read, desc=f"Reading {source.name}", unit=" rows", leave=False))
    if not whole:
        raise no_rows(source, ledger)
    return whole


def _rows(
    tasks: tuple[Task, ...], whole: list[dict[str, Any]], renamed: Mapping[str, str], number: Iterator[int], own: Ledger
) -> list[RawRow]:
    """The rows of a file that can be read alone, each as one of the tasks that its columns make."""
    rows: list[RawRow] = []
    for cells in whole:
        row = {renamed[name]: cell for name, cell in cells.items() if renamed[name]}
        kept = read_row(task_of_row(row, tasks, own), row, next(number), own)
        rows += [] if kept is None else [kept]
    return rows


def _both(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*some, *others)))


def _check_kind(source: Path) -> None:
    """Raise `BenchmarkError` for a statistics package's own file, with the way to read it."""
    if kind := is_respondent_format(source):
        raise BenchmarkError(f"{source} is {kind}, {HOW}")
    if source.suffix.lower() in _R:
        raise BenchmarkError(
            f"{source} is an R file, which cuma does not read. Save it in R with haven::write_sav, and then draft a "
            "questionnaire: cuma data draft FILE.sav --output questionnaire.yaml."
        )


# --- writing ---------------------------------------------------------------------------------------------------------


def _design(options: Options, rows: list[Row]) -> dict[str, Any]:
    """What the card says of the sample's design."""
    there = [name for place, name in enumerate(DESIGN) if any(row.design[place] for row in rows)]
    weighted = any(row.weight is not None for row in rows)
    source = {name: options.columns.get(name, name) for name in [*there, *([WEIGHT] if weighted else [])]}
    return {"strata": "stratum" in there, "units": "unit" in there, "weights": WEIGHT if weighted else None,
            "replicates": None, "source": source}  # fmt: skip


def _design_tables(by_split: Mapping[str, list[Row]]) -> dict[str, dict[str, pa.Table]]:
    """The stratum and sampling unit of each person, if anybody has one."""
    if not any(any(row.design) for rows in by_split.values() for row in rows):
        return {}
    tables = {}
    for split, rows in by_split.items():
        people = {row.person: row.design for row in rows}
        columns = {name: [design[place] or None for design in people.values()] for place, name in enumerate(DESIGN)}
        names = ["person_id", *DESIGN]
        cells = [list(people), *columns.values()]
        tables[split] = pa.table([pa.array(each, type=pa.string()) for each in cells], names=names)
    return {"design": {split: table for split, table in tables.items() if len(table)}}


def _features(task: Task, rows: list[Row]) -> Features:
    """The columns of every split, whichever of its rows have a weight or a number of people."""
    features = dict(TASKS[task])
    if any(row.weight is not None for row in rows):
        features = {WEIGHT: Value("float64"), **features}
    if any(PEOPLE in row.values for row in rows):
        features = {PEOPLE: Value("int64"), **features}
    if task == "distribution":
        features = {QUESTION_SPLIT: Value("string"), **features}
    return Features(features)


def _datasets(task: Task, by_split: Mapping[str, list[Row]]) -> dict[str, Dataset]:
    """Split → the rows of a task, where there are any."""
    its = {split: [row for row in rows if row.task == task] for split, rows in by_split.items()}
    features = _features(task, [row for rows in its.values() for row in rows])
    return {split: _dataset(features, its[split]) for split in SPLITS if its.get(split)}


def _dataset(features: Features, rows: list[Row]) -> Dataset:
    table = [
        {
            **dict.fromkeys(features),
            **({WEIGHT: 1.0 if row.weight is None else row.weight} if WEIGHT in features else {}),
            **row.values,
            **who(row.profile, row.person, row.group),
        }
        for row in rows
    ]
    return Dataset.from_list(table, features=features)
