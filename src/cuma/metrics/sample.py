"""One part (seen or unseen groups) of a predictions table as arrays: its people, and what a method said about them.

Everything a metric needs of a cell (group × question) is a mean over the cell's people of some number per person, so a
bootstrap draw is one matrix product of people's weights with these numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.errors import BenchmarkError
from cuma.metrics.pointwise import Floats, distributions, entropy

COLUMNS = ("person", "group", "seen", "question_id", "answer", "probabilities", "option_mass")
WEIGHT = "weight"
"""Optional column: the person's survey weight."""
UNSTEERED = "unsteered"
"""Optional column: what the model says to a question when it is not told who asks."""
BINS = 10
"""Of confidence, for the calibration error."""


class QuestionLike(Protocol):
    """What the metrics need of a question."""

    @property
    def id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def options(self) -> Sequence[str]: ...
    @property
    def ordinal(self) -> bool: ...


@dataclass(frozen=True)
class Item:
    """A question as the metrics see it; also its form in scores.json."""

    id: str
    text: str
    options: tuple[str, ...]
    ordinal: bool

    @classmethod
    def of(cls, question: QuestionLike | Mapping[str, Any]) -> Item:
        """From a benchmark's question, or from its entry in scores.json."""
        if isinstance(question, Mapping):
            return cls(question["id"], question["text"], tuple(question["options"]), bool(question["ordinal"]))
        return cls(question.id, question.text, tuple(question.options), bool(question.ordinal))


@dataclass(frozen=True, eq=False)
class Sample:
    """Who was asked and what they answered: the same for every method. P people, Q questions."""

    scales: tuple[Item, ...]
    groups: tuple[str, ...]
    """Labels in sorted order, G of them."""
    starts: NDArray[np.int64]
    """[G+1]: people are sorted by group, then by number; group g is rows starts[g]:starts[g+1]."""
    person: NDArray[np.int64]
    """[P]"""
    answers: NDArray[np.int64]
    """[P, Q], -1 where a person did not answer."""
    weight: Floats
    """[P] survey weights, their mean 1; all 1 where the survey has none."""

    @property
    def weighted(self) -> bool:
        """Whether people count differently."""
        return bool((self.weight != 1.0).any())

    @property
    def column_question(self) -> NDArray[np.int64]:
        """[K]: the question of each option, all questions' options laid side by side."""
        return np.repeat(np.arange(len(self.scales)), [len(scale.options) for scale in self.scales])

    def columns(self, question: int) -> slice:
        """The question's options among the K."""
        first = sum(len(scale.options) for scale in self.scales[:question])
        return slice(first, first + len(self.scales[question].options))

    def features(self) -> Floats:
        """[P, K+Q]: the answer as a one-hot vector, then whether the person answered; times the person's weight."""
        which = np.concatenate([np.arange(len(scale.options)) for scale in self.scales])
        chosen = self.answers[:, self.column_question] == which
        return np.concatenate([chosen, self.answers >= 0], axis=1) * self.weight[:, None]

    def effective_counts(self) -> list[NDArray[np.int64]]:
        """Per question [G, m]: how many people gave each answer.

        With survey weights, the weighted shares of Kish's effective number of people, (Σw)² / Σw², in whole people: the
        weighted answers scatter about as much as those of so few people who all count alike.
        """
        starts, answered = self.starts[:-1], self.answers >= 0
        features = self.features()
        squares = np.add.reduceat(answered * self.weight[:, None] ** 2, starts, axis=0)
        tables = []
        for question in range(len(self.scales)):
            sums = np.add.reduceat(features[:, self.columns(question)], starts, axis=0)
            total = sums.sum(axis=1, keepdims=True)
            kept = np.where(total > 0, total / np.where(total > 0, squares[:, question, None], 1.0), 0.0)
            tables.append(_whole(sums * kept))
        return tables

    def same_as(self, other: Sample) -> bool:
        """Whether both hold the same people, groups and answers."""
        return (
            self.groups == other.groups
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(self.person, other.person)
            and np.array_equal(self.answers, other.answers)
            and np.array_equal(self.weight, other.weight)
        )


def _whole(table: Floats) -> NDArray[np.int64]:
    """Rows [G, m] in whole numbers whose sum is the rounded sum: the largest remainders are rounded up."""
    down = np.floor(table + 1e-9)
    left = np.rint(table.sum(axis=1)) - down.sum(axis=1)
    rank = np.argsort(np.argsort(down - table, axis=1, kind="stable"), axis=1)
    return np.asarray(down + (rank < left[:, None]), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one method said about the people of a part."""

    base: Floats
    """[K, G]: the distribution given to each group's first person who answered (zeros in empty cells)."""
    features: Floats
    """[P, 3K+4Q+BINS], zeros where unanswered, times the person's weight: prediction minus base, one-hot argmax, the
    same where it is the person's answer; hit, entropy, option mass, Brier score; in each bin of confidence, hits minus
    confidence.

    Where a method says the same of a whole group, the first block is exactly zero, and so are differences between
    groups that were told the same: no rounding is mistaken for diversity.
    """
    unsteered: Floats | None
    """[K]: what it says to each question when it is not told who asks; None where that was not measured."""


def read_parts(
    predictions: pd.DataFrame, questions: Sequence[QuestionLike | Mapping[str, Any]]
) -> dict[str, tuple[Sample, Predictions]]:
    """The parts "seen" and "unseen" of a predictions table, where they have answers. BenchmarkError for bad rows."""
    scales = tuple(Item.of(question) for question in questions)
    missing = [column for column in COLUMNS if column not in predictions.columns]
    if missing:
        raise BenchmarkError(f"The predictions lack the columns {missing}; expected {list(COLUMNS)}.")
    unknown = sorted(set(predictions["question_id"].unique()) - {scale.id for scale in scales})
    if unknown:
        raise BenchmarkError(f"The predictions answer unknown questions {unknown}; pass the questions of their survey.")
    seen = predictions["seen"].to_numpy(dtype=bool)
    answered = predictions["answer"].to_numpy() >= 0
    chosen = {"seen": predictions[seen & answered], "unseen": predictions[~seen & answered]}
    return {part: _read(rows, scales) for part, rows in chosen.items() if len(rows)}


def _read(rows: pd.DataFrame, scales: tuple[Item, ...]) -> tuple[Sample, Predictions]:
    if rows.duplicated(["person", "question_id"]).any():
        raise BenchmarkError("The predictions hold a person's answer to one question twice; expected one row for each.")
    weighed = [WEIGHT] if WEIGHT in rows.columns else []
    pairs = rows[["group", "person", *weighed]].drop_duplicates().sort_values(["group", "person"], kind="stable")
    if pairs["person"].duplicated().any():
        raise BenchmarkError(
            "The predictions put one person into two groups, or give them two weights; number people across the whole "
            "survey."
        )
    groups, sizes = np.unique(pairs["group"].to_numpy(dtype=object), return_counts=True)
    person = pairs["person"].to_numpy(dtype=np.int64)
    index = pd.Index(person)
    answers = np.full((len(person), len(scales)), -1, dtype=np.int64)
    shares, mass = [], np.zeros((len(person), len(scales)))
    for number, scale in enumerate(scales):
        cell = rows[rows["question_id"] == scale.id]
        who = index.get_indexer(cell["person"])
        answers[who, number] = cell["answer"]
        mass[who, number] = cell["option_mass"]
        shares.append(_shares(cell, who, len(person), scale))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    people = Sample(scales, tuple(groups.tolist()), starts, person, answers, _weight(pairs))
    if not np.isfinite(mass).all():
        raise BenchmarkError("The predictions hold an option_mass that is not a number; evaluate the run again.")
    return people, _said(people, shares, mass, unsteered_shares(rows, scales))


def _weight(pairs: pd.DataFrame) -> Floats:
    if WEIGHT not in pairs.columns:
        return np.ones(len(pairs))
    weight = pairs[WEIGHT].to_numpy(dtype=np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise BenchmarkError("The predictions hold a survey weight that is negative, or none that is above 0.")
    return weight / weight.mean()


def unsteered_shares(rows: pd.DataFrame, scales: tuple[Item, ...]) -> Floats | None:
    """[K]: one distribution a question, the same for everybody; zeros for a question that nobody answered."""
    if UNSTEERED not in rows.columns:
        return None
    parts = []
    for scale in scales:
        told = {tuple(said) for said in rows.loc[rows["question_id"] == scale.id, UNSTEERED]}
        if len(told) > 1:
            raise BenchmarkError(f"Question {scale.id!r} has two answers of a model that is not told who asks.")
        parts.append(distributions(told.pop(), f"question {scale.id!r}") if told else np.zeros(len(scale.options)))
    return np.concatenate(parts)


def _shares(cell: pd.DataFrame, who: NDArray[np.intp], people: int, scale: Item) -> Floats:
    """[P, m]: the question's predicted distributions by person, zeros where a person did not answer."""
    options = len(scale.options)
    shares = np.zeros((people, options))
    if len(cell) == 0:
        return shares
    if cell["answer"].max() >= options or (cell["probabilities"].map(len) != options).any():
        raise BenchmarkError(
            f"Question {scale.id!r} has {options} options, but its predictions or answers have another."
        )
    try:
        shares[who] = distributions(np.stack(cell["probabilities"].to_list()), f"question {scale.id!r}")
    except ValueError as error:
        raise BenchmarkError(f"The predictions hold no probabilities: {error}") from error
    return shares


def _said(people: Sample, shares: list[Floats], mass: Floats, unsteered: Floats | None) -> Predictions:
    answered = people.answers >= 0
    group_of = np.repeat(np.arange(len(people.groups)), np.diff(people.starts))
    base, deviations, greedy, correct, hits, spent, briers = [], [], [], [], [], [], []
    calibration = np.zeros((len(group_of), BINS))
    for number, said in enumerate(shares):
        there = answered[:, number]
        first = np.zeros((len(people.groups), said.shape[1]))
        rows = np.flatnonzero(there)
        with_answers, at = np.unique(group_of[rows], return_index=True)
        first[with_answers] = said[rows[at]]
        guess, truth = said.argmax(axis=1), people.answers[:, number]
        hit = (guess == truth) & there
        point = np.eye(said.shape[1])[guess]
        base.append(first.T)
        deviations.append((said - first[group_of]) * there[:, None])
        greedy.append(point * there[:, None])
        correct.append(point * hit[:, None])
        hits.append(hit)
        uncertain = np.zeros(len(said))
        uncertain[rows] = entropy(said[rows]) if len(rows) else 0.0
        spent.append(uncertain)
        briers.append(((said - np.eye(said.shape[1])[truth]) ** 2).sum(axis=1) * there)
        confidence = said.max(axis=1)
        of = confidence_bin(confidence)
        calibration[rows, of[rows]] += hit[rows] - confidence[rows]
    each = [np.stack(values, axis=1) for values in (hits, spent, briers)]
    columns = [*deviations, *greedy, *correct, each[0], each[1], mass * answered, each[2], calibration]
    features = np.concatenate(columns, axis=1) * people.weight[:, None]
    return Predictions(np.concatenate(base), features, unsteered)


def confidence_bin(confidence: Floats) -> NDArray[np.int64]:
    """Which of `BINS` equally wide bins each confidence in [0, 1] lies in."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
