"""A built folder, read again: its rows for the trainers, and its survey answers, if any, as a `Survey`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict, load_from_disk

from cuma.data.builders.person_splits import UNSEEN
from cuma.data.builders.share_splits import CORNERS, QUESTION_SPLIT
from cuma.data.coded_answers import coded_people, with_card_roles
from cuma.data.folder_design import CARD, read_folder_design
from cuma.data.surveys.survey import ALL, IN_TWO_WAYS, NO_ANSWER, WEIGHT, Group, OptionOrders, Question, Role, Survey
from cuma.errors import BenchmarkError
from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.shares import N
from cuma.people.profiles import FIELDS, Profile

HELD_OUT = "{} (held out)"


@dataclass(frozen=True, eq=False)
class Shares:
    """How whole groups answered questions."""

    questions: tuple[Question, ...]
    table: pd.DataFrame
    """group, seen, question_id, shares (array over the question's options), profile; item_seen, if the data were split
    by items as well; and n, the number of people, if they say it: one row for every group and question."""

    @property
    def counted(self) -> bool:
        """Whether it is known of every cell how many people its shares are of."""
        return N in self.table and bool(self.table[N].notna().all())


@dataclass(frozen=True, eq=False)
class Corpus:
    """What `cuma data build` wrote."""

    path: Path
    card: dict[str, Any]
    option_orders: OptionOrders = "rotations"
    """How the questions of `shares` show their options."""

    @classmethod
    def open(cls, folder: str | Path, option_orders: OptionOrders = "rotations") -> Corpus:
        """Raises `BenchmarkError` if the folder was not built."""
        path = Path(folder).expanduser()
        try:
            card = json.loads((path / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BenchmarkError(f"{folder} holds no benchmark. Make one with `cuma data build`.") from error
        return cls(path, card, option_orders)

    def rows(self, task: str) -> DatasetDict | None:
        """Split → rows of a task; None if the folder does not have it."""
        folder = self.path / task
        return load_from_disk(str(folder)) if folder.is_dir() else None

    def training_rows(self, task: str) -> Dataset | None:
        """The training rows of a task; None if there are none.

        Of WorldValuesBench's two forms only the lettered one. Where grpo has no rows of its own, those of dpo, each
        prompt of a person once, with the reply that they preferred as `reference`.
        """
        splits = self.rows(task)
        rows = None if splits is None else splits.get("train")
        if rows is None:
            pairs = self.training_rows("dpo") if task == "grpo" else None
            return None if pairs is None else _prompts(pairs)
        if "form" not in rows.column_names:
            return rows
        return rows.select([place for place, form in enumerate(rows["form"]) if form == "letter"])

    def shares(self) -> Shares | None:
        """What test rows of the task "distribution" say; None if there are none.

        Where the data were split by items and groups, all four corners. Of an older folder's groups that were held out
        whole, only questions that are test questions for everybody else too, where it tells them (`question_split`):
        sides then differ in their groups and in nothing else. The first row of a group and question counts.
        """
        return self._shares(("test", UNSEEN))

    def training_shares(self, split: str = "train") -> Shares | None:
        """The rows of the task "distribution" that are trained on, or with "validation" those to choose by; None if
        there are none."""
        return self._shares((split,))

    def _shares(self, wanted: tuple[str, ...]) -> Shares | None:
        splits = self.rows("distribution")
        rows = {split: splits[split] for split in wanted if split in splits} if splits is not None else {}
        corners = CORNERS in self.card
        table = pd.concat([_shares(split, found, corners) for split, found in rows.items()]) if rows else pd.DataFrame()
        if table.empty:
            return None
        both = table["group"].isin(set(table["group"][table["seen"]])) & ~table["seen"]
        table["group"] = table["group"].where(~both, table["group"].map(HELD_OUT.format))
        table = table.drop_duplicates(["group", "question_id"], ignore_index=True)
        asked = {question.id: replace(question, option_orders=self.option_orders) for question in _questions(rows)}
        return Shares(tuple(asked[name] for name in table["question_id"].unique()), table)

    def survey(self, language: str = "") -> Survey:
        """People, groups and answers.

        A group's profile is what all its people have in common. Without a survey task there are no questions, and
        nothing to evaluate by survey. Only the first answer of a person to a question counts.

        language: of the questions, where they are worded in several; "": the first. Raises `BenchmarkError` for one
        in which nothing was built.
        """
        if self.card.get("answers") == ALL:
            questions, table = coded_people(self.path, self.card, language)
            table = people = _labelled(table)
            weight = [WEIGHT] if WEIGHT in table else []
            answers = {question.id: table[question.id].to_numpy("int64") for question in questions}
        else:
            if language:
                raise BenchmarkError(f"{self.path} has no languages to choose from: leave data.language out.")
            rows = self.rows("survey")
            table = _people(rows or next(filter(None, map(self.rows, self.card["tasks"]))))
            questions = with_card_roles(_questions(rows), self.card)
            people = table.drop_duplicates("person_id", ignore_index=True)
            weight = [WEIGHT] if rows is not None and WEIGHT in next(iter(rows.values())).column_names else []
            answers = _answers(table, [question.id for question in questions], people["person_id"])
        columns: dict[str, Any] = {"person": people.index.to_numpy("int64"), "group": people["label"]}
        columns |= {"part": people["split"].replace(UNSEEN, "test"), **{name: people[name] for name in weight}}
        groups = tuple(
            Group(str(label), shared_profile(members["profile"]), _role(members["split"]))
            for label, members in table.groupby("label", sort=True)
        )
        drawn = self.card.get("design")
        design = read_folder_design(self.path, drawn, people["person_id"], people[WEIGHT] if weight else None)
        card = {**self.card, "source": f"built with `cuma data build {self.card['name']}`"}
        return Survey(self.card["name"], questions, groups, pd.DataFrame({**columns, **answers}), card, design)


def _prompts(pairs: Dataset) -> Dataset:
    first: dict[bytes, int] = {}
    for place, row in enumerate(pairs.select_columns(["person_id", "prompt"])):
        first.setdefault(hashlib.sha256(json.dumps(row).encode()).digest(), place)
    return pairs.select(list(first.values())).remove_columns("rejected").rename_column("chosen", "reference")


def _people(splits: DatasetDict) -> pd.DataFrame:
    tables = []
    for split, rows in splits.items():
        asked = [name for name in ("question_id", "answer", WEIGHT) if name in rows.column_names]
        table = rows.select_columns(["profile", "person_id", "group", *asked]).to_pandas()
        table["split"] = split
        tables.append(table)
    whole = _labelled(pd.concat(tables, ignore_index=True))
    # Without an id, an answer is a person's of their own; any other row is about a whole group.
    own = "row " + pd.Series(whole.index.astype(str), index=whole.index)
    whole["person_id"] = whole["person_id"].fillna(own if "answer" in whole else whole["label"])
    return whole


def _labelled(whole: pd.DataFrame) -> pd.DataFrame:
    """With the column label: the group, told apart where only some of its people were held out."""
    # Held out by another field than the group's, a group has people on both sides.
    both = whole["group"].isin(set(whole["group"][whole["split"] != UNSEEN])) & (whole["split"] == UNSEEN)
    return whole.assign(label=whole["group"].where(~both, whole["group"].map(HELD_OUT.format)))


def _shares(split: str, rows: Dataset, corners: bool) -> pd.DataFrame:
    """corners: whether what was new is kept, in the place of leaving out what was not."""
    optional = [name for name in (N, QUESTION_SPLIT) if name in rows.column_names]
    table = rows.select_columns(["group", "question_id", "distribution", "profile", *optional]).to_pandas()
    if split == UNSEEN and QUESTION_SPLIT in optional:
        table = table[table[QUESTION_SPLIT].isin(["train", "test"] if corners else ["test"])]
    if corners:
        table[ITEM_SEEN] = table[QUESTION_SPLIT] == "train"
    table = table.rename(columns={"distribution": "shares"}).assign(seen=split != UNSEEN)
    return table[["group", "seen", "question_id", "shares", "profile", *(c for c in (N, ITEM_SEEN) if c in table)]]


def _questions(splits: Mapping[str, Dataset] | None) -> tuple[Question, ...]:
    found: dict[str, Question] = {}
    for rows in (splits or {}).values():
        table = rows.select_columns(["question_id", "question", "options", "ordinal"]).to_pandas()
        table["options"] = table["options"].map(tuple)
        for name, text, options, ordinal in table.drop_duplicates().itertuples(index=False):
            asked = Question(name, text, options, bool(ordinal))
            if found.setdefault(asked.id, asked) != asked:
                raise BenchmarkError(IN_TWO_WAYS.format(asked.id))
    return tuple(found.values())


def _answers(table: pd.DataFrame, questions: Sequence[str], people: pd.Series) -> dict[str, np.ndarray]:
    """Question → each person's first answer."""
    if not questions:
        return {}
    first = table.drop_duplicates(["person_id", "question_id"])
    coded = np.full((len(people), len(questions)), NO_ANSWER, dtype="int64")
    row, column = (
        pd.Index(people).get_indexer(first["person_id"]),
        pd.Index(questions).get_indexer(first["question_id"]),
    )
    coded[row, column] = first["answer"]
    return {question: coded[:, place] for place, question in enumerate(questions)}


def shared_profile(profiles: pd.Series) -> Profile:
    """What rows of the column `profile` have in common."""
    first, *others = profiles
    return Profile(**{name: first[name] for name in FIELDS if all(other[name] == first[name] for other in others)})


def _role(splits: pd.Series) -> Role:
    found = set(splits)
    if found == {UNSEEN}:
        return "test"
    return "validation" if found == {"validation"} else "seen"
