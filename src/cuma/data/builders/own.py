"""Your own data: JSONL, CSV, parquet or a `datasets` folder, in TRL's own forms or as survey answers, with who asks.

Everything about the person is optional. A column of another name is mapped onto ours; a profile may be an object, a
sentence, or columns named like the fields of `cuma.Profile`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value
from tqdm.auto import tqdm

from cuma.data.builders.any_file import any_rows
from cuma.data.builders.base import SPLITS, TASKS, Built, Ledger, Options, Task, who
from cuma.data.builders.own_rows import GROUP, PEOPLE, PERSON, WEIGHT, Row, read_row
from cuma.data.builders.person_splits import UNSEEN, assign, check_holdout, draw, held_out, without_shared_prompts
from cuma.data.builders.reading import existing, no_rows
from cuma.errors import BenchmarkError, suggestion
from cuma.people.profiles import FIELDS

LICENCE = "yours"
FORMS: dict[Task, tuple[str, ...]] = {
    "dpo": ("prompt", "chosen", "rejected"),
    "distribution": ("question", "options", "distribution"),
    "survey": ("question", "options", "answer"),
    "sft": ("prompt", "completion"),
    "grpo": ("prompt",),
}
"""Task → the columns that make it, in the order in which a file is asked for them. `messages` is sft too."""
KNOWN = (
    "messages",
    *dict.fromkeys(c for cs in FORMS.values() for c in cs),
    "question_id",
    "ordinal",
    "profile",
    PEOPLE,
)


@dataclass
class Understood:
    """A file, read and checked, and not yet split."""

    task: Task
    rows: list[Row]
    ledger: Ledger
    used: tuple[str, ...]
    """The file's columns that mean something to us."""
    unused: tuple[str, ...]
    """The others."""
    present: Counter[str] = field(default_factory=Counter)
    """Profile field → rows that have it."""
    values: dict[str, set[str]] = field(default_factory=dict)
    """Profile field → the distinct values: to be counted, never shown."""


def build(source: Path, options: Options) -> Built:
    """Read, check and split a file. Raises `BenchmarkError`; whatever a single row lacks is counted instead."""
    understood = understand(source, options.columns)
    rows = understood.rows
    if not rows:
        raise no_rows(source, understood.ledger)
    check_holdout(options.holdout, (row.profile for row in rows))
    group_of = {row.person: row.group for row in rows}
    chosen = draw(group_of, options.sample, options.seed)
    rows = [row for row in rows if row.person in chosen]
    understood.ledger.drop("person not in the sample", len(understood.rows) - len(rows))
    unseen = {row.person for row in rows if held_out(row.profile, options.holdout)}
    split_of = assign({row.person: row.group for row in rows if row.person not in unseen}, options.seed)
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(split_of.get(row.person, UNSEEN), []).append(row)
    if understood.task == "dpo":
        prompts = {split: [_prompt_text(row) for row in its] for split, its in by_split.items()}
        by_split, left_out = without_shared_prompts(by_split, prompts)
        understood.ledger.drop("prompt is in an evaluation split too", sum(left_out.values()))
    understood.ledger.rows_kept = sum(map(len, by_split.values()))
    tasks = {split: _dataset(understood.task, by_split[split]) for split in SPLITS if by_split.get(split)}
    return Built(
        "own",
        {understood.task: tasks},
        understood.ledger,
        sources=(source,),
        licence=LICENCE,
        citation="",
        facts={"columns": dict(sorted(options.columns.items()))},
    )


def understand(source: Path, columns: Mapping[str, str] | None = None) -> Understood:
    """What can be used of a file, and why the rest cannot.

    columns: our name → the file's, where they differ; "profile.country" names the column of one profile field.

    Raises:
        BenchmarkError: not a file of these kinds, a mapped column is not there, or no form fits its columns.
    """
    source, ledger = existing(source), Ledger()
    mapping = _checked(columns or {})
    ours = {theirs: our for our, theirs in mapping.items()}
    raw = any_rows(source, ledger, lambda name: _is_known(ours.get(name, name)))
    first = next(raw, None)
    if first is None:
        raise no_rows(source, ledger)
    names = tuple(first)
    missing = sorted(set(mapping.values()) - set(names))
    if missing:
        raise BenchmarkError(f"{source} lacks the column {missing[0]!r}. {suggestion(missing[0], names)}")
    renamed = {name: ours.get(name, name) for name in names}
    task = _task(source, set(renamed.values()))
    used = tuple(name for name, our in renamed.items() if _is_known(our))
    result = Understood(task, [], ledger, used, tuple(name for name in names if name not in used))
    for number, row in enumerate(_all(first, raw, source)):
        reading = {renamed.get(name, name): value for name, value in row.items()}
        kept = read_row(task, reading, number, ledger)
        if kept is not None:
            ledger.keep()
            result.rows.append(kept)
            result.present.update(list(kept.profile.fields))
            for name, value in kept.profile.fields.items():
                result.values.setdefault(name, set()).add(value)
    return result


def _checked(columns: Mapping[str, str]) -> dict[str, str]:
    for our in columns:
        if not _is_known(our):
            raise BenchmarkError(f"Unknown column name {our!r}. {suggestion(our, [*KNOWN, PERSON, GROUP, WEIGHT])}")
    return dict(columns)


def _is_known(our: str) -> bool:
    return our in (*KNOWN, PERSON, GROUP, WEIGHT) or our.removeprefix("profile.") in FIELDS


def _task(source: Path, names: set[str]) -> Task:
    if "messages" in names:
        return "sft"
    for task, needed in FORMS.items():
        if names >= set(needed):
            return task
    forms = "; ".join("+".join(needed) for needed in FORMS.values())
    # Where no name is known, the first line may be somebody's answers.
    has = f"the columns {', '.join(sorted(names)[:12])}" if any(map(_is_known, names)) else "no column of a known name"
    raise BenchmarkError(
        f"{source} has {has}; expected messages, or one of {forms}. Name the columns in the first line, or map other "
        "names with --column OURS=THEIRS."
    )


# --- reading ---------------------------------------------------------------------------------------------------------


def _all(first: dict[str, Any], rest: Iterator[dict[str, Any]], source: Path) -> Iterator[dict[str, Any]]:
    with tqdm(desc=f"Reading {source.name}", unit=" rows", leave=False) as bar:
        for row in _chained(first, rest):
            bar.update()
            yield row


def _chained(first: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rest


# --- writing ---------------------------------------------------------------------------------------------------------


def _prompt_text(row: Row) -> str:
    return json.dumps(row.values["prompt"], ensure_ascii=False, sort_keys=True)


def _dataset(task: Task, rows: list[Row]) -> Dataset:
    features = dict(TASKS[task])
    weighted = any(row.weight is not None for row in rows)
    if weighted:
        features = {WEIGHT: Value("float64"), **features}
    if any(PEOPLE in row.values for row in rows):
        features = {PEOPLE: Value("int64"), **features}
    table = [
        {
            **({WEIGHT: 1.0 if row.weight is None else row.weight} if weighted else {}),
            **row.values,
            **who(row.profile, row.person, row.group),
        }
        for row in rows
    ]
    for row in table:
        for name in features:
            row.setdefault(name, None)
    return Dataset.from_list(table, features=Features(features))
