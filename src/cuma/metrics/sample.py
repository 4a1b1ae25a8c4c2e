"""One part (seen or unseen groups) of a predictions table as arrays: its people, and a method's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.errors import BenchmarkError
from cuma.metrics.items import Columns, Item, Questions, columns_of, items_of
from cuma.metrics.pointwise import Floats, distributions, ratio

COLUMNS = ("person", "group", "seen", "question_id", "answer", "probabilities", "option_mass")
WEIGHT = "weight"
"""Optional column: the person's survey weight."""
UNSTEERED = "unsteered"
"""Optional column: the prediction of a model that does not know who asks."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The people and their answers: the same for every method. P people, Q questions, K options of all questions."""

    items: tuple[Item, ...]
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

    @cached_property
    def group_of(self) -> NDArray[np.int64]:
        """[P]: each person's group."""
        return np.repeat(np.arange(len(self.groups)), np.diff(self.starts))

    @cached_property
    def columns(self) -> Columns:
        """Each question with its options among the K."""
        return columns_of(self.items)

    def features(self) -> Floats:
        """[P, K+Q]: the answer as a one-hot vector, then whether the person answered; times the person's weight."""
        chosen = [self.answers[:, [q]] == np.arange(len(item.options)) for q, item in enumerate(self.items)]
        return np.concatenate([*chosen, self.answers >= 0], axis=1) * self.weight[:, None]

    @cached_property
    def effective_counts(self) -> list[NDArray[np.int64]]:
        """Per question [G, m]: how many people gave each answer.

        With survey weights, the weighted shares of Kish's effective number of people, (Σw)² / Σw², in whole people: the
        weighted answers scatter about as much as those of so few people who all count alike.
        """
        starts, features = self.starts[:-1], self.features()
        squares = np.add.reduceat((self.answers >= 0) * self.weight[:, None] ** 2, starts, axis=0)
        tables = []
        for q, (_, k) in enumerate(self.columns):
            sums = np.add.reduceat(features[:, k], starts, axis=0)
            total = sums.sum(axis=1, keepdims=True)
            tables.append(_whole(sums * ratio(total, squares[:, q, None], 0.0)))
        return tables

    def sizes(self) -> dict[str, int]:
        """Groups and people with any answer, and the cells (group × question) left out because nobody answered."""
        answered = np.add.reduceat(self.answers >= 0, self.starts[:-1], axis=0)
        return {"groups": len(self.groups), "people": len(self.person), "empty_cells": int((answered == 0).sum())}

    def same_as(self, other: Sample) -> bool:
        """Whether both hold the same people, groups and answers."""
        arrays = ("starts", "person", "answers", "weight")
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays)
        return same and self.groups == other.groups


def _whole(table: Floats) -> NDArray[np.int64]:
    """Rows [G, m] in whole numbers whose sum is the rounded sum: the largest remainders are rounded up."""
    down = np.floor(table + 1e-9)
    left = np.rint(table.sum(axis=1)) - down.sum(axis=1)
    rank = np.argsort(np.argsort(down - table, axis=1, kind="stable"), axis=1)
    return np.asarray(down + (rank < left[:, None]), dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one method predicts for the people of a part."""

    shares: tuple[Floats, ...]
    """Per question [P, m]: the predicted distribution; zeros where a person did not answer."""
    mass: Floats
    """[P, Q]: the probability on the answer letters."""
    unsteered: Floats | None
    """[K]: the prediction of a model that does not know who asks; None where that was not measured."""


def read_parts(predictions: pd.DataFrame, questions: Questions) -> dict[str, tuple[Sample, Predictions]]:
    """The parts "seen" and "unseen" of a predictions table, where they have answers. BenchmarkError for bad rows."""
    items = items_of(predictions, questions, COLUMNS)
    seen = predictions["seen"].to_numpy(dtype=bool)
    answered = predictions["answer"].to_numpy() >= 0
    parts = {"seen": predictions[seen & answered], "unseen": predictions[~seen & answered]}
    return {part: _read(rows, items) for part, rows in parts.items() if len(rows)}


def _read(rows: pd.DataFrame, items: tuple[Item, ...]) -> tuple[Sample, Predictions]:
    if rows.duplicated(["person", "question_id"]).any():
        raise BenchmarkError("The predictions hold a person's answer to one question twice; expected one row for each.")
    weight = [WEIGHT] if WEIGHT in rows.columns else []
    pairs = rows[["group", "person", *weight]].drop_duplicates().sort_values(["group", "person"], kind="stable")
    if pairs["person"].duplicated().any():
        raise BenchmarkError(
            "The predictions put one person into two groups, or give them two weights; number people across the whole "
            "survey."
        )
    groups, sizes = np.unique(pairs["group"].to_numpy(dtype=object), return_counts=True)
    person = pairs["person"].to_numpy(dtype=np.int64)
    index = pd.Index(person)
    answers = np.full((len(person), len(items)), -1, dtype=np.int64)
    shares, mass = [], np.zeros(answers.shape)
    for q, item in enumerate(items):
        cell = rows[rows["question_id"] == item.id]
        at = index.get_indexer(cell["person"])
        answers[at, q] = cell["answer"]
        mass[at, q] = cell["option_mass"]
        shares.append(np.zeros((len(person), len(item.options))))
        if len(cell):
            shares[-1][at] = distribution_column(cell, "probabilities", item)
            if cell["answer"].max() >= len(item.options):
                raise BenchmarkError(
                    f"Question {item.id!r} has {len(item.options)} options, but an answer beyond them."
                )
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    people = Sample(items, tuple(groups.tolist()), starts, person, answers, _weight(pairs))
    check_mass(mass)
    return people, Predictions(tuple(shares), mass, unsteered_shares(rows, items))


def distribution_column(cell: pd.DataFrame, column: str, item: Item) -> Floats:
    """[n, m]: the column's distributions over the options of one question. BenchmarkError where they are none."""
    if (cell[column].map(len) != len(item.options)).any():
        raise BenchmarkError(f"Question {item.id!r} has {len(item.options)} options, but its {column} have another.")
    try:
        return distributions(np.stack(cell[column].to_list()), f"question {item.id!r}")
    except ValueError as error:
        raise BenchmarkError(f"The predictions hold no {column}: {error}") from error


def check_mass(mass: Floats) -> None:
    """BenchmarkError if an option mass is not a number."""
    if not np.isfinite(mass).all():
        raise BenchmarkError("The predictions hold an option_mass that is not a number; evaluate the run again.")


def _weight(pairs: pd.DataFrame) -> Floats:
    if WEIGHT not in pairs.columns:
        return np.ones(len(pairs))
    weight = pairs[WEIGHT].to_numpy(dtype=np.float64)
    if not np.isfinite(weight).all() or (weight < 0).any() or not weight.any():
        raise BenchmarkError("The predictions hold a survey weight that is negative, or none that is above 0.")
    return weight / weight.mean()


def unsteered_shares(rows: pd.DataFrame, items: tuple[Item, ...]) -> Floats | None:
    """[K]: one distribution a question, the same for everybody; zeros for a question that nobody answered."""
    if UNSTEERED not in rows.columns:
        return None
    parts = []
    for item in items:
        shares = {tuple(values) for values in rows.loc[rows["question_id"] == item.id, UNSTEERED]}
        if len(shares) > 1:
            raise BenchmarkError(f"Question {item.id!r} has two answers of a model that does not know who asks.")
        parts.append(distributions(shares.pop(), f"question {item.id!r}") if shares else np.zeros(len(item.options)))
    return np.concatenate(parts)


def resample_people(people: Sample, blocks: Sequence[Floats], draws: int, seed: int) -> tuple[Floats, ...]:
    """Draws people of each group with replacement: per block [F, G, B], weighted sums over the people drawn.

    blocks: figures [P, F] of each person. Each is multiplied by itself, so that a method's figures are the same to the
    last bit whichever other methods are scored beside it. People of a group who gave the same answers are drawn as one
    kind (a multinomial draw over kinds is the same as drawing the people), with the mean of their figures. With survey
    weights people with different weights are different kinds.
    """
    starts, sizes, means = _kinds(people, blocks)
    rng = np.random.default_rng(seed)
    sums = tuple(np.zeros((block.shape[1], len(people.groups), draws)) for block in blocks)
    for group in range(len(people.groups)):
        rows = slice(int(starts[group]), int(starts[group + 1]))
        n = int(sizes[rows].sum())
        weights = rng.multinomial(n, sizes[rows] / n, size=draws).astype(np.float64)
        for total, mean in zip(sums, means, strict=True):
            total[:, group] = (weights @ mean[rows]).T
    return sums


def _kinds(people: Sample, blocks: Sequence[Floats]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[Floats]]:
    """Each group's distinct patterns of answers: where a group's start [G+1], people of each [N], mean features."""
    keys = np.column_stack([people.group_of, people.answers])
    if (people.weight != 1.0).any():
        keys = np.column_stack([keys, np.unique(people.weight, return_inverse=True)[1]])
    kinds, kind_of, sizes = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    starts = np.searchsorted(kinds[:, 0], np.arange(len(people.groups) + 1))
    order = np.argsort(kind_of.ravel(), kind="stable")
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means = [np.add.reduceat(block[order], first, axis=0) / sizes[:, None] for block in blocks]
    return starts, sizes, means
