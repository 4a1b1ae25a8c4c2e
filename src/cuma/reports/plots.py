"""The numbers behind the pictures of answers and learning curves, for the page's JSON. Suppression happens here."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from cuma.reports.tables import shown_sides
from cuma.runs.evidence import Evidence
from cuma.runs.group_answers import predicted_answers, true_answers

RIVAL_COLOURS = 5
"""How many colours the style sheet has for rivals (Okabe-Ito without the reference's); more rivals reuse them."""


@cache
def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share, kept because many cells have the same counts; `trials` > 0."""
    ends = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(ends.low), float(ends.high)


def method_entries(evidence: Evidence) -> list[dict[str, str]]:
    """Name, label, role and colour of every method, in the order in which the page shows them."""
    entries, rivals = [], 0
    for method in evidence.methods:
        colour: str = method.role
        if method.role == "rival":
            colour, rivals = f"rival-{rivals % RIVAL_COLOURS + 1}", rivals + 1
        entries.append({"name": method.name, "label": method.label, "role": method.role, "colour": colour})
    return entries


def first_methods(evidence: Evidence, table: pd.DataFrame) -> list[int]:
    """Numbers of the methods of the first picture: the reference, a model trained without experts, one that is only
    prompted, and the closest of the others; where there are fewer than three, other methods in the page's order."""
    methods = evidence.methods
    errors = table[table["role"] == "rival"].groupby("name")["soft_emd"].mean()
    rivals = [i for i, method in enumerate(methods) if method.role == "rival"]
    prompted = [i for i in rivals if methods[i].info["kind"] != "trained"]
    dense = [i for i in rivals if i not in prompted and methods[i].routing is None]
    nearest = sorted(rivals, key=lambda i: errors.get(methods[i].name, math.inf))
    chosen = [i for i, method in enumerate(methods) if method.role == "reference"]
    chosen += [*dense[:1], *prompted[:1]]
    chosen += [i for i in nearest[:1] if i not in chosen]
    others = [i for i in (*nearest, *range(len(methods))) if i not in chosen]
    return chosen + others[: max(0, 3 - len(chosen))]


def answers_payload(evidence: Evidence) -> dict[str, Any]:
    """Groups with people's and every method's answers, and the group and question to open with."""
    answers = true_answers(evidence)
    predicted = [predicted_answers(method) for method in evidence.methods]
    numbers = {question["id"]: i for i, question in enumerate(evidence.questions)}
    groups: dict[str, dict[str, Any]] = {}
    for row in answers.sort_values(["seen", "group"]).itertuples():
        group = groups.setdefault(row.group, {"label": row.group, "seen": row.seen, "cells": {}})
        group["cells"][numbers[row.question_id]] = {
            "n": row.n,
            "people": _rounded(row.shares),
            "interval": None
            if row.n is None
            else [_rounded(wilson(round(share * row.worth), row.worth)) for share in row.shares],
            "methods": [_rounded(table.get((row.group, row.question_id))) for table in predicted],
        }
    questions = [
        {key: question[key] for key in ("id", "text", "options", "ordinal")} for question in evidence.questions
    ]
    listed = list(groups.values())
    return {"questions": questions, "groups": listed, "start": _start(listed)}


def _start(groups: list[dict[str, Any]]) -> dict[str, int]:
    """Open with the group furthest from the average answer, unseen if possible: there a collapse is easiest to see."""
    question = min((number for group in groups for number in group["cells"]), default=0)
    cells = {i: group["cells"][question]["people"] for i, group in enumerate(groups) if question in group["cells"]}
    if not cells:
        return {"group": 0, "question": 0}
    mean = np.mean(list(cells.values()), axis=0)
    unseen = [i for i in cells if not groups[i]["seen"]] or list(cells)
    return {"group": max(unseen, key=lambda i: float(np.abs(cells[i] - mean).sum())), "question": question}


def curve_panels(evidence: Evidence, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Panels of soft EMD and spread for each shown side; none when no method was measured while training."""
    trained = [(i, method) for i, method in enumerate(evidence.methods) if not method.curve.empty]
    panels = []
    for metric, name in (("soft_emd", "Soft EMD"), ("spread", "Spread")):
        for side in shown_sides(evidence):
            known = [(i, m.curve[m.curve["seen"] == (side == "seen")].dropna(subset=[metric])) for i, m in trained]
            drawn = [series(i, curve["step"], curve[metric]) for i, curve in known if len(curve)]
            if drawn:
                rows = table[table["side"] == side]
                lines = _floor_and_anchors(rows) if metric == "soft_emd" else _spread_lines()
                panels.append({"box": "curves", "title": f"{name}, {side} groups", "series": drawn, "lines": lines})
    return panels


def series(number: int, steps: pd.Series, values: pd.Series) -> dict[str, Any]:
    """One line of a panel: a method's number, steps and values."""
    return {"method": number, "steps": [int(step) for step in steps], "values": _rounded(values)}


def _floor_and_anchors(rows: pd.DataFrame) -> list[dict[str, Any]]:
    anchors = rows[(rows["role"] == "anchor") & rows["soft_emd"].notna()]
    lines = [{"label": row.label, "value": round(row.soft_emd, 4), "kind": "anchor"} for row in anchors.itertuples()]
    floor = rows["noise_floor"].dropna()
    if len(floor):
        lines.append({"label": "Noise floor", "value": round(float(floor.iloc[0]), 4), "kind": "floor"})
    return lines


def _spread_lines() -> list[dict[str, Any]]:
    return [
        {"label": "As diverse as people", "value": 1, "kind": "anchor"},
        {"label": "Collapsed", "value": 0, "kind": "floor"},
    ]


def _rounded(values: Any) -> list[float] | None:
    return None if values is None else [round(float(value), 4) for value in values]
