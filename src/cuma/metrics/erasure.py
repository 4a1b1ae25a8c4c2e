"""Who is spoken for? Variety within groups, and whose answers a model gives to whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from cuma.metrics.cell_sums import CellPredictions, Cells
from cuma.metrics.inference import GroupDraws, deviations, resample_people, student_deviations
from cuma.metrics.measure import cell_emd, group_means, people_entropy
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Predictions, Sample
from cuma.metrics.spread import positions
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
class Within:
    """Mean over groups of the variance within them, per question [Q]: of what is said, and of what people say."""

    model: Floats
    people: Floats
    ratio: tuple[float, Floats | None]
    """All questions together, with its deviations over draws."""
    by_question: list[tuple[float, Floats | None]]


@dataclass(frozen=True, eq=False)
class GroupErasure:
    """One group; see docs/evaluation.md, collapse.json."""

    people: int
    entropy_model: float
    entropy_people: float
    own_distance: float
    toward: str | None
    toward_distance: float
    margin: tuple[float, Floats | None]
    to_average: tuple[float, Floats | None]
    erased: bool


@dataclass(frozen=True, eq=False)
class Side:
    """Cells and answers of one part of the predictions, as observed, and with people drawn."""

    people: Sample
    cells: Cells
    answers: CellPredictions
    n: Floats
    """[Q, G] people who answered; with survey weights, as many as they are worth."""
    draws: int
    seed: int

    @classmethod
    def of(cls, people: Sample, said: Predictions, draws: int, seed: int) -> Side:
        """From one part of `read_parts`."""
        blocks = (people.features(), said.features)
        sums = [np.add.reduceat(block, people.starts[:-1], axis=0).T[:, :, None] for block in blocks]
        cells = Cells.of(people, sums[0])
        answers = CellPredictions.of(cells, sums[1], said.base[:, :, None], said.unsteered)
        n = np.stack([counts.sum(axis=1) for counts in people.effective_counts()]).astype(np.float64)
        return cls(people, cells, answers, n, draws, seed)

    def resampled(self) -> Cells:
        """The cells with their people drawn."""
        (sums,) = resample_people(self.people, [self.people.features()], self.draws, self.seed)
        return Cells.of(self.people, sums)


def within(side: Side) -> Within:
    """Variety within groups, the model's against people's; groups weigh the same."""
    n = side.n[:, :, None]
    model, people = _variances(side.cells, side.answers, n)
    once = np.ones((len(side.people.groups), 1))
    observed = _ratios(model, people, n, once)
    ratios: list[tuple[float, Floats | None]] = [(float(value[0]), None) for value in observed]
    if side.draws:
        draws = GroupDraws.of(len(side.people.groups), side.draws, side.seed)
        over = _ratios(model, people, n, draws.times)
        ratios = [(value, deviations(value, ratio, draws)) for (value, _), ratio in zip(ratios, over, strict=True)]
    there = (n > 0).sum(axis=1)[:, 0]
    means = [(values[:, :, 0] * (side.n > 0)).sum(axis=1) / np.maximum(there, 1) for values in (model, people)]
    return Within(means[0], means[1], ratios[-1], ratios[:-1])


def _variances(cells: Cells, answers: CellPredictions, n: Floats) -> tuple[Floats, Floats]:
    """[Q, S, B] each: the variance within every cell, of what is said and of people (unbiased; NaN-free at n = 1)."""
    model = [variance_within(answers.predicted[k], scale.ordinal) for scale, k in cells.scales()]
    people = [variance_within(cells.observed[k], scale.ordinal) for scale, k in cells.scales()]
    unbiased = np.where(n > 1, n / np.maximum(n - 1, 1.0), 0.0)
    return np.stack(model), np.stack(people) * unbiased


def _ratios(model: Floats, people: Floats, n: Floats, weight: Floats) -> Floats:
    """[Q+1, B]: model over people for each question and, last, for all together; cells of one person say nothing."""
    counted = (n > 1) * weight
    said, truth = (model * counted).sum(axis=1), (people * counted).sum(axis=1)
    both = np.concatenate([said, said.sum(axis=0, keepdims=True)])
    under = np.concatenate([truth, truth.sum(axis=0, keepdims=True)])
    return np.where(under > 0, both / np.where(under > 0, under, 1.0), np.nan)


def erasure(side: Side) -> dict[str, GroupErasure]:
    """For every group of at least `MIN_PEOPLE` people: whose answers it is given, and how far towards the average.

    A group is erased if what the model says for it fits another group's people better than its own, by more than chance
    and the choice among so many other groups give (normal approximation, Bonferroni).
    """
    sizes = np.diff(side.people.starts)
    large = [number for number in range(len(sizes)) if sizes[number] >= MIN_PEOPLE]
    drawn = side.resampled() if side.draws else None
    average = _average(side.cells)
    return {side.people.groups[group]: _of_group(side, group, large, drawn, average) for group in large}


def _of_group(side: Side, group: int, large: list[int], drawn: Cells | None, average: Floats) -> GroupErasure:
    cells, sizes = side.cells, np.diff(side.people.starts)
    margins = {other: float(_margin(side, cells, group, other)[0]) for other in large if other != group}
    margins = {other: margin for other, margin in margins.items() if np.isfinite(margin)}
    toward = max(margins, key=lambda other: margins[other]) if margins else None
    margin, around = np.nan, None
    if toward is not None:
        margin = margins[toward]
        if drawn is not None:
            both = _margin(side, drawn, group, toward)
            around = student_deviations(margin, both, int(min(sizes[group], sizes[toward])))
    own = float(_distance(side, cells, group, group, group)[0])
    said = side.answers.predicted[:, [group]]
    pull = float(_pull(side, cells, group, said, average)[0])
    pulled = None
    if drawn is not None:
        pulled = student_deviations(pull, _pull(side, drawn, group, said, average), int(sizes[group]))
    return GroupErasure(
        people=int(sizes[group]),
        entropy_model=float(group_means(side.answers.entropy[:, [group]], cells.n[:, [group]])[0, 0]),
        entropy_people=_people_entropy(side, group),
        own_distance=own,
        toward=None if toward is None else side.people.groups[toward],
        toward_distance=np.nan if toward is None else float(_distance(side, cells, group, toward, group)[0]),
        margin=(margin, around),
        to_average=(pull, pulled),
        erased=_beyond_chance(margin, around, len(margins)),
    )


def _distance(side: Side, cells: Cells, group: int, people: int, asked: int) -> Floats:
    """[B]: mean EMD between what is said for `group` and what the people of another one say, over the questions that
    both `group` and `asked` answered. NaN without any."""
    theirs = cells.at(people)
    answered = theirs.n * (side.n[:, [asked]] > 0)[:, :, None] * (side.n[:, [group]] > 0)[:, :, None]
    mean = group_means(cell_emd(theirs, side.answers.predicted[:, [group]]), answered)[0]
    return np.where((answered > 0).any(axis=(0, 1)), mean, np.nan)


def _margin(side: Side, cells: Cells, group: int, other: int) -> Floats:
    """[B]: how much nearer what is said for `group` is to the other group's people than to its own, over the questions
    that both were asked."""
    return _distance(side, cells, group, group, other) - _distance(side, cells, group, other, other)


def _average(cells: Cells) -> Floats:
    """[K]: the mean over groups of their people's shares."""
    there = (cells.n > 0)[cells.people.column_question]
    return np.asarray((cells.observed * there).sum(axis=(1, 2)) / np.maximum(there.sum(axis=(1, 2)), 1))


def _pull(side: Side, cells: Cells, group: int, said: Floats, average: Floats) -> Floats:
    """[B]: how far along the way from its people's answers to the average's what is said lies.

    Least squares over all questions' positions. The people's sampling noise would pull it up, and is taken out of both
    the numerator and the denominator; NaN where a group does not differ from the average by more than that.
    """
    one = cells.at(group)
    along = across = np.zeros(one.n.shape[2])
    for number, (scale, k) in enumerate(one.scales()):
        n = side.n[number, group]
        if n < 2:
            continue
        truth = positions(one.observed[k, 0], scale.ordinal)
        way = positions(average[k], scale.ordinal)[:, None] - truth
        gone = positions(said[k, 0], scale.ordinal) - truth
        noise = variance_within(one.observed[k, 0], scale.ordinal) / (n - 1) * (1 if len(truth) == 1 else 2)
        along = along + (gone * way).sum(axis=0) - noise
        across = across + (way**2).sum(axis=0) - noise
    return np.where(across > 0, along / np.where(across > 0, across, 1.0), np.nan)


def _people_entropy(side: Side, group: int) -> float:
    each = [
        float(people_entropy(side.cells.observed[k, [group], 0], side.n[number, [group]])[0])
        for number, (_, k) in enumerate(side.cells.scales())
        if side.n[number, group] > 0
    ]
    return float(np.mean(each)) if each else float("nan")


def _beyond_chance(margin: float, around: Floats | None, candidates: int) -> bool:
    if around is None or not margin > 0:
        return False
    scatter = float(around.std())
    p = 2 * float(norm.sf(margin / scatter)) if scatter > 0 else 0.0
    return p * candidates < SIGNIFICANT
