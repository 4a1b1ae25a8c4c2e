"""What a survey benchmark is: questions, groups with a profile, and one row per person with their answers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.errors import BenchmarkError, suggestion
from cuma.metrics.design import Design
from cuma.people.profiles import Profile

Role = Literal["seen", "validation", "test"]
"""What a group is for: its people train the model, or it is held out whole for tuning, or for the final test. An item
likewise."""
Part = Literal["train", "validation", "test"]
"""What a person is for. People of a held-out group are all in the part of the group's role."""
OptionOrders = Literal["rotations", "natural", "fixed"]
"""Options are shown in every rotation, or, where they are steps on a scale, in their own order and reversed."""
ROLES: tuple[Role, ...] = get_args(Role)
PARTS: tuple[Part, ...] = get_args(Part)

NO_ANSWER = -1
"""The code in a question's column of a person who did not answer it."""
WEIGHT = "weight"
"""The optional column of survey weights."""
ALL = "all"
"""What a built folder's card says of `answers` where its coded tables, and not its survey rows, hold every answer."""
ITEM_ROLES = "item_roles"
"""The entry of a built folder's card that says of every item what it is for. Without it all items are seen."""
IN_TWO_WAYS = "The question {!r} is asked in two ways. Give each way a question_id of its own."
OWN_COLUMNS = ("person", "group", "part", WEIGHT)
"""Columns of `Survey.people` that no question can be called by."""


@dataclass(frozen=True)
class Question:
    """One closed question."""

    id: str
    """The survey's own name for it; the column of `Survey.people`."""
    text: str
    """The wording a model reads."""
    options: tuple[str, ...]
    """The answers, in the survey's own order."""
    ordinal: bool
    """Whether the options are steps on a scale; if not, they are mere names."""
    role: Role = "seen"
    """What the item is for, as of a group: it is trained on, or held out whole."""
    option_orders: OptionOrders = "rotations"
    """In which orders its options are shown (`cuma.data.surveys.prompts.question_orders`)."""
    family: str = ""
    """Shared by items that ask the same thing, where that is known by hand; "": the wordings tell."""


@dataclass(frozen=True)
class Group:
    """People who share a profile."""

    id: str
    """A readable label."""
    profile: Profile
    """What the model is told about them."""
    role: Role


@dataclass(frozen=True, eq=False)
class Survey:
    """A benchmark, split and ready. Built by `cuma.data.catalog.load_benchmark`.

    Raises `BenchmarkError` where people, groups and questions do not fit together.
    """

    name: str
    questions: tuple[Question, ...]
    groups: tuple[Group, ...]
    people: pd.DataFrame
    """One row per person: `person` (int64, a running number, not the survey's id), `group` (str), `part`, optionally
    `weight` (float, the survey's own weight of the person), then one int64 column per question: the index into its
    options, or `NO_ANSWER`."""
    card: dict
    """source, citation, licence, rule, rows_read, dropped {reason: n}, kept, seed, versions, groups per
    role, and people per role and part. Plain types only: it goes into run.json."""
    design: Design | None = None
    """How the survey drew its people, by their numbers; None: not known."""

    def __post_init__(self) -> None:
        weight = [WEIGHT] if self.weighted else []
        expected = ["person", "group", "part", *weight, *(question.id for question in self.questions)]
        if list(self.people.columns) != expected:
            raise BenchmarkError(f"{self.name}: people has columns {list(self.people.columns)}, expected {expected}.")
        if not self.people["person"].is_unique:
            raise BenchmarkError(f"{self.name}: a person number occurs twice in people. Number each person once.")
        if set(self.people["group"]) != {group.id for group in self.groups}:
            raise BenchmarkError(f"{self.name}: the groups of people and the list of groups differ.")
        if self.weighted and not (np.isfinite(self.people[WEIGHT]) & (self.people[WEIGHT] >= 0)).all():
            raise BenchmarkError(f"{self.name}: a survey weight is negative or not a number. Leave such people out.")
        for question in self.questions:
            if not self.people[question.id].between(NO_ANSWER, len(question.options) - 1).all():
                raise BenchmarkError(
                    f"{self.name}: an answer to {question.id} is outside -1..{len(question.options) - 1}. "
                    "Recode answers to indices into the options."
                )

    @property
    def weighted(self) -> bool:
        """Whether people have survey weights."""
        return WEIGHT in self.people.columns

    def counts(self, part: str, roles: Collection[str], *, weighted: bool = False) -> pd.DataFrame:
        """How many people of one part gave each answer, or with `weighted` the sum of their survey weights.

        Returns columns `group`, `question_id`, `counts` (array [options] of int64, or of float with weights, in the
        order of `options`), one row for every group and question that both have one of `roles`, in the order of
        `groups` and `questions`. A cell that nobody answered is there, with zeros. Raises `BenchmarkError` for weights
        that the survey does not have.
        """
        if weighted:
            self.require_weights()
        check_names("part", [part], PARTS)
        check_names("role", roles, ROLES)
        people = self.people[self.people["part"] == part]
        labels = [group.id for group in self.groups if group.role in roles]
        place = people["group"].map({label: number for number, label in enumerate(labels)})
        weights = people[WEIGHT] if weighted else None
        questions = self.with_roles(roles)
        tables = [
            _counted(place, people[question.id], len(labels), len(question.options), weights) for question in questions
        ]
        rows = [
            (label, question.id, table[number])
            for number, label in enumerate(labels)
            for question, table in zip(questions, tables, strict=True)
        ]
        return pd.DataFrame(rows, columns=["group", "question_id", "counts"])

    def with_roles(self, roles: Collection[str]) -> tuple[Question, ...]:
        """The questions with one of `roles`."""
        return tuple(question for question in self.questions if question.role in roles)

    def shown(self, option_orders: OptionOrders) -> Survey:
        """The survey with its options shown in other orders."""
        return replace(self, questions=tuple(replace(one, option_orders=option_orders) for one in self.questions))

    def require_weights(self) -> None:
        """Raises `BenchmarkError` if the survey has no weights."""
        if not self.weighted:
            raise BenchmarkError(f"{self.name} has no survey weights. Set data.survey_weights to false.")


def _counted(
    place: pd.Series, answers: pd.Series, groups: int, options: int, weights: pd.Series | None
) -> NDArray[np.int64] | NDArray[np.float64]:
    """[G, m]: how many people of each group gave each answer. place: of the people's groups, NaN in none of them."""
    there = (place.notna() & (answers != NO_ANSWER)).to_numpy()
    cells = place[there].astype("int64") * options + answers[there]
    counted = np.bincount(cells, None if weights is None else weights[there], minlength=groups * options)
    return counted.reshape(groups, options)


def check_names(kind: str, names: Collection[str], known: Collection[str]) -> None:
    """Raise `BenchmarkError` for a name that is not known, or for text where a collection of names is meant."""
    if isinstance(names, str):
        raise BenchmarkError(f"Expected a collection of {kind}s, got the text {names!r}. Write ({names!r},).")
    for name in names:
        if name not in known:
            raise BenchmarkError(f"Unknown {kind} {name!r}. {suggestion(str(name), known)}")
