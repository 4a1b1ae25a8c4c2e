"""The metrics where only shares of answers were published, as in GlobalOpinionQA: no persons, so nothing about one.

What a survey's people make uncertain is unknown here, or small. What is uncertain is whether other questions and other
groups would give the same figures, so that these are drawn: questions and groups, independently and with replacement, a
cell counting as often as its question was drawn times its group (the pigeonhole bootstrap of Owen 2007, whose intervals
are rather too wide than too narrow). Of one question only groups are drawn; of one group, and of the differences
between the groups that are there, only questions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import entr

from cuma.errors import BenchmarkError
from cuma.metrics.estimates import Measured
from cuma.metrics.measure import Columns, distances
from cuma.metrics.noise import chance_diversity, noise_floor
from cuma.metrics.pairs import jsd_table
from cuma.metrics.pointwise import Floats, distributions
from cuma.metrics.sample import Item, QuestionLike, unsteered_shares
from cuma.metrics.spread import NO_DIFFERENCE, positions
from cuma.metrics.truth import chance_shares

SHARES = "shares"
"""The column of predictions.parquet that has what people said, where there are only shares."""
COLUMNS = ("group", "seen", "question_id", SHARES, "probabilities", "option_mass")
N = "n"
"""Optional column: how many people the shares are of; missing where that is not known."""


@dataclass(frozen=True, eq=False)
class Published:
    """What was published of one part's groups: the same for every method. Q questions, G groups, K options in all."""

    scales: tuple[Item, ...]
    groups: tuple[str, ...]
    shares: Floats
    """[K, G] people's answers; zeros where a group was not asked."""
    asked: Floats
    """[Q, G] 1 where there are shares, 0 elsewhere."""
    people: Floats
    """[Q, G] how many people answered; 0 where a group was not asked, NaN where it is not known."""

    @property
    def units(self) -> int:
        """Of what is drawn, questions or groups, the fewer: intervals are widened for these. One alone is not drawn."""
        return min((size for size in self.asked.shape if size > 1), default=1)

    @property
    def columns(self) -> Columns:
        """Each question with its options among the K."""
        ends = np.cumsum([len(scale.options) for scale in self.scales]).tolist()
        return [(scale, slice(end - len(scale.options), end)) for scale, end in zip(self.scales, ends, strict=True)]

    def sizes(self) -> dict[str, int]:
        """Groups, questions, and the cells (group × question) that have shares."""
        return {"groups": len(self.groups), "questions": len(self.scales), "cells": int(self.asked.sum())}

    def same_as(self, other: Published) -> bool:
        """Whether both hold the same shares of the same groups."""
        return (
            self.groups == other.groups
            and self.scales == other.scales
            and np.array_equal(self.shares, other.shares)
            and np.array_equal(self.people, other.people, equal_nan=True)
        )

    def counts(self) -> list[NDArray[np.int64]] | None:
        """Per question [G, m] how many people gave each answer; None unless every cell's number of people is known."""
        if np.isnan(self.people).any():
            return None
        return [
            np.rint(self.shares[k].T * self.people[q][:, None]).astype(np.int64)
            for q, (_, k) in enumerate(self.columns)
        ]


@dataclass(frozen=True, eq=False)
class Told:
    """What one method said about the same groups."""

    predicted: Floats
    """[K, G]; zeros where a group was not asked."""
    mass: Floats
    """[Q, G] probability on the answer letters."""
    unsteered: Floats | None
    """[K]: what it says to each question when it is not told who asks; None where that was not measured."""


@dataclass(frozen=True, eq=False)
class ShareTables:
    """Everything that draws of questions and groups only weigh."""

    asked: Floats
    """[Q, G]"""
    cells: dict[str, Floats]
    """Metrics [Q, G] that a cell has by itself."""
    between: tuple[list[Floats], list[Floats]]
    """Per question [g, g] JSD between the groups that were asked: predicted, and published."""
    places: tuple[NDArray[np.int64], Floats, Floats]
    """Per column of `positions`: its question [C]; predicted and published positions [C, G], centred."""


def is_shares(predictions: pd.DataFrame) -> bool:
    """Whether a predictions table has shares in place of people."""
    return SHARES in predictions.columns


def read_shares(
    predictions: pd.DataFrame, questions: Sequence[QuestionLike | Mapping[str, Any]]
) -> dict[str, tuple[Published, Told]]:
    """The parts "seen" and "unseen" of a table of shares, where they have any. BenchmarkError for bad rows."""
    missing = [column for column in COLUMNS if column not in predictions.columns]
    if missing:
        raise BenchmarkError(f"The predictions lack the columns {missing}; expected {list(COLUMNS)}.")
    scales = tuple(Item.of(question) for question in questions)
    unknown = sorted(set(predictions["question_id"].unique()) - {scale.id for scale in scales})
    if unknown:
        raise BenchmarkError(f"The predictions answer unknown questions {unknown}; pass the questions of their survey.")
    if predictions.duplicated(["group", "question_id"]).any():
        raise BenchmarkError("The predictions hold a group's shares of one question twice; expected one row for each.")
    seen = predictions["seen"].to_numpy(dtype=bool)
    chosen = {"seen": predictions[seen], "unseen": predictions[~seen]}
    return {part: _read(rows, scales) for part, rows in chosen.items() if len(rows)}


def _read(rows: pd.DataFrame, every: tuple[Item, ...]) -> tuple[Published, Told]:
    there = set(rows["question_id"])
    scales = tuple(scale for scale in every if scale.id in there)
    groups = tuple(sorted(rows["group"].unique()))
    index = pd.Index(groups)
    asked, people, mass = (np.zeros((len(scales), len(groups))) for _ in range(3))
    tables: dict[str, list[Floats]] = {SHARES: [], "probabilities": []}
    by_question = dict(iter(rows.groupby("question_id")))
    for number, scale in enumerate(scales):
        cell = by_question[scale.id]
        at = index.get_indexer(cell["group"])
        asked[number, at] = 1
        people[number, at] = pd.to_numeric(cell[N]) if N in cell else np.nan
        mass[number, at] = cell["option_mass"]
        for column, blocks in tables.items():
            if (cell[column].map(len) != len(scale.options)).any():
                raise BenchmarkError(f"Question {scale.id!r} has {len(scale.options)} options, its {column} another.")
            block = np.zeros((len(scale.options), len(groups)))
            try:
                block[:, at] = distributions(np.stack(cell[column].to_list()), f"question {scale.id!r}").T
            except ValueError as error:
                raise BenchmarkError(f"The predictions hold no {column}: {error}") from error
            blocks.append(block)
    if not np.isfinite(mass).all():
        raise BenchmarkError("The predictions hold an option_mass that is not a number; evaluate the run again.")
    published = Published(scales, groups, np.concatenate(tables[SHARES]), asked, people)
    return published, Told(np.concatenate(tables["probabilities"]), mass, unsteered_shares(rows, scales))


def measure_shares(published: Published, methods: Mapping[str, Told], draws: int, seed: int) -> dict[str, Measured]:
    """Estimates and draws of every method, on one set of draws."""
    questions, groups = drawn_weights(published, draws, seed)
    once = np.ones((len(published.scales), 1)), np.ones((len(published.groups), 1))
    found = {}
    for name, told in methods.items():
        figures = figures_of(published, told, seed)
        value = {metric: float(array[0]) for metric, array in overall(figures, *once).items()}
        drawn = overall(figures, questions, groups) if draws else {}
        found[name] = Measured(value, drawn)
    return found


def drawn_weights(published: Published, draws: int, seed: int) -> tuple[Floats, Floats]:
    """How often each question [Q, B] and each group [G, B] was drawn."""
    rng = np.random.default_rng(seed)
    questions, groups = (
        rng.multinomial(size, np.full(size, 1 / size), size=draws).T.astype(np.float64)
        for size in published.asked.shape
    )
    return questions, groups


def figures_of(published: Published, told: Told, seed: int) -> ShareTables:
    """What a method's cells are worth, whatever is drawn."""
    columns, predicted = published.columns, told.predicted
    greedy = np.zeros_like(predicted)
    for _, k in columns:
        greedy[k.start + predicted[k].argmax(axis=0), np.arange(len(published.groups))] = 1.0
    alone = None if told.unsteered is None else told.unsteered[:, None]
    cells = distances(columns, published.shares, predicted, greedy, alone)
    cells["entropy"] = np.stack([entr(predicted[k]).sum(axis=0) for _, k in columns])
    cells["entropy_normalised"] = cells["entropy"] / np.log([len(scale.options) for scale, _ in columns])[:, None]
    cells["option_mass"] = told.mass
    counts = published.counts()
    chance = np.zeros_like(published.asked)
    if counts is not None:
        pairs = list(enumerate(zip(published.scales, counts, strict=True)))
        cells["noise_floor"] = np.stack(
            [np.nan_to_num(noise_floor(table, scale.ordinal, seed=(seed, q))) for q, (scale, table) in pairs]
        )
        by_chance = np.array([chance_diversity(table, seed=(seed, q)) for q, (_, table) in pairs])
        chance = chance_shares(published.people, by_chance)
    said, gave = [], []
    for q, (_, k) in enumerate(columns):
        there = np.flatnonzero(published.asked[q])
        said.append(jsd_table(predicted[k][:, there]))
        own = chance[q, there]
        truth = jsd_table(published.shares[k][:, there]) - (own[:, None] + own)
        np.fill_diagonal(truth, 0.0)
        gave.append(truth)
    return ShareTables(published.asked, cells, (said, gave), _places(published, predicted))


def _places(published: Published, predicted: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    which: list[int] = []
    model: list[Floats] = []
    truth: list[Floats] = []
    for q, (scale, k) in enumerate(published.columns):
        there = published.asked[q]
        for shares, into in ((predicted[k], model), (published.shares[k], truth)):
            place = positions(shares, scale.ordinal)
            into.append((place - (place * there).sum(axis=1, keepdims=True) / there.sum()) * there)
        which += [q] * len(model[-1])
    return np.array(which), np.concatenate(model), np.concatenate(truth)


def means_by_group(values: Floats, asked: Floats, questions: Floats) -> Floats:
    """[G, B]: mean of `values` [Q, G] over each group's questions by weight [Q, B]; NaN for a group without any."""
    total = asked.T @ questions
    return np.where(total > 0, (values * asked).T @ questions / np.where(total > 0, total, 1.0), np.nan)


def overall(figures: ShareTables, questions: Floats, groups: Floats) -> dict[str, Floats]:
    """Every metric [B] with questions weighted [Q, B] and groups [G, B]; NaN where one is not defined."""
    there = (figures.asked.T @ questions > 0) * groups
    total = there.sum(axis=0)
    found = {}
    for name, values in figures.cells.items():
        means = np.nan_to_num(means_by_group(values, figures.asked, questions))
        found[name] = np.where(total > 0, (means * there).sum(axis=0) / np.where(total > 0, total, 1.0), np.nan)
    said, gave = (_pairs(figures.asked, tables, questions, groups) for tables in figures.between)
    found["spread"] = np.where(gave > 0, said / np.where(gave > 0, gave, 1.0), np.nan)
    found["alignment"] = _alignment(figures, questions, groups)
    return found


def _pairs(asked: Floats, tables: list[Floats], questions: Floats, groups: Floats) -> Floats:
    """[B]: Σ over questions and pairs of groups of `tables`, weighted."""
    total = np.zeros(questions.shape[1])
    for q, table in enumerate(tables):
        weight = groups[asked[q] > 0]
        total += questions[q] * (weight * (table @ weight)).sum(axis=0) / 2
    return total


def _alignment(figures: ShareTables, questions: Floats, groups: Floats) -> Floats:
    """[B]: as `cuma.metrics.spread.alignment`, over weighted questions and groups."""
    which, model, truth = figures.places
    mass = (figures.asked @ groups)[which]

    def covariance(x: Floats, y: Floats) -> Floats:  # Lagrange's identity, as in `pairwise_covariance`
        return np.asarray((questions[which] * (mass * ((x * y) @ groups) - (x @ groups) * (y @ groups))).sum(axis=0))

    both, own, theirs = covariance(model, truth), covariance(model, model), covariance(truth, truth)
    differ = (own > NO_DIFFERENCE) & (theirs > NO_DIFFERENCE)
    scale = np.sqrt(np.where(differ, own, 1.0)) * np.sqrt(np.where(differ, theirs, 1.0))
    return np.where(differ, np.clip(both / scale, -1.0, 1.0), np.nan)
