"""Figures for single groups, as model cards and the page list them: people, and how far answers are from theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cuma.metrics import emd
from cuma.metrics.figures import MISSING, estimate_text, number
from cuma.reports.side_tables import Listing
from cuma.reports.tables import shown_sides
from cuma.runs.evidence import Evidence
from cuma.runs.group_answers import hidden_cells, hidden_groups, predicted_answers, true_answers
from cuma.runs.method import Method


@dataclass(frozen=True)
class GroupRow:
    """One group's line; None where a number is not known or may not be shown."""

    group: str
    seen: bool
    trained: int | None
    """People that the run was trained on."""
    tested: int | None
    """People that it was tested on."""
    soft_emd: float | None
    """Mean over the questions that enough of the group's people answered."""


def group_rows(trained: Mapping[str, int], evidence: Evidence | None) -> list[GroupRow]:
    """A row for every group that may be named: seen groups first, then by name.

    Args:
        trained: label → people trained on, too small groups left out already.
        evidence: of one evaluated run; None: it is not evaluated.
    """
    tested = {} if evidence is None else _tested(evidence)
    errors = {} if evidence is None else group_errors(evidence, evidence.methods[0])
    sides = {} if evidence is None else dict(zip(evidence.people["group"], evidence.people["seen"], strict=True))
    seen = dict.fromkeys(trained, True) | {group: bool(sides[group]) for group in (*tested, *errors)}
    return [
        GroupRow(group, seen[group], trained.get(group), tested.get(group, (True, None))[1], errors.get(group))
        for group in sorted(seen, key=lambda group: (not seen[group], group))
    ]


def _tested(evidence: Evidence) -> dict[str, tuple[bool, int]]:
    """Label → (seen, people), of the groups that may be shown and whose people are known."""
    if evidence.of_shares:
        return {}
    left_out = hidden_groups(evidence.people)
    sizes = evidence.people.groupby(["group", "seen"])["person"].nunique()
    return {group: (bool(seen), int(size)) for (group, seen), size in sizes.items() if group not in left_out}


def group_errors(evidence: Evidence, method: Method) -> dict[str, float]:
    """Label → the method's soft EMD (as in scores.json, for one group), over the cells that may be shown."""
    ordinal = {question["id"]: question["ordinal"] for question in evidence.questions}
    predicted = predicted_answers(method)
    cells: dict[str, list[float]] = {}
    for row in true_answers(evidence).itertuples():
        prediction = predicted.get((row.group, row.question_id))
        if prediction is not None:
            cells.setdefault(row.group, []).append(float(emd(prediction, row.shares, ordinal[row.question_id])))
    return {group: float(np.mean(values)) for group, values in cells.items()}


GROUPS_NOTE = (
    "Brackets: 95 % intervals; a group’s {} are drawn. Its noise floor is what a perfect model would show: a single "
    "group’s soft EMD is to be compared with that, not with its neighbours’."
)
PARTLY = " Without brackets: too few answered one of the questions, and the figure is of the others."


def group_listing(evidence: Evidence) -> Listing | None:
    """Every group that may be shown, with its people and each method's soft EMD and interval; None where there is none.

    Of a group some of whose cells may not be shown the figure is of its other cells, without an interval: that of all
    would tell what those cells hold.
    """
    answers = true_answers(evidence)
    sides = {group: "seen" if seen else "unseen" for group, seen in zip(answers["group"], answers["seen"], strict=True)}
    shown = [group for side in shown_sides(evidence) for group in sorted(sides) if sides[group] == side]
    if not shown:
        return None
    partly = {group for group, _ in hidden_cells(evidence.people)}
    errors = [group_errors(evidence, method) for method in evidence.methods]
    tested = {} if evidence.of_shares else evidence.people.groupby("group")["person"].nunique().to_dict()

    def figure(place: int, group: str, metric: str = "soft_emd") -> str:
        entry = evidence.methods[place].by_group.get(sides[group], {}).get(group, {}).get(metric)
        if group in errors[place] and entry and group not in partly:
            return estimate_text(entry) if metric == "soft_emd" else number(entry["value"])
        return number(errors[place].get(group)) if metric == "soft_emd" else MISSING

    places = range(len(evidence.methods))
    fullest = max(places, key=lambda place: sum(map(len, evidence.methods[place].by_group.values())))
    sizes = ["People", "Noise floor"] if tested else []
    rows = []
    for group in shown:
        size = [f"{tested[group]:,}", figure(fullest, group, "noise_floor")] if tested else []
        rows.append((group, sides[group], *size, *(figure(place, group) for place in places)))
    note = GROUPS_NOTE.format("questions" if evidence.of_shares else "people") + (PARTLY if partly & set(shown) else "")
    headings = ("Group", "Groups", *sizes, *(method.label for method in evidence.methods))
    return Listing("groups", "Soft EMD ↓ of every group", headings, tuple(rows), note)
