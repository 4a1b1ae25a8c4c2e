"""What training knows, in one form for people's answers and for shares of groups; all that an anchor may read.

The answers that a test measures are not in it: of what is asked only the place is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cuma.data.corpus import Shares
from cuma.data.surveys.splits import lot
from cuma.data.surveys.survey import Group, Question, Role, Survey
from cuma.errors import ProfileError
from cuma.people.profiles import Profile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TRIAL = 0.2
"""Share of the training cells, or groups, to choose by where the data keep none for that."""
ASKED_ROLES = ("seen", "test")


class Encoder(Protocol):
    """Sentences → vectors [B, D], as `ProfileEncoder`."""

    def __call__(self, profiles: list[str], /) -> ArrayLike: ...


@dataclass(frozen=True, eq=False)
class Cells:
    """Groups' answers to questions, one cell each; sorted by question and group, whatever the order of rows."""

    group: Ints
    """[N], places in `Known.groups`."""
    question: Ints
    """[N], places in `Known.questions`."""
    counts: tuple[Floats, ...]
    """Of each cell, how many people chose each option; shares, where the number of people is not known."""

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def n(self) -> Floats:
        """[N]: how many people answered, or 1 where that is not known."""
        return np.array([counts.sum() for counts in self.counts], dtype=np.float64)

    @cached_property
    def shares(self) -> tuple[Floats, ...]:
        """Of each cell, the shares of the options."""
        return tuple(counts / counts.sum() for counts in self.counts)

    def where(self, kept: NDArray[np.bool_]) -> Cells:
        """The cells [N] that are kept."""
        rows = np.flatnonzero(kept)
        return Cells(self.group[rows], self.question[rows], tuple(self.counts[row] for row in rows))


@dataclass(frozen=True, eq=False)
class Texts:
    """What a frozen sentence encoder makes of the words; a zero vector of no words."""

    profiles: Floats
    """[G, D], each group's sentence."""
    items: Floats
    """[Q, D], each question's wording."""


@dataclass(frozen=True, eq=False)
class Said:
    """What an anchor says."""

    shares: list[Floats]
    """Of each asked cell, probabilities of the options; NaN where it says nothing."""
    items: Mapping[str, int]
    """How many items it answered from what."""
    left_out: int = 0
    """Training cells that it could not take in, for there are too many."""


@dataclass(frozen=True, eq=False)
class Known:
    """What an anchor may read."""

    name: str
    """The benchmark's."""
    questions: tuple[Question, ...]
    """With their roles: only "seen" ones have training cells."""
    groups: tuple[Group, ...]
    """With their roles: only "seen" ones have training cells."""
    training: Cells
    choosing: Cells
    """What the data keep to choose by, of any role but "test"."""
    asked: tuple[Ints, Ints]
    """Groups [A] and questions [A] that are asked, as places."""
    counted: bool
    """Whether the number of people is known."""
    pooled: bool
    """Whether an average counts each person once (people's answers), or each group once (published shares)."""
    profile_embeds: Floats | None = None
    """[G, D]: what a router reads of each group, if anybody needs it."""
    texts: Texts | None = None
    no_encoder: str = ""
    """Why there are no texts, and how to get what is missing."""

    def __post_init__(self) -> None:
        embeds = self.profile_embeds
        if embeds is not None and (
            embeds.ndim != 2 or len(embeds) != len(self.groups) or not np.isfinite(embeds).all()
        ):
            raise ProfileError(
                f"Anchors expected finite profile embeddings [{len(self.groups)}, D], one row for each group of "
                f"the survey, got shape {embeds.shape}. Encode the profiles of survey.groups, in their order."
            )

    def read(self, encode: Encoder, profile_embeds: ArrayLike | None = None) -> Known:
        """The same with the words' embeddings. profile_embeds: [G, D], left out: those of the profiles' sentences."""
        sentences, wordings = [one.profile.sentence for one in self.groups], [one.text for one in self.questions]
        texts = Texts(*(np.asarray(encode(words), dtype=np.float64) for words in (sentences, wordings)))
        embeds = texts.profiles if profile_embeds is None else np.asarray(profile_embeds, dtype=np.float64)
        return replace(self, texts=texts, profile_embeds=embeds)

    @cached_property
    def trained(self) -> Ints:
        """Places of the questions that have training cells."""
        return np.unique(self.training.question)

    @cached_property
    def seen_groups(self) -> NDArray[np.bool_]:
        """[G]: whether a group has training cells."""
        return np.isin(np.arange(len(self.groups)), self.training.group)

    def table(self, cells: Cells, question: int) -> Floats:
        """[G, m]: the counts of one question; zeros where a group has none."""
        table = np.zeros((len(self.groups), len(self.questions[question].options)))
        for row in np.flatnonzero(cells.question == question):
            table[cells.group[row]] = cells.counts[row]
        return table

    def trial(self, of_groups: bool = False) -> tuple[Known, Cells]:
        """The same with the cells to choose by in the place of what is asked; and those cells.

        They are what the data keep for it, or with `of_groups` those of it that are of trained questions and of groups
        that were not trained on. Where none is of a trained question, a fifth of the training cells, or groups, by lot,
        goes over to them.
        """
        choosing, training = self.choosing, self.training
        old = np.isin(choosing.question, self.trained)
        if of_groups:
            choosing = choosing.where(old & ~self.seen_groups[choosing.group])
        if not np.isin(choosing.question, self.trained).any():
            over = by_lot(self.names(training), max(TRIAL, 1 / max(len(training), 1)), "cell")
            if of_groups:
                who = np.unique(training.group)
                lots = by_lot([self.groups[k].id for k in who], max(TRIAL, 1 / max(len(who), 1)), "group")
                over = np.isin(training.group, who[lots])
            choosing, training = joined(choosing, training.where(over)), training.where(~over)
        return replace(self, training=training, asked=(choosing.group, choosing.question)), choosing

    def names(self, cells: Cells) -> list[str]:
        """A name for each cell, for lots."""
        pairs = zip(cells.question, cells.group, strict=True)
        return [f"{self.questions[question].id}\0{self.groups[group].id}" for question, group in pairs]


def joined(first: Cells, second: Cells) -> Cells:
    """The cells of both."""
    group = np.concatenate([first.group, second.group])
    return Cells(group, np.concatenate([first.question, second.question]), first.counts + second.counts)


def by_lot(names: list[str], share: float, what: str) -> NDArray[np.bool_]:
    """The share of the names with the lowest lots: the same for every order of them."""
    lots = [(lot(name, 0, f"anchors, {what}"), name) for name in names]
    chosen = set(sorted(lots)[: round(share * len(names))])
    return np.array([one in chosen for one in lots], dtype=bool)


def known_of_survey(survey: Survey) -> Known:
    """What is known of a survey: its training people's answers."""
    training = _cells(survey.counts("train", ["seen"]), survey.groups, survey.questions)
    who = [k for k, group in enumerate(survey.groups) if group.role in ASKED_ROLES]
    what = [k for k, question in enumerate(survey.questions) if question.role in ASKED_ROLES]
    asked = np.array([(group, question) for question in what for group in who], dtype=np.int64).reshape(-1, 2)
    return Known(
        survey.name, survey.questions, survey.groups, training,
        choosing=_cells(survey.counts("validation", ["seen", "validation"]), survey.groups, survey.questions),
        asked=(asked[:, 0], asked[:, 1]), counted=True, pooled=True,
    )  # fmt: skip


def known_of_shares(name: str, training: Shares | None, choosing: Shares | None, asked: Shares) -> Known:
    """What is known where shares of groups are trained on. Shares count as answers of `n` people, if every training
    cell says how many those are."""
    counted = training is not None and training.counted
    parts: list[tuple[Role, Shares]] = [("seen", training)] if training is not None else []
    parts += [("validation", choosing)] if choosing is not None else []
    questions: dict[str, Question] = {}
    groups: dict[str, Group] = {}
    for role, part in [*parts, ("test", asked)]:
        for question in part.questions:
            questions.setdefault(question.id, replace(question, role=role))
        for group, profile in zip(part.table["group"], part.table["profile"], strict=True):
            groups.setdefault(group, Group(group, Profile.parse(profile), role))
    items, who = tuple(questions[k] for k in sorted(questions)), tuple(groups[k] for k in sorted(groups))
    of = {role: _cells(_counts(part.table, counted), who, items) for role, part in parts}
    nothing = Cells(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), ())
    return Known(
        name, items, who, of.get("seen", nothing), of.get("validation", nothing),
        asked=_places(asked.table, who, items), counted=counted, pooled=False,
    )  # fmt: skip


def _counts(table: pd.DataFrame, counted: bool) -> pd.DataFrame:
    people = table["n"] if counted and "n" in table else pd.Series(1.0, index=table.index)
    shares = [np.asarray(row, dtype=np.float64) for row in table["shares"]]
    counts = [row * n for row, n in zip(shares, people, strict=True)]
    return table[["group", "question_id"]].assign(counts=counts)


def _cells(table: pd.DataFrame, groups: Iterable[Group], questions: Iterable[Question]) -> Cells:
    """The cells that somebody answered. table: columns group, question_id, counts."""
    group, question = _places(table, groups, questions)
    counts = [np.asarray(row, dtype=np.float64) for row in table["counts"]]
    order = [row for row in np.lexsort((group, question)) if counts[row].sum() > 0]
    return Cells(group[order], question[order], tuple(counts[row] for row in order))


def _places(table: pd.DataFrame, groups: Iterable[Group], questions: Iterable[Question]) -> tuple[Ints, Ints]:
    who = {group.id: place for place, group in enumerate(groups)}
    what = {question.id: place for place, question in enumerate(questions)}
    pairs = [(who[group], what[item]) for group, item in zip(table["group"], table["question_id"], strict=True)]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def one_hot_fields(groups: Iterable[Group]) -> Floats:
    """[G, F]: one column for every (field, value) of the seen groups' profiles."""
    everybody = list(groups)
    present = [set(group.profile.fields.items()) for group in everybody]
    seen = [pairs for group, pairs in zip(everybody, present, strict=True) if group.role == "seen"]
    columns = sorted(set().union(*seen))
    return np.array([[column in pairs for column in columns] for pairs in present], dtype=np.float64)
