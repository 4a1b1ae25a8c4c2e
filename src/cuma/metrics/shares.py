"""The metrics where only shares of answers were published, as in GlobalOpinionQA: no persons, so nothing about one.

What a survey's people make uncertain is unknown here, or small. What is uncertain is whether other questions and other
groups would give the same figures, so that these are drawn: questions and groups, independently and with replacement, a
cell counting as often as its question was drawn times its group (the pigeonhole bootstrap of Owen 2007, whose intervals
are rather too wide than too narrow; where items are held out, `cuma.metrics.item_samples` has nearer ones). Of one
question only groups are drawn; of one group, and of the differences between the groups that are there, only questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import entr

from cuma.errors import BenchmarkError
from cuma.metrics.items import Columns, Item, Questions, columns_of, items_of
from cuma.metrics.measure import CellShares, Estimates, cell_values
from cuma.metrics.noise import chance_diversity, chance_shares, noise_floor
from cuma.metrics.pointwise import BINS, Floats, correlation_of, pairwise_jsd, positions, ratio
from cuma.metrics.sample import check_mass, distribution_column, unsteered_shares

SHARES = "shares"
"""The column of predictions.parquet that has people's answers, where there are only shares."""
COLUMNS = ("group", "seen", "question_id", SHARES, "probabilities", "option_mass")
N = "n"
"""Optional column: how many people the shares are of; missing where that is not known."""


@dataclass(frozen=True, eq=False)
class GroupShares:
    """The shares of one part's groups: the same for every method. Q questions, G groups, K options in all."""

    items: tuple[Item, ...]
    groups: tuple[str, ...]
    shares: Floats
    """[K, G] people's answers; zeros where a group has no answers to a question."""
    mask: Floats
    """[Q, G] 1 where there are shares, 0 elsewhere."""
    people: Floats
    """[Q, G] how many people answered; 0 where there are no shares, NaN where it is not known."""

    @property
    def units(self) -> int:
        """Of what is drawn, questions or groups, the fewer: intervals are widened for these. One alone is not drawn."""
        return min((size for size in self.mask.shape if size > 1), default=1)

    @cached_property
    def columns(self) -> Columns:
        """Each question with its options among the K."""
        return columns_of(self.items)

    def sizes(self) -> dict[str, int]:
        """Groups, questions, and the cells (group × question) that have shares."""
        return {"groups": len(self.groups), "questions": len(self.items), "cells": int(self.mask.sum())}

    def corner_sizes(self) -> dict[str, int]:
        """The same, and where it is known, at least how many people: of each group the most who answered an item."""
        people = np.where(self.mask > 0, self.people, 0.0).max(axis=0).sum()
        return {**self.sizes(), **({"people": int(people)} if np.isfinite(people) else {})}

    def same_as(self, other: GroupShares) -> bool:
        """Whether both hold the same shares of the same groups."""
        same = np.array_equal(self.shares, other.shares) and np.array_equal(self.people, other.people, equal_nan=True)
        return same and self.groups == other.groups and self.items == other.items

    def counts(self) -> list[NDArray[np.int64]] | None:
        """Per question [G, m] how many people gave each answer; None unless every cell's number of people is known."""
        if np.isnan(self.people).any():
            return None
        pairs = zip(self.people, self.columns, strict=True)
        return [np.rint(self.shares[k].T * n[:, None]).astype(np.int64) for n, (_, k) in pairs]


@dataclass(frozen=True, eq=False)
class SharePredictions:
    """What one method predicts for the same groups."""

    predicted: Floats
    """[K, G]; zeros where there are no shares."""
    mass: Floats
    """[Q, G] probability on the answer letters."""
    unsteered: Floats | None
    """[K]: the prediction of a model that does not know who asks; None where that was not measured."""


@dataclass(frozen=True, eq=False)
class ShareTables:
    """Everything that draws of questions and groups only weigh."""

    mask: Floats
    """[Q, G]"""
    cells: dict[str, Floats]
    """Metrics [Q, G] that a cell has by itself."""
    pairs: tuple[list[Floats], list[Floats]]
    """Per question [g, g] JSD between the groups that have shares: of the predictions, and of people."""
    places: tuple[NDArray[np.int64], Floats, Floats]
    """Per column of `positions`: its question [C]; positions [C, G] of the predictions and of people, centred."""


def is_shares(predictions: pd.DataFrame) -> bool:
    """Whether a predictions table has shares in place of people."""
    return SHARES in predictions.columns


def read_shares(predictions: pd.DataFrame, questions: Questions) -> dict[str, tuple[GroupShares, SharePredictions]]:
    """The parts "seen" and "unseen" of a table of shares, where they have any. BenchmarkError for bad rows."""
    items = items_of(predictions, questions, COLUMNS)
    if predictions.duplicated(["group", "question_id"]).any():
        raise BenchmarkError("The predictions hold a group's shares of one question twice; expected one row for each.")
    seen = predictions["seen"].to_numpy(dtype=bool)
    parts = {"seen": predictions[seen], "unseen": predictions[~seen]}
    return {part: _read(rows, items) for part, rows in parts.items() if len(rows)}


def _read(rows: pd.DataFrame, every: tuple[Item, ...]) -> tuple[GroupShares, SharePredictions]:
    by_question = dict(iter(rows.groupby("question_id")))
    items = tuple(item for item in every if item.id in by_question)
    groups = tuple(sorted(rows["group"].unique()))
    index = pd.Index(groups)
    mask, people, mass = (np.zeros((len(items), len(groups))) for _ in range(3))
    columns = columns_of(items)
    tables = {column: np.zeros((columns[-1][1].stop, len(groups))) for column in (SHARES, "probabilities")}
    for q, (item, k) in enumerate(columns):
        cell = by_question[item.id]
        at = index.get_indexer(cell["group"])
        mask[q, at] = 1
        people[q, at] = pd.to_numeric(cell[N]) if N in cell else np.nan
        mass[q, at] = cell["option_mass"]
        for column, table in tables.items():
            table[k, at] = distribution_column(cell, column, item).T
    check_mass(mass)
    shares = GroupShares(items, groups, tables[SHARES], mask, people)
    return shares, SharePredictions(tables["probabilities"], mass, unsteered_shares(rows, items))


def estimate_shares(tables: Mapping[str, ShareTables], weights: tuple[Floats, Floats]) -> dict[str, Estimates]:
    """Estimates of every method, and replicates with questions and groups weighted [Q, B] and [G, B]."""
    estimates = {}
    for name, table in tables.items():
        once = np.ones((len(table.mask), 1)), np.ones((table.mask.shape[1], 1))
        value = {metric: float(array[0]) for metric, array in overall(table, *once).items()}
        estimates[name] = Estimates(value, overall(table, *weights) if weights[0].size else {})
    return estimates


def draw_weights(people: GroupShares, draws: int, seed: int) -> tuple[Floats, Floats]:
    """How often each question [Q, B] and each group [G, B] is drawn."""
    rng = np.random.default_rng(seed)
    questions, groups = (
        rng.multinomial(size, np.full(size, 1 / size), size=draws).T.astype(np.float64) for size in people.mask.shape
    )
    return questions, groups


def share_floors(people: GroupShares, seed: int) -> tuple[dict[str, Floats], Floats]:
    """What is the same for every method: the noise floor [Q, G], where every number of people is known, and what chance
    gives the diversity of each cell [Q, G]."""
    counts = people.counts()
    if counts is None:
        return {}, np.zeros_like(people.mask)
    pairs = list(enumerate(zip(people.items, counts, strict=True)))
    floors = [noise_floor(table, item.ordinal, seed=(seed, q)) for q, (item, table) in pairs]
    by_chance = [chance_diversity(table, seed=(seed, q)) for q, table in enumerate(counts)]
    return {"noise_floor": np.nan_to_num(np.stack(floors))}, chance_shares(people.people, np.array(by_chance))


def share_tables(
    people: GroupShares, predictions: SharePredictions, floors: tuple[dict[str, Floats], Floats]
) -> ShareTables:
    """A method's cells and pairs of groups, whatever is drawn. floors: `share_floors`."""
    columns, predicted = people.columns, predictions.predicted
    greedy = np.zeros_like(predicted)
    for _, k in columns:
        greedy[k.start + predicted[k].argmax(axis=0), np.arange(len(people.groups))] = 1.0
    known, chance = floors
    means = {
        "entropy": np.stack([entr(predicted[k]).sum(axis=0) for _, k in columns]),
        "option_mass": predictions.mass,
        **known,
    }
    unsteered = None if predictions.unsteered is None else predictions.unsteered[:, None]
    persons = np.full_like(predicted, np.nan), np.full((BINS, len(people.groups)), np.nan)
    shares = CellShares(columns, people.mask, people.shares, predicted, greedy, unsteered, means, *persons)
    model, truth = [], []
    for q, (_, k) in enumerate(columns):
        there = np.flatnonzero(people.mask[q])
        model.append(pairwise_jsd(predicted[k].take(there, axis=1)))
        own = chance[q, there]
        truth.append(pairwise_jsd(people.shares[k].take(there, axis=1)) - (own[:, None] + own))
        np.fill_diagonal(truth[-1], 0.0)
    return ShareTables(people.mask, cell_values(shares), (model, truth), _places(people, predicted))


def _places(people: GroupShares, predicted: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    question: list[int] = []
    model: list[Floats] = []
    truth: list[Floats] = []
    for q, (item, k) in enumerate(people.columns):
        there = people.mask[q]
        for shares, places in ((predicted[k], model), (people.shares[k], truth)):
            place = positions(shares, item.ordinal)
            places.append((place - (place * there).sum(axis=1, keepdims=True) / there.sum()) * there)
        question += [q] * len(model[-1])
    return np.array(question), np.concatenate(model), np.concatenate(truth)


def means_by_group(values: Floats, mask: Floats, questions: Floats) -> Floats:
    """[G, B]: mean of `values` [Q, G] over each group's questions by weight [Q, B]; NaN for a group without any."""
    return ratio((values * mask).T @ questions, mask.T @ questions)


def overall(tables: ShareTables, questions: Floats, groups: Floats) -> dict[str, Floats]:
    """Every metric [B] with questions weighted [Q, B] and groups [G, B]; NaN where one is not defined."""
    there = (tables.mask.T @ questions > 0) * groups
    metrics = {}
    for name, values in tables.cells.items():
        means = np.nan_to_num(means_by_group(values, tables.mask, questions))
        metrics[name] = ratio((means * there).sum(axis=0), there.sum(axis=0))
    model, truth = (_pair_sum(tables.mask, pairs, questions, groups) for pairs in tables.pairs)
    metrics["spread"] = ratio(model, truth)
    metrics["alignment"] = _alignment(tables, questions, groups)
    return metrics


def _pair_sum(mask: Floats, pairs: list[Floats], questions: Floats, groups: Floats) -> Floats:
    """[B]: Σ of `pairs` over questions and pairs of groups, weighted."""
    total = np.zeros(questions.shape[1])
    for q, table in enumerate(pairs):
        weight = groups[mask[q] > 0]
        total += questions[q] * (weight * (table @ weight)).sum(axis=0) / 2
    return total


def _alignment(tables: ShareTables, questions: Floats, groups: Floats) -> Floats:
    """[B]: as `cuma.metrics.alignment`, over weighted questions and groups."""
    question, model, truth = tables.places
    mass = (tables.mask @ groups)[question]

    def covariance(x: Floats, y: Floats) -> Floats:  # Lagrange's identity, as in `pairwise_covariance`
        return np.asarray((questions[question] * (mass * ((x * y) @ groups) - (x @ groups) * (y @ groups))).sum(axis=0))

    return correlation_of(covariance(model, truth), covariance(model, model), covariance(truth, truth))
