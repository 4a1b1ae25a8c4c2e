"""The same metrics question by question and group by group, and how unequally groups are served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.cell_sums import CellPredictions, Cells
from cuma.metrics.estimates import entry
from cuma.metrics.inference import interval, resample_people, student_deviations
from cuma.metrics.measure import BETWEEN_GROUPS, BOUNDS, METRICS, measure
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import Item, Predictions, QuestionLike, Sample, read_parts
from cuma.metrics.scores import PARTS, score
from cuma.metrics.shares import Published, Told, drawn_weights, figures_of, is_shares, means_by_group, read_shares
from cuma.metrics.truth import cell_floors
from cuma.privacy.small_groups import MIN_PEOPLE

MIN_QUESTIONS = 10
"""The fewest questions by which a group of unknown people can be called the worst served: of a few, one may be odd."""
OF_ONE_GROUP = tuple(metric for metric in METRICS if metric not in BETWEEN_GROUPS)
INEQUALITY = ("worst_group", "group_gap", "group_inequity")

Questions = Sequence[QuestionLike | Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class OneGroup:
    """One group's metrics: the estimates, and over draws ([B] each; empty without draws)."""

    n: dict[str, int]
    """Its people and answers; of shares, its questions."""
    units: int
    """How many were drawn from: its people; of shares, its questions."""
    comparable: bool
    """Whether it is large enough to be called the worst or best served."""
    value: dict[str, float]
    drawn: dict[str, Floats]


def break_down(predictions: pd.DataFrame, questions: Questions, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """What stands in scores.json beside `score`: by_question, by_group, and each side's inequality.

    By question, groups are drawn as in `score`. By group, people of the group are drawn. The inequality is
    about the groups that are there (with at least `MIN_PEOPLE` people), which are therefore not drawn, and their people
    are: the largest soft EMD, its distance from the smallest, and the standard deviation over groups. Sampling noise
    inflates all three.

    Of shares without people, groups are drawn by question, and questions by group and for the inequality, which is then
    about groups with at least `MIN_QUESTIONS` questions.

    Returns {"by_question": {side: {question: {"n", metric: …}}}, "by_group": {side: {group: …}}, "inequality": {side:
    {"worst_group", "group_gap", "group_inequity"}}}. BenchmarkError if the table breaks the documented form.
    """
    found: dict[str, Any] = {"by_question": _by_question(predictions, questions, draws, seed), "by_group": {}}
    found["inequality"] = {}
    shares = is_shares(predictions)
    parts: dict[str, tuple[Any, Any]] = (read_shares if shares else read_parts)(predictions, questions)
    for side in PARTS:
        if side in parts:
            groups = (group_question_draws if shares else group_draws)(*parts[side], draws, seed)
            found["by_group"][side] = {name: _entries(group) for name, group in groups.items()}
            found["inequality"][side] = _inequality(groups)
    return found


def _by_question(predictions: pd.DataFrame, questions: Questions, draws: int, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for question in questions:
        name = Item.of(question).id
        alone = score(predictions[predictions["question_id"] == name], [question], draws=draws, seed=seed)
        for side in PARTS:
            if side in alone:
                found.setdefault(side, {})[name] = {"n": alone["n"][side], **alone[side]}
    return found


def group_draws(people: Sample, said: Predictions, draws: int, seed: int) -> dict[str, OneGroup]:
    """Each group's metrics, with its people drawn."""
    blocks = [people.features(), said.features]
    sums = [np.add.reduceat(block, people.starts[:-1], axis=0).T[:, :, None] for block in blocks]
    noise, sampler = cell_floors(people, seed)
    cells = Cells.of(people, sums[0])
    answers = CellPredictions.of(cells, sums[1], said.base[:, :, None], said.unsteered)
    again: tuple[Cells, CellPredictions] | None = None
    if draws:
        drawn = resample_people(people, blocks, draws, seed)
        slots = Cells.of(people, drawn[0])
        again = slots, CellPredictions.of(slots, drawn[1], said.base[:, :, None], said.unsteered)
    groups, answered = {}, people.answers >= 0
    for number, name in enumerate(people.groups):
        floors = (noise[:, number : number + 1], sampler[:, number : number + 1])
        value = {metric: float(array[0]) for metric, array in _of_one(cells, answers, number, floors).items()}
        rows = slice(people.starts[number], people.starts[number + 1])
        over = _of_one(*again, number, floors) if again else {}
        size = int(rows.stop - rows.start)
        n = {"people": size, "answers": int(answered[rows].sum())}
        groups[name] = OneGroup(n, size, size >= MIN_PEOPLE, value, over)
    return groups


def group_question_draws(published: Published, told: Told, draws: int, seed: int) -> dict[str, OneGroup]:
    """Each group's metrics from shares, with questions drawn; all groups are asked the same drawn questions.

    A group of under `MIN_PEOPLE` people, where that is known, or under `MIN_QUESTIONS` questions is not comparable.
    """
    figures = figures_of(published, told, seed)
    once = np.ones((len(published.scales), 1))
    questions, _ = drawn_weights(published, draws, seed)
    value = {name: means_by_group(cells, figures.asked, once)[:, 0] for name, cells in figures.cells.items()}
    drawn = {name: means_by_group(cells, figures.asked, questions) for name, cells in figures.cells.items()}
    asked = published.asked.sum(axis=0).astype(int)
    few = np.where(published.asked > 0, published.people, 0.0).max(axis=0) < MIN_PEOPLE  # False where not known
    return {
        group: OneGroup(
            {"questions": int(asked[g])},
            int(asked[g]),
            bool(asked[g] >= MIN_QUESTIONS and not few[g]),
            {name: float(values[g]) for name, values in value.items()},
            {name: values[g] for name, values in drawn.items()} if draws else {},
        )
        for g, group in enumerate(published.groups)
    }


def _of_one(cells: Cells, answers: CellPredictions, group: int, floors: tuple[Floats, Floats]) -> dict[str, Floats]:
    one = cells.at(group)
    once, nothing = np.ones((1, one.n.shape[2])), np.zeros(1)
    return measure(one, answers.at(group), once, floors, nothing, nothing)


def _entries(group: OneGroup) -> dict[str, Any]:
    entries: dict[str, Any] = {"n": group.n}
    for metric in OF_ONE_GROUP:
        if metric not in group.value:
            continue
        value = group.value[metric]
        around = student_deviations(value, group.drawn[metric], group.units) if group.drawn else None
        entries[metric] = entry(value, interval(value, around), BOUNDS[metric])
    return entries


def _inequality(groups: Mapping[str, OneGroup]) -> dict[str, Any]:
    large = {name: group for name, group in groups.items() if group.comparable}
    if len(large) < 2:
        return {name: entry(np.nan, None) for name in INEQUALITY}
    emd = np.array([group.value["soft_emd"] for group in large.values()])
    drawn = None
    if all(group.drawn for group in large.values()):
        drawn = np.stack([group.drawn["soft_emd"] for group in large.values()])
    smallest = min(group.units for group in large.values())

    def about(statistic: Callable[[Floats], Floats]) -> dict[str, Any]:
        value = float(statistic(emd[:, None])[0])
        around = None if drawn is None else student_deviations(value, statistic(drawn), smallest)
        return entry(value, interval(value, around), (0.0, 1.0))

    names = list(large)
    worst, best = names[int(emd.argmax())], names[int(emd.argmin())]
    return {
        "worst_group": {**about(lambda values: values.max(axis=0)), "group": worst},
        "group_gap": {**about(lambda values: np.ptp(values, axis=0)), "worst": worst, "best": best},
        "group_inequity": about(lambda values: values.std(axis=0, ddof=1)),
    }
