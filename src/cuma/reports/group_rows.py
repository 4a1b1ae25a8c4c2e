"""Figures for single groups, as a model card lists them: people, and how far the model's answers are from theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cuma.metrics import emd
from cuma.runs.evidence import Evidence, Method
from cuma.runs.group_answers import hidden_groups, predicted_answers, true_answers


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
