"""Reading a built folder's answers as counts of groups and, where there are people, as one row a person. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cuma.data.folder_design import CARD, read_folder_design
from cuma.data.surveys.survey import IN_TWO_WAYS, WEIGHT
from cuma.errors import BenchmarkError
from cuma.metrics.design import Design
from cuma.metrics.items import Item

MISSING = -1


@dataclass(frozen=True, eq=False)
class Answers:
    """What groups answered."""

    questions: tuple[Item, ...]
    groups: tuple[str, ...]
    """Sorted."""
    group: NDArray[np.int64]
    """[N people] index into `groups`; empty where there are no people."""
    coded: NDArray[np.int64]
    """[N people, Q] index into the question's options, -1 where not answered."""
    shares: tuple[NDArray[np.float64], ...] | None
    """Without people: per question [G, m], NaN where a group was not asked. None: there are people."""
    design: Design | None = None
    """How the survey drew these people; None: not known."""


def read_answers(folder: Path) -> Answers:
    """The answers of a built folder, all splits together.

    Taken is the first that is there of: all coded answers ("answers" beside "questions"), the task "survey", the task
    "distribution". Raises `BenchmarkError` if there is none, or it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BenchmarkError(f"{folder} is no folder. Give the one that `cuma data build` wrote.")
    try:
        if (folder / "answers").is_dir() and (folder / "questions").is_dir():
            rows = _parquet(folder / "answers")
            each = np.arange(len(rows))
            return replace(_from_wide(rows, _parquet(folder / "questions")), design=_design(folder, rows, each))
        if (folder / "survey").is_dir():
            rows = _arrow(folder / "survey")
            return replace(_from_survey(rows), design=_design(folder, rows, _people(rows)))
        if (folder / "distribution").is_dir():
            return _from_distributions(_arrow(folder / "distribution"))
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        if isinstance(error, BenchmarkError):
            raise
        raise BenchmarkError(f"{folder} is damaged ({type(error).__name__}). Build it again.") from error
    raise BenchmarkError(
        f"{folder} has no survey answers: no survey, distribution or answers in it. Build a survey benchmark."
    )


def _parquet(folder: Path) -> pa.Table:
    return pa.concat_tables(
        [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))], promote_options="default"
    )


def _arrow(task: Path) -> pa.Table:
    """All splits of a saved `DatasetDict`, read without the library that wrote them."""
    tables = []
    for split in json.loads((task / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]:
        state = json.loads((task / split / "state.json").read_text(encoding="utf-8"))
        for file in state["_data_files"]:
            with pa.memory_map(str(task / split / file["filename"])) as stream:
                tables.append(pa.ipc.open_stream(stream).read_all().replace_schema_metadata())
    return pa.concat_tables(tables, promote_options="default")


def _index(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Sorted distinct texts, and each row's place among them."""
    names, where = np.unique(np.asarray(column.cast(pa.string()).fill_null("").to_pylist(), dtype=object),
                             return_inverse=True)  # fmt: skip
    return [str(name) for name in names], where.ravel()


def _questions(table: pa.Table) -> tuple[list[Item], NDArray[np.int64]]:
    """The questions, and each row's. Raises `BenchmarkError` for one that is asked in two ways."""
    found: dict[str, int] = {}
    questions: list[Item] = []
    ids, texts, options, ordinal = (table[n].to_pylist() for n in ("question_id", "question", "options", "ordinal"))
    rows = []
    for row, (name, listed) in enumerate(zip(ids, options, strict=True)):
        question = Item(name, texts[row], tuple(listed), bool(ordinal[row]))
        if name not in found:
            found[name] = len(questions)
            questions.append(question)
        elif questions[found[name]] != question:
            raise BenchmarkError(IN_TWO_WAYS.format(name))
        rows.append(found[name])
    return questions, np.array(rows, dtype=np.int64)


def _from_survey(table: pa.Table) -> Answers:
    """One row a person, who is in the group of their first row and gave their first answer to a question."""
    questions, asked = _questions(table)
    groups, group = _index(table["group"])
    ids = table["person_id"].to_pylist()
    person = _people(table)
    coded = np.full((int(person.max(initial=-1)) + 1, len(questions)), MISSING, dtype=np.int64)
    answer = np.array(table["answer"].fill_null(MISSING).to_pylist(), dtype=np.int64)
    sizes = np.array([len(question.options) for question in questions])
    # What is written last, stays; NumPy says so of an array of places, not of a slice that runs backwards.
    backwards = np.arange(len(ids))[::-1].copy()
    coded[person[backwards], asked[backwards]] = np.where(answer < sizes[asked], answer, MISSING)[backwards]
    group_of = np.zeros(len(coded), dtype=np.int64)
    group_of[person[backwards]] = group[backwards]
    return Answers(tuple(questions), tuple(groups), group_of, coded, None)


def _people(table: pa.Table) -> NDArray[np.int64]:
    """The number of each row's person; a row without an id is a person of its own."""
    ids = [f"row {row}" if name is None else f"id {name}" for row, name in enumerate(table["person_id"].to_pylist())]
    return np.unique(ids, return_inverse=True)[1].ravel()


def _design(folder: Path, table: pa.Table, person: NDArray[np.int64]) -> Design | None:
    """Of the people whose numbers are `person`, a row's each; None: the folder has none."""
    facts = json.loads((folder / CARD).read_text(encoding="utf-8")).get("design")
    if not facts:
        return None
    weight = table[WEIGHT].to_numpy() if WEIGHT in table.column_names else np.ones(len(table))
    people = pd.DataFrame({"id": table["person_id"].to_pylist(), "weight": weight}).groupby(person).first()
    return read_folder_design(folder, facts, people["id"], people["weight"])


def _from_wide(table: pa.Table, known: pa.Table) -> Answers:
    questions = [
        Item(row["question_id"], row["question"], tuple(row["options"]), bool(row["ordinal"]))
        for row in known.select(["question_id", "question", "options", "ordinal"]).to_pylist()
        if row["question_id"] in table.column_names
    ]
    groups, group = _index(table["group"])
    coded = np.empty((len(table), len(questions)), dtype=np.int64)
    for number, question in enumerate(questions):
        column = table[question.id].fill_null(MISSING).to_numpy().astype(np.int64)
        coded[:, number] = np.where((column >= 0) & (column < len(question.options)), column, MISSING)
    return Answers(tuple(questions), tuple(groups), group, coded, None)


def _from_distributions(table: pa.Table) -> Answers:
    questions, asked = _questions(table)
    groups, group = _index(table["group"])
    shares = [np.full((len(groups), len(question.options)), np.nan) for question in questions]
    for row, values in reversed(list(enumerate(table["distribution"].to_pylist()))):
        shares[asked[row]][group[row]] = values  # a group's first row stays
    nobody = np.zeros((0, len(questions)), dtype=np.int64)
    return Answers(tuple(questions), tuple(groups), np.zeros(0, dtype=np.int64), nobody, tuple(shares))
