"""Stereotyping and erasure: how varied answers are within groups, and whose answers a model gives to whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import entr
from scipy.stats import norm

from cuma.metrics.cell_sums import Cells, PersonFigures, cell_shares
from cuma.metrics.inference import (
    DesignExcess,
    GroupDraws,
    design_deviations,
    estimate,
    group_deviations,
    known,
    widened,
)
from cuma.metrics.items import per_option
from cuma.metrics.measure import CellShares, Figures, cell_emd, group_means
from cuma.metrics.pointwise import Floats, positions, ratio
from cuma.metrics.sample import Predictions, Sample, apart, resample_people, unit_draws
from cuma.privacy.small_groups import MIN_PEOPLE

SIGNIFICANT = 0.05


def variance_within(shares: Floats, ordinal: bool) -> Floats:
    """How varied the answers of one group are, of shares [m, …]; returns [...].

    Ordinal, or two options: the variance of the position in [0, 1]. Nominal: the chance that two answers differ, halved
    (the same for two options).
    """
    if ordinal or len(shares) == 2:
        place = np.linspace(0.0, 1.0, len(shares))
        mean = np.tensordot(place, shares, axes=1)
        return np.maximum(np.tensordot(place**2, shares, axes=1) - mean**2, 0.0)
    return (1 - (shares**2).sum(axis=0)) / 2


@dataclass(frozen=True, eq=False)
class Side:
    """Cells and predictions of one part of a predictions table, as observed, and with people drawn."""

    people: Sample
    cells: Cells
    shares: CellShares
    n: Floats
    """[Q, G] people who answered; with survey weights, as many as they are worth."""
    draws: int
    seed: int

    @classmethod
    def of(cls, people: Sample, predictions: Predictions, draws: int, seed: int) -> Side:
        """From one part of `read_parts`."""
        cells = Cells.of(people)
        n = np.stack([counts.sum(axis=1) for counts in people.effective_counts]).astype(np.float64)
        shares = cell_shares(cells, PersonFigures.of(people, predictions), floors={})
        return cls(people, cells, shares, n, draws, seed)

    def resampled(self) -> Cells:
        """The cells with their people drawn."""
        (sums,) = resample_people(self.people, [self.people.features()], self.draws, self.seed)
        return Cells.of(self.people, sums)


# --- variety within groups -------------------------------------------------------------------------------------------


def within(side: Side) -> dict[str, Any]:
    """Variety within groups, the model's against people's; groups weigh the same.

    Returns {"within_ratio": of all questions together, "questions": [{"within_model", "within_people", "within_ratio"}
    of each]}; variances are means over groups.
    """
    n = side.n[:, :, None]
    model, people = _variances(side, n)
    values = _ratios(model, people, n, np.ones((len(side.people.groups), 1)))[:, 0]
    deviations: list[Floats | None] = [None] * len(values)
    if side.draws:
        draws = GroupDraws.of(len(side.people.groups), side.draws, side.seed)
        replicates = _ratios(model, people, n, draws.times)
        pairs = zip(values, replicates, strict=True)
        deviations = [group_deviations(float(value), ratio, draws) for value, ratio in pairs]
        deviations = _widened(side, values, deviations, replicates)
    *by_question, together = [estimate(float(v), d) for v, d in zip(values, deviations, strict=True)]
    there = np.maximum((n > 0).sum(axis=1)[:, 0], 1)
    means = [(variances[:, :, 0] * (side.n > 0)).sum(axis=1) / there for variances in (model, people)]
    questions = [
        {"within_model": float(of_model), "within_people": float(of_people), "within_ratio": ratio}
        for of_model, of_people, ratio in zip(*means, by_question, strict=True)
    ]
    return {"within_ratio": together, "questions": questions}


def _widened(side: Side, values: Floats, deviations: list[Floats | None], replicates: Floats) -> list[Floats | None]:
    """`deviations` of the ratios `values` [Q+1], with what the survey's units add. replicates: [Q+1, B] over groups."""
    people, groups = side.people, len(side.people.groups)
    if people.design is None:
        return deviations
    n = side.n[:, :, None]
    sums = unit_draws(people, [people.features()], side.draws, side.seed)
    figures = [replicates]
    for (answers,) in (sums, apart(sums, side.seed)):
        moved = replace(side, cells=Cells.of(people, answers))
        figures.append(_ratios(*_variances(moved, n), n, np.ones((groups, 1))))
    excess = DesignExcess(groups, people.design)
    rows = zip(values, deviations, *figures, strict=True)
    return [widened(float(value), away, Figures(own[0], tuple(own[1:])), [excess]) for value, away, *own in rows]


def _variances(side: Side, n: Floats) -> tuple[Floats, Floats]:
    """[Q, G, 1] each: the variance within every cell, of predictions and of people (unbiased; NaN-free at n = 1)."""
    columns = side.people.columns
    model = [variance_within(side.shares.predicted[k], item.ordinal) for item, k in columns]
    people = [variance_within(side.cells.observed[k], item.ordinal) for item, k in columns]
    unbiased = np.where(n > 1, n / np.maximum(n - 1, 1.0), 0.0)
    return np.stack(model), np.stack(people) * unbiased


def _ratios(model: Floats, people: Floats, n: Floats, weight: Floats) -> Floats:
    """[Q+1, B]: model over people for each question and, last, for all together; cells of one person do not count."""
    counted = (n > 1) * weight
    sums = [(variances * counted).sum(axis=1) for variances in (model, people)]
    above, below = (np.concatenate([each, each.sum(axis=0, keepdims=True)]) for each in sums)
    return ratio(above, below)


# --- whose answers ---------------------------------------------------------------------------------------------------


def erasure(side: Side) -> dict[str, dict[str, Any]]:
    """For every group of at least `MIN_PEOPLE` people: whose answers it is given, and how far towards the average.

    A group is erased if its prediction fits another group's people better than its own, by more than chance and the
    choice among so many other groups give (normal approximation, Bonferroni). In the form of collapse.json.
    """
    sizes = np.diff(side.people.starts)
    large = [number for number in range(len(sizes)) if sizes[number] >= MIN_PEOPLE]
    resampled = side.resampled() if side.draws else None
    average = _average(side.cells)
    return {side.people.groups[group]: _of_group(side, group, large, resampled, average) for group in large}


def _of_group(side: Side, group: int, large: list[int], resampled: Cells | None, average: Floats) -> dict[str, Any]:
    cells, sizes = side.cells, np.diff(side.people.starts)
    margins = {other: float(_margin(side, cells, group, other)[0]) for other in large if other != group}
    margins = {other: margin for other, margin in margins.items() if np.isfinite(margin)}
    toward = max(margins, key=lambda other: margins[other]) if margins else None
    margin = np.nan if toward is None else margins[toward]
    margin_deviations = pull_deviations = None
    pull = float(_pull(side, cells, group, average)[0])
    if resampled is not None:
        units, design = side.people.units, side.people.design
        pull_deviations = design_deviations(pull, _pull(side, resampled, group, average), units(group), design)
        if toward is not None:
            replicates = _margin(side, resampled, group, toward)
            margin_deviations = design_deviations(margin, replicates, min(units(group), units(toward)), design)
    entropy = group_means(side.shares.means["entropy"][:, [group]], cells.n[:, [group]])
    distance = np.nan if toward is None else float(_distance(side, cells, group, toward, group)[0])
    return {
        "n": int(sizes[group]),
        "entropy_model": known(float(entropy[0, 0])),
        "entropy_people": known(_people_entropy(side, group)),
        "own_distance": known(float(_distance(side, cells, group, group, group)[0])),
        "toward": None if toward is None else side.people.groups[toward],
        "toward_distance": known(distance),
        "margin": estimate(margin, margin_deviations),
        "to_average": estimate(pull, pull_deviations),
        "erased": _beyond_chance(margin, margin_deviations, len(margins)),
    }


def _distance(side: Side, cells: Cells, group: int, people: int, other: int) -> Floats:
    """[B]: mean EMD between the prediction for `group` and the answers of the group `people`, over the questions that
    both `group` and `other` answered. NaN without any."""
    answered = cells.n[:, [people]] * (side.n[:, [other]] > 0)[:, :, None] * (side.n[:, [group]] > 0)[:, :, None]
    emd = cell_emd(side.people.columns, cells.observed[:, [people]], side.shares.predicted[:, [group]])
    return np.where((answered > 0).any(axis=(0, 1)), group_means(emd, answered)[0], np.nan)


def _margin(side: Side, cells: Cells, group: int, other: int) -> Floats:
    """[B]: how much nearer the prediction for `group` is to the other group's people than to its own, over the
    questions that both answered."""
    return _distance(side, cells, group, group, other) - _distance(side, cells, group, other, other)


def _average(cells: Cells) -> Floats:
    """[K]: the mean over groups of their people's shares."""
    there = per_option(cells.people.columns, cells.n > 0)
    return np.asarray((cells.observed * there).sum(axis=(1, 2)) / np.maximum(there.sum(axis=(1, 2)), 1))


def _pull(side: Side, cells: Cells, group: int, average: Floats) -> Floats:
    """[B]: how far along the way from its people's answers to the average's the prediction for `group` lies.

    Least squares over all questions' positions. The people's sampling noise would pull it up, and is taken out of both
    the numerator and the denominator; NaN where a group does not differ from the average by more than that.
    """
    along = across = np.zeros(cells.n.shape[2])
    for n, (item, k) in zip(side.n[:, group], side.people.columns, strict=True):
        if n < 2:
            continue
        truth = positions(cells.observed[k, group], item.ordinal)
        way = positions(average[k], item.ordinal)[:, None] - truth
        gone = positions(side.shares.predicted[k, [group], 0], item.ordinal) - truth
        noise = variance_within(cells.observed[k, group], item.ordinal) / (n - 1) * (1 if len(truth) == 1 else 2)
        along = along + (gone * way).sum(axis=0) - noise
        across = across + (way**2).sum(axis=0) - noise
    return ratio(along, across)


def _people_entropy(side: Side, group: int) -> float:
    """Mean over questions of the entropy in nats, with Miller and Madow's correction of its bias,
    (options that occur - 1) / 2n."""
    each = []
    for n, (_, k) in zip(side.n[:, group], side.people.columns, strict=True):
        if n > 0:
            shares = side.cells.observed[k, group, 0]
            corrected = entr(shares).sum() + max((shares > 0).sum() - 1, 0) / (2 * max(n, 1.0))
            each.append(min(corrected, np.log(len(shares))))
    return float(np.mean(each)) if each else float("nan")


def _beyond_chance(margin: float, deviations: Floats | None, candidates: int) -> bool:
    if deviations is None or not margin > 0:
        return False
    scatter = float(deviations.std())
    p = 2 * float(norm.sf(margin / scatter)) if scatter > 0 else 0.0
    return p * candidates < SIGNIFICANT
