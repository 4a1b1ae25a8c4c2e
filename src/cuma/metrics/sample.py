"""One part (seen or unseen groups) of a predictions table as arrays: its people, and a method's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cuma.errors import BenchmarkError
from cuma.metrics.design import AT_ONCE, Design, Means, sums_by, weighted_means
from cuma.metrics.items import Columns, Item, Questions, columns_of, items_of
from cuma.metrics.pointwise import Floats, distributions, ratio
from cuma.privacy.small_groups import MIN_PEOPLE

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
    design: Design | None = None
    """Of these people, in their order; None: not known."""

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
        weighted answers scatter about as much as those of so few people who all count alike. With a known design, of
        n people over the cell's design effect, where its people are in units enough to tell that.
        """
        starts, features = self.starts[:-1], self.features()
        squares = np.add.reduceat((self.answers >= 0) * self.weight[:, None] ** 2, starts, axis=0)
        tables = []
        for q, (_, k) in enumerate(self.columns):
            sums = np.add.reduceat(features[:, k], starts, axis=0)
            total = sums.sum(axis=1, keepdims=True)
            worth = ratio(total, squares[:, q, None], 0.0)
            if self.design is not None:
                told = self._worth_by_design[:, q, None]
                worth = np.where(np.isfinite(told), ratio(told, total, 0.0), worth)
            tables.append(_whole(sums * worth))
        return tables

    @cached_property
    def _worth_by_design(self) -> Floats:
        """[G, Q]: as many people drawn one by one scatter as the cell's people do; NaN where that cannot be told.

        A variance among u units falls short by (u-1)/u where the cell's own size is random, which is put right.
        """
        assert self.design is not None
        worth = np.full((len(self.groups), len(self.items)), np.nan)
        for g, q in np.ndindex(*worth.shape):
            units = self.design.worth((self.group_of == g) & (self.answers[:, q] >= 0))
            effect = self.design_effects[g, q]
            if units > 1 and effect > 0:
                worth[g, q] = self.design_means[q].n[g] / effect * (units - 1) / units
        return worth

    @cached_property
    def design_means(self) -> list[Means]:
        """Per question each group's shares, with their variance under the design, which must be known."""
        assert self.design is not None
        chosen = [self.answers[:, [q]] == np.arange(len(item.options)) for q, item in enumerate(self.items)]
        groups = len(self.groups)
        return [
            weighted_means(each.astype(float), self.weight, self.design, np.where(there, self.group_of, -1), groups)
            for each, there in zip(chosen, (self.answers >= 0).T, strict=True)
        ]

    @cached_property
    def design_effects(self) -> Floats:
        """[G, Q]: of each cell's shares together; NaN in cells that nobody answered, or all in the same way."""
        return np.stack([means.joint_effect for means in self.design_means], axis=1)

    def units(self, group: int) -> int:
        """How many people of a group there are to draw; with a known design, how many units."""
        rows = slice(int(self.starts[group]), int(self.starts[group + 1]))
        return rows.stop - rows.start if self.design is None else self.design.worth(rows)

    def design_effect(self, group: int | None = None) -> dict[str, Any]:
        """{"design_effect": {"mean", "median", "worst"}} over the cells of at least `MIN_PEOPLE` people, of one group
        or of all; nothing where the design is not known, None where there is no such cell."""
        if self.design is None:
            return {}
        n = np.stack([means.n for means in self.design_means], axis=1)
        told = np.where(n >= MIN_PEOPLE, self.design_effects, np.nan)
        told = told if group is None else told[group]
        known = told[np.isfinite(told)]
        if not len(known):
            return {"design_effect": None}
        figures = {"mean": known.mean(), "median": np.median(known), "worst": known.max()}
        return {"design_effect": {name: float(figure) for name, figure in figures.items()}}

    def sizes(self) -> dict[str, Any]:
        """Groups and people with any answer, and the cells (group × question) left out because nobody answered; with a
        known design also its effect."""
        answered = np.add.reduceat(self.answers >= 0, self.starts[:-1], axis=0)
        sizes = {"groups": len(self.groups), "people": len(self.person), "empty_cells": int((answered == 0).sum())}
        return {**sizes, **self.design_effect()}

    def corner_sizes(self) -> dict[str, Any]:
        """The same, and the questions and cells that have answers."""
        answered = np.add.reduceat(self.answers >= 0, self.starts[:-1], axis=0)
        return {**self.sizes(), "questions": len(self.items), "cells": int((answered > 0).sum())}

    def same_as(self, other: Sample) -> bool:
        """Whether both hold the same people, groups and answers."""
        arrays = ("starts", "person", "answers", "weight")
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays)
        designs = self.design is other.design or (self.design is not None and self.design.same_as(other.design))
        return same and designs and self.groups == other.groups


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


def read_parts(
    predictions: pd.DataFrame, questions: Questions, design: Design | None = None
) -> dict[str, tuple[Sample, Predictions]]:
    """The parts "seen" and "unseen" of a predictions table, where they have answers. BenchmarkError for bad rows."""
    items = items_of(predictions, questions, COLUMNS)
    seen = predictions["seen"].to_numpy(dtype=bool)
    answered = predictions["answer"].to_numpy() >= 0
    parts = {"seen": predictions[seen & answered], "unseen": predictions[~seen & answered]}
    return {part: _read(rows, items, design) for part, rows in parts.items() if len(rows)}


def _read(rows: pd.DataFrame, items: tuple[Item, ...], design: Design | None) -> tuple[Sample, Predictions]:
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
    drawn = None if design is None else design.at(person)
    people = Sample(items, tuple(groups.tolist()), starts, person, answers, _weight(pairs), drawn)
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
    weights people with different weights are different kinds. With a known design units are drawn, or the survey's own
    replicates taken (`unit_draws`).
    """
    if people.design is not None:
        return unit_draws(people, blocks, draws, seed)
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


def unit_draws(people: Sample, blocks: Sequence[Floats], draws: int, seed: int) -> tuple[Floats, ...]:
    """`resample_people` with a known design: one draw of units for all groups together, since units span groups.

    With replicate weights there are as many draws as replicates, whatever `draws` says.
    """
    design = people.design
    assert design is not None
    own, groups = design.replicates, len(people.groups)
    slices = [slice(int(a), int(b)) for a, b in pairwise(people.starts)]
    if own is not None:
        return tuple(np.stack([block[rows].T @ own.times[rows] for rows in slices], axis=1) for block in blocks)
    units = [np.unique(design.unit[rows], return_inverse=True) for rows in slices]
    parts = [
        [sums_by(block[rows], place.ravel(), len(held)) for rows, (held, place) in zip(slices, units, strict=True)]
        for block in blocks
    ]
    sums = tuple(np.zeros((block.shape[1], groups, draws)) for block in blocks)
    for number, times in enumerate(design.draws(draws, seed)):
        columns = slice(number * AT_ONCE, (number + 1) * AT_ONCE)
        for total, part in zip(sums, parts, strict=True):
            for group in range(groups):
                total[:, group, columns] = part[group].T @ times[units[group][0]]
    return sums


def apart(sums: Sequence[Floats], seed: int) -> tuple[Floats, ...]:
    """The same draws [F, G, B] as if each group's had been made by itself: in an order of its own."""
    rng = np.random.default_rng((seed, 1))
    groups, draws = sums[0].shape[1:]
    order = rng.permuted(np.tile(np.arange(draws), (groups, 1)), axis=1)[None]
    return tuple(np.take_along_axis(block, order, axis=2) for block in sums)
