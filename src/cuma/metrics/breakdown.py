"""The same metrics question by question and group by group, and how unequally groups are served."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.cell_sums import Cells, PersonFigures, cell_floors, cell_shares
from cuma.metrics.corners import ITEM_SEEN, side_rows
from cuma.metrics.design import Design
from cuma.metrics.inference import design_deviations, entry, estimate
from cuma.metrics.items import Item, Questions
from cuma.metrics.measure import METRICS, CellShares, Estimates, measure
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Predictions, Sample, resample_people
from cuma.metrics.scores import PARTS, read_any, score
from cuma.metrics.shares import GroupShares, SharePredictions, draw_weights, means_by_group, share_floors, share_tables
from cuma.privacy.small_groups import MIN_PEOPLE

MIN_QUESTIONS = 10
"""The fewest questions by which a group of unknown people can be called the worst served: of a few, one may be odd."""
INEQUALITY = ("worst_group", "group_gap", "group_inequity")


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupEstimates(Estimates):
    """One group's metrics."""

    n: dict[str, Any]
    """Its people and answers, with a known design its effect; of shares, its questions."""
    units: int
    """How many were drawn from: its people, or the survey's units that they are in; of shares, its questions."""
    comparable: bool
    """Whether it is large enough to be called the worst or best served."""
    design: Design | None = None


def break_down(
    predictions: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0, design: Design | None = None
) -> dict[str, Any]:
    """What stands in scores.json beside `score`: by_question, by_group, and each side's inequality.

    By question, groups are drawn as in `score`. By group, people of the group are drawn. The inequality is
    about the groups that are there (with at least `MIN_PEOPLE` people), which are therefore not drawn, and their people
    are: the largest soft EMD, its distance from the smallest, and the standard deviation over groups. Sampling noise
    inflates all three. With a known `design` people are drawn by their units.

    Of shares without people, groups are drawn by question, and questions by group and for the inequality, which is then
    about groups with at least `MIN_QUESTIONS` questions.

    Returns {"by_question": {side: {question: {"n", metric: …}}}, "by_group": {side: {group: …}}, "inequality": {side:
    {"worst_group", "group_gap", "group_inequity"}}}. BenchmarkError if the table breaks the documented form.
    """
    by_question = _by_question(predictions.drop(columns=ITEM_SEEN, errors="ignore"), questions, draws, seed, design)
    by_group, inequality = {}, {}
    parts = read_any(side_rows(predictions), questions, design)
    for side in PARTS:
        if side in parts:
            people = parts[side][0]
            draw = question_draws if isinstance(people, GroupShares) else people_draws
            groups = draw(*parts[side], draws, seed)
            by_group[side] = {name: _entries(group) for name, group in groups.items()}
            inequality[side] = _inequality(groups)
    return {"by_question": by_question, "by_group": by_group, "inequality": inequality}


def _by_question(
    predictions: pd.DataFrame, questions: Questions, draws: int, seed: int, design: Design | None
) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for question in questions:
        name = Item.of(question).id
        rows = predictions[predictions["question_id"] == name]
        alone = score(rows, [question], draws=draws, seed=seed, design=design)
        for side in PARTS:
            if side in alone:
                sides.setdefault(side, {})[name] = {"n": alone["n"][side], **alone[side]}
    return sides


def people_draws(people: Sample, predictions: Predictions, draws: int, seed: int) -> dict[str, GroupEstimates]:
    """Each group's metrics, with its people drawn."""
    figures, floors = PersonFigures.of(people, predictions), cell_floors(people, seed)
    cells = cell_shares(Cells.of(people), figures, floors)
    resampled: CellShares | None = None
    if draws:
        sums = resample_people(people, [people.features(), figures.values], draws, seed)
        resampled = cell_shares(Cells.of(people, sums[0]), figures, floors, sums[1])
    groups = {}
    for g, name in enumerate(people.groups):
        rows = slice(people.starts[g], people.starts[g + 1])
        size = int(rows.stop - rows.start)
        n = {"people": size, "answers": int((people.answers[rows] >= 0).sum()), **people.design_effect(g)}
        value = {metric: float(array[0]) for metric, array in measure(cells.at(g), np.ones((1, 1))).items()}
        replicates = measure(resampled.at(g), np.ones((1, resampled.n.shape[2]))) if resampled else {}
        groups[name] = GroupEstimates(
            value=value,
            replicates=replicates,
            n=n,
            units=people.units(g),
            comparable=size >= MIN_PEOPLE,
            design=people.design,
        )
    return groups


def question_draws(
    people: GroupShares, predictions: SharePredictions, draws: int, seed: int
) -> dict[str, GroupEstimates]:
    """Each group's metrics from shares, with questions drawn; the same drawn questions for all groups.

    A group of under `MIN_PEOPLE` people, where that is known, or under `MIN_QUESTIONS` questions is not comparable.
    """
    tables = share_tables(people, predictions, share_floors(people, seed))
    times, _ = draw_weights(people, draws, seed)
    once = np.ones((len(people.items), 1))
    value = {name: means_by_group(cells, tables.mask, once)[:, 0] for name, cells in tables.cells.items()}
    replicates = {name: means_by_group(cells, tables.mask, times) for name, cells in tables.cells.items()}
    questions = people.mask.sum(axis=0).astype(int)
    few = np.where(people.mask > 0, people.people, 0.0).max(axis=0) < MIN_PEOPLE  # False where not known
    return {
        group: GroupEstimates(
            value={name: float(values[g]) for name, values in value.items()},
            replicates={name: values[g] for name, values in replicates.items()} if draws else {},
            n={"questions": int(questions[g])},
            units=int(questions[g]),
            comparable=bool(questions[g] >= MIN_QUESTIONS and not few[g]),
        )
        for g, group in enumerate(people.groups)
    }


def _entries(group: GroupEstimates) -> dict[str, Any]:
    entries: dict[str, Any] = {"n": group.n}
    for name, metric in METRICS.items():
        if name in group.value and not metric.between:
            value, deviations = group.value[name], None
            if group.replicates:
                deviations = design_deviations(value, group.replicates[name], group.units, group.design)
            entries[name] = estimate(value, deviations, metric.bounds)
    return entries


def _inequality(groups: Mapping[str, GroupEstimates]) -> dict[str, Any]:
    large = {name: group for name, group in groups.items() if group.comparable}
    if len(large) < 2:
        return {name: entry(np.nan, None) for name in INEQUALITY}
    emd = np.array([group.value["soft_emd"] for group in large.values()])
    drawn = all(group.replicates for group in large.values())
    replicates = np.stack([group.replicates["soft_emd"] for group in large.values()]) if drawn else None
    smallest = min(group.units for group in large.values())
    design = next(iter(large.values())).design

    def about(statistic: Callable[[Floats], Floats]) -> dict[str, Any]:
        value = float(statistic(emd[:, None])[0])
        deviations = None
        if replicates is not None:
            deviations = design_deviations(value, statistic(replicates), smallest, design)
        return estimate(value, deviations, METRICS["soft_emd"].bounds)

    names = list(large)
    worst, best = names[int(emd.argmax())], names[int(emd.argmin())]
    return {
        "worst_group": {**about(lambda values: values.max(axis=0)), "group": worst},
        "group_gap": {**about(lambda values: np.ptp(values, axis=0)), "worst": worst, "best": best},
        "group_inequity": about(lambda values: values.std(axis=0, ddof=1)),
    }
