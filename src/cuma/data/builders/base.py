"""What every builder gives: tasks in TRL's own columns plus who asks, and a ledger in which no row gets lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from datasets import Dataset, Features, List, Value

from cuma.people.profiles import FIELDS, Profile

Task = Literal["sft", "dpo", "grpo", "survey", "distribution", "discrimination"]
ANSWER_CODES = ("from_zero", "from_one", "options")
"""For own data, what the numbers in a column of answers are: indices from 0, from 1, or the options themselves."""
SPLITS = ("train", "validation", "test", "unseen")
"""Nobody is in two of them. "unseen" holds the people of groups that were held out whole."""

PROFILE = {name: Value("string") for name in FIELDS}
"""The struct `profile`: every field of `cuma.Profile`, null where it is not known."""
WHO = {
    "profile": PROFILE,
    "profile_text": Value("string"),
    "person_id": Value("string"),
    "group": Value("string"),
}
"""The columns that say who asks, in every task."""
MESSAGES = List({"role": Value("string"), "content": Value("string")})
TASKS: dict[Task, Features] = {
    "sft": Features({"prompt": MESSAGES, "completion": MESSAGES, **WHO}),
    "dpo": Features({"prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES, **WHO}),
    "grpo": Features({"prompt": MESSAGES, **WHO}),
    "survey": Features(
        {
            "question_id": Value("string"),
            "question": Value("string"),
            "options": List(Value("string")),
            "answer": Value("int64"),
            "ordinal": Value("bool"),
            **WHO,
        }
    ),
    "distribution": Features(
        {
            "question_id": Value("string"),
            "question": Value("string"),
            "options": List(Value("string")),
            "distribution": List(Value("float64")),
            "ordinal": Value("bool"),
            "source": Value("string"),
            **WHO,
        }
    ),
    "discrimination": Features({"prompt": MESSAGES, "options": List(Value("string")), "answer": Value("int64"), **WHO}),
}
"""Columns of each task. In "distribution" a row is a whole group's answers, which sum to 1, and person_id is null. A
builder may put further columns between the task's own and those that say who asks."""


@dataclass(frozen=True)
class Options:
    """What a user may choose about a build."""

    seed: int = 0
    """Of the split, the sample, and whatever else is drawn."""
    sample: int | None = None
    """At most so many people (surveys) or conversations, drawn alike from every group; None: all."""
    holdout: tuple[tuple[str, str], ...] = ()
    """(field, value) pairs of `cuma.Profile`: whoever has one of them goes into the split "unseen"."""
    holdout_share: float = 0.0
    """For shares of groups: so many of the groups, drawn, go there too."""
    holdout_items: float | None = None
    """So many of the items are test items only. None: of shares `share_splits.HELD_ITEMS`, of a survey its own."""
    group_by: tuple[str, ...] = ()
    """For gss: the profile fields that make a group; empty: all."""
    rows: int = 50_000
    """At most so many rows of a survey are rendered as conversations."""
    as_released: bool = False
    """Reproduce the authors' text where it is known to be wrong."""
    further: tuple[Path, ...] = ()
    """For own data: sources beside the first, which go into the same folder and are split with it."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """For own data: our name → the file's name of a column."""
    questionnaire: Path | None = None
    """For own data with one row a respondent: what its columns are."""
    all_test: bool = False
    """For own data: everybody is kept for evaluation, in the split "test"."""
    answer_codes: str = ""
    """For own data: one of `ANSWER_CODES`, for questions whose rows do not say it themselves; "": the column tells."""


@dataclass
class Ledger:
    """Counts every row by what became of it."""

    rows_read: int = 0
    rows_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason → how often. A reason about a part of a row begins with the part: "turn: …"."""
    noted: Counter[str] = field(default_factory=Counter)
    """What was odd, and mended or passed over without losing a row → how often."""

    def read(self, rows: int = 1) -> None:
        """So many rows of the source were read."""
        self.rows_read += rows

    def keep(self, rows: int = 1) -> None:
        """So many rows of the source were used, in whole or in part."""
        self.rows_kept += rows

    def drop(self, reason: str, times: int = 1) -> None:
        """A row, or "part: …" of one, was left out. Never put what somebody said into a reason."""
        if times:
            self.dropped[reason] += times

    def note(self, what: str, times: int = 1) -> None:
        """Something was odd, and handled."""
        if times:
            self.noted[what] += times

    def add(self, other: Ledger) -> None:
        """Count what another ledger has counted too."""
        self.rows_read += other.rows_read
        self.rows_kept += other.rows_kept
        self.dropped.update(other.dropped)
        self.noted.update(other.noted)


@dataclass(eq=False)
class Built:
    """A benchmark, built and not yet written."""

    name: str
    tasks: dict[Task, dict[str, Dataset]]
    """Task → split → rows. The first task has a row for every answer. Splits without rows may be left out."""
    ledger: Ledger
    sources: tuple[Path, ...]
    """The files that were read; the card has their SHA-256 sums."""
    licence: str
    citation: str
    facts: dict[str, Any] = field(default_factory=dict)
    """Whatever else the card should say, or say in its own way ("splits"); plain types."""
    tables: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    """Folder → split → further tables, written as parquet: all coded answers of a survey, say."""


def who(profile: Profile, person_id: str | None, group: str) -> dict[str, Any]:
    """The columns that say who asks. person_id: a pseudonym within the data set; None: a whole group."""
    return {
        "profile": {name: getattr(profile, name) for name in FIELDS},
        "profile_text": profile.sentence,
        "person_id": person_id,
        "group": group,
    }


def message(role: str, content: str) -> dict[str, str]:
    """One message of a conversation."""
    return {"role": role, "content": content}
