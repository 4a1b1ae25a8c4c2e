"""Your own data: JSONL, CSV, parquet or a `datasets` folder, in TRL's own forms or as survey answers, with who asks.

Everything about the person is optional. A column of another name is mapped onto ours; a profile may be an object, a
sentence, or columns named like the fields of `cuma.Profile`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value
from tqdm.auto import tqdm

from cuma.data.builders import own_survey
from cuma.data.builders.any_file import any_rows
from cuma.data.builders.base import ANSWER_CODES, SPLITS, TASKS, Built, Ledger, Options, Task, who
from cuma.data.builders.held_items import OF_ROW, is_kept, role_facts, with_roles
from cuma.data.builders.own_columns import HOW, checked_mapping, is_read, renamed_columns, task_of, used_columns
from cuma.data.builders.own_items import FileItem, settle_items
from cuma.data.builders.own_people import Row, in_common, settle_people, without_column_codes
from cuma.data.builders.own_rows import DESIGN, PEOPLE, WEIGHT, read_row
from cuma.data.builders.person_splits import UNSEEN, assign, check_holdout, draw, held_out, without_shared_prompts
from cuma.data.builders.reading import existing, no_rows
from cuma.data.builders.respondent_file import is_respondent_format
from cuma.data.builders.share_splits import QUESTION_SPLIT, split_shares
from cuma.data.surveys.survey import ITEM_ROLES, Question
from cuma.errors import BenchmarkError, suggestion
from cuma.people.profiles import Profile

LICENCE = "yours"
_R = (".rds", ".rdata")


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
    items: list[FileItem] = field(default_factory=list)
    """The questions of a survey or of shares."""
    absent: dict[str, Counter[str]] = field(default_factory=dict)
    """Profile field → why its cell says nothing → rows."""

    def warnings(self) -> list[str]:
        """What training would refuse, or do otherwise than one thinks, though every row can be used."""
        if self.task != "survey" or any(in_common(self.rows).values()):
            return []
        return [
            "The people of no group have a profile field in common, so that nothing can be told of a group, and "
            "recipes with encoder.fields refuse the data. Group people by a field, or set encoder.fields=false."
        ]


def build(source: Path, options: Options) -> Built:
    """Read, check and split a file. Raises `BenchmarkError`; whatever a single row lacks is counted instead."""
    if options.questionnaire is not None:
        return own_survey.build(source, options)
    understood = understand(source, options.columns, options.answer_codes)
    rows, ledger = understood.rows, understood.ledger
    if not rows:
        raise no_rows(source, ledger)
    check_holdout(options.holdout, (row.profile for row in rows))
    facts: dict[str, Any] = {}
    chosen = draw({row.person: row.group for row in rows}, options.sample, options.seed)
    rows = [row for row in rows if row.person in chosen]
    ledger.drop("person not in the sample", len(understood.rows) - len(rows))
    if understood.task == "distribution":
        by_split, facts = _split_cells(rows, options, ledger)
    else:
        by_split = _split(rows, options)
    if understood.task == "survey":
        by_split, facts = _without_held(by_split, options, ledger)
    if understood.task == "dpo":
        prompts = {split: [_prompt_text(row) for row in its] for split, its in by_split.items()}
        by_split, left_out = without_shared_prompts(by_split, prompts)
        ledger.drop("prompt is in an evaluation split too", sum(left_out.values()))
    ledger.rows_kept = sum(map(len, by_split.values()))
    held = {name for name, role in facts.get(ITEM_ROLES, {}).items() if role != "seen"}
    untrained = _questions(rows) - _questions(by_split.get("train", [])) - held
    if understood.task != "distribution":
        ledger.note("question that nobody answers in the training split", len(untrained))
    features = _features(understood.task, rows)
    tasks = {split: _dataset(features, by_split[split]) for split in SPLITS if by_split.get(split)}
    return Built(
        "own",
        {understood.task: tasks},
        ledger,
        sources=(source,),
        licence=LICENCE,
        citation="",
        facts={
            "columns": dict(sorted(options.columns.items())),
            "answer_codes": options.answer_codes,
            "questions_left_out": _left_out(understood),
            "warnings": [*understood.warnings(), *_missing_splits(by_split, options)],
            **({"design": _design(options, rows)} if any(any(row.design) for row in rows) else {}),
            **facts,
        },
        tables=_design_tables(by_split),
    )


def _split(rows: list[Row], options: Options) -> dict[str, list[Row]]:
    """The rows by split. Several people of one id stay together, unless some are held out whole."""
    unseen = {row.person for row in rows if held_out(row.profile, options.holdout)}
    if options.all_test:
        kept = {"test": [row for row in rows if row.person not in unseen]}
        return kept | ({UNSEEN: [row for row in rows if row.person in unseen]} if unseen else {})
    groups: dict[str, set[str]] = {}
    for row in rows:
        if row.person not in unseen:
            groups.setdefault(row.unit, set()).add(row.group)
    split_of = assign({unit: " | ".join(sorted(its)) for unit, its in groups.items()}, options.seed)
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(UNSEEN if row.person in unseen else split_of[row.unit], []).append(row)
    return by_split


def _split_cells(rows: list[Row], options: Options, ledger: Ledger) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """Shares of groups by split, each told where its question is; and what the card says of that."""
    profiles: dict[str, list[Profile]] = {}
    for row in rows:
        profiles.setdefault(row.group, []).append(row.profile)
    items = {row.values["question_id"]: (row.values["question"], tuple(row.values["options"])) for row in rows}
    cells = [(row.values["question_id"], row.group) for row in rows]
    split = split_shares(cells, items, profiles, options, ledger)
    by_split: dict[str, list[Row]] = {}
    for row, where in zip(rows, split.splits, strict=True):
        item = split.item_split[row.values["question_id"]]
        by_split.setdefault(where, []).append(replace(row, values={**row.values, QUESTION_SPLIT: item}))
    return by_split, split.facts


def _without_held(
    by_split: dict[str, list[Row]], options: Options, ledger: Ledger
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
    """The answers less those to held-out questions where they do not belong; and what the card says of that."""
    values = {row.values["question_id"]: row.values for its in by_split.values() for row in its}
    questions = [
        Question(name, of["question"], tuple(of["options"]), of["ordinal"]) for name, of in sorted(values.items())
    ]
    asked = {question.id: question for question in with_roles(questions, options, ledger)}
    kept = {
        split: [row for row in its if is_kept(asked[row.values["question_id"]], split)]
        for split, its in by_split.items()
    }
    ledger.drop(OF_ROW, sum(map(len, by_split.values())) - sum(map(len, kept.values())))
    return kept, role_facts(asked.values(), options)


def _missing_splits(by_split: Mapping[str, list[Row]], options: Options) -> list[str]:
    """What cannot be done with so few people, or with so many held out."""
    missing = (
        []
        if by_split.get("train") or options.all_test
        else ["Nobody is in the training split: these data cannot be trained on."]
    )
    if not by_split.get("test") and not by_split.get(UNSEEN):
        missing.append("Nobody is in the test split: these data cannot be evaluated on. Add people, or hold some out.")
    return missing


def _left_out(understood: Understood) -> dict[str, str]:
    """Question of which no row can be used → why."""
    usable = _questions(understood.rows)
    return {item.id: item.left_out.most_common(1)[0][0] for item in understood.items if item.id not in usable}


def _questions(rows: list[Row]) -> set[str]:
    return {row.values["question_id"] for row in rows if "question_id" in row.values}


def understand(source: Path, columns: Mapping[str, str] | None = None, answer_codes: str = "") -> Understood:
    """What can be used of a file, and why the rest cannot.

    Args:
        source: a file, or a folder that `datasets` saved.
        columns: our name → the file's, where they differ; "profile.country" names the column of one profile field.
        answer_codes: what numbers among the answers are, one of `ANSWER_CODES`; "": each question's column tells.

    Raises:
        BenchmarkError: not a file of these kinds, a mapped column is not there or mapped twice, no form fits its
            columns, or a whole column cannot be read.
    """
    source, ledger = existing(source), Ledger()
    if answer_codes not in ("", *ANSWER_CODES):
        raise BenchmarkError(f"Unknown answer_codes {answer_codes!r}. {suggestion(answer_codes, ANSWER_CODES)}")
    mapping = checked_mapping(columns or {})
    _check_kind(source)
    read = any_rows(source, ledger, lambda name: is_read(name, mapping))
    whole = list(tqdm(read, desc=f"Reading {source.name}", unit=" rows", leave=False))
    if not whole:
        raise no_rows(source, ledger)
    # A row of JSON leaves out what it does not have: only all rows together have all columns.
    renamed = renamed_columns(source, tuple(dict.fromkeys(name for row in whole for name in row)), mapping)
    task = task_of(source, set(renamed.values()))
    numbered = enumerate({renamed[name]: cell for name, cell in row.items() if renamed[name]} for row in whole)
    rows = [kept for number, row in numbered if (kept := read_row(task, row, number, ledger)) is not None]
    rows = without_column_codes(rows, ledger)
    result = Understood(task, [], ledger, *used_columns(renamed))
    for one in rows:
        for name, why in one.absent:
            result.absent.setdefault(name, Counter())[why] += 1
    if task in ("survey", "distribution"):
        rows, result.items = settle_items(rows, answer_codes, ledger)
    result.rows = settle_people(rows, task, ledger)
    ledger.keep(len(result.rows))
    return result


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


def _prompt_text(row: Row) -> str:
    return json.dumps(row.values["prompt"], ensure_ascii=False, sort_keys=True)


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
