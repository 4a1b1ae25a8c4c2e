"""What collapse.json and gradients.json say, for the page: alarms, who is erased, and whose gradients conflict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from cuma.metrics.figures import estimate_text
from cuma.privacy.small_groups import MIN_PEOPLE
from cuma.reports.tables import Side, shown_sides
from cuma.runs.evidence import Evidence
from cuma.runs.group_answers import true_answers

PARTS = {"dense": "frozen weights (what a dense update would move)", "adapter": "dense adapter", "expert": "experts",
         "router": "router"}  # fmt: skip
"""Kinds of parameters in gradients.json."""
COSINES = ("between", "within", "agreement", "conflicting")
MOST_GROUPS = 12
"""Rows of the table of groups; the rest is counted."""


def collapse_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """For every method with a collapse.json: alarms, a row per question and side, and the groups most erased."""
    shown = set(true_answers(evidence)["group"])
    texts = {question["id"]: question["text"] for question in evidence.questions}
    return [
        _collapse(method.label, method.measurements["collapse"], shown_sides(evidence), shown, texts)
        for method in evidence.methods
        if "collapse" in method.measurements
    ]


def _collapse(
    label: str, file: Mapping[str, Any], wanted: Sequence[Side], shown: Collection[str], texts: Mapping[str, str]
) -> dict[str, Any]:
    """wanted: sides; shown: groups."""
    sides = [(side, file["sides"][side]) for side in wanted if side in file["sides"]]
    questions = {(side, key): facts for side, part in sides for key, facts in part["questions"].items()}
    shown_questions = {place: facts for place, facts in questions.items() if facts["n"] >= MIN_PEOPLE}
    places = {*shown_questions, *((side, None) for side in wanted)}
    alarms = [alarm for alarm in file["alarms"] if (alarm["side"], alarm["question"]) in places]
    erased = [
        (facts["margin"]["value"], [name, side, facts["toward"], *_estimates(facts, ("margin", "to_average"))])
        for side, part in sides
        for name, facts in part["groups"].items()
        if facts["erased"] and name in shown and facts["toward"] in shown
    ]
    erased.sort(key=lambda row: -row[0])
    return {
        "label": label,
        **_alarms([alarm for alarm in alarms if alarm["kind"] != "erased"]),
        "questions": [
            [texts.get(key, key), side, *_estimates(facts, ("spread", "alignment", "within_ratio"))]
            for (side, key), facts in shown_questions.items()
        ],
        "erased": [row for _, row in erased[:MOST_GROUPS]],
        "more": max(0, len(erased) - MOST_GROUPS),
    }


def _alarms(alarms: list[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Those about all questions together, and those about single ones; erased groups have a table of their own."""
    return {
        "alarms": [alarm["sentence"] for alarm in alarms if alarm["question"] is None],
        "single_alarms": [alarm["sentence"] for alarm in alarms if alarm["question"] is not None],
    }


def _estimates(facts: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [estimate_text(facts.get(name), 2) for name in names]


def gradient_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """For every method with a gradients.json: the sentence, a row per kind of parameters, and the cosines to draw."""
    return [
        _gradients(place, method.label, method.measurements["gradients"], _nameable(evidence, method.info))
        for place, method in enumerate(evidence.methods)
        if "gradients" in method.measurements
    ]


def _nameable(evidence: Evidence, info: Mapping[str, Any]) -> set[str]:
    """Groups whose size lets them be named: those tested, and those trained on that run.json names."""
    return set(true_answers(evidence)["group"]) | set(info.get("population", {}).get("groups", {}))


def _gradients(place: int, label: str, file: Mapping[str, Any], nameable: Collection[str]) -> dict[str, Any]:
    kept = [i for i, group in enumerate(file["groups"]) if group in nameable]
    parts = {name: file[name] for name in PARTS if file.get(name) is not None}
    return {
        "method": place,
        "label": label,
        "sentence": file["sentence"],
        "difference": estimate_text(file["difference"], 2),
        "rows": [
            [
                PARTS[name],
                f"{part['parameters']:,}",
                *_estimates(part, COSINES),
            ]
            for name, part in parts.items()
        ],
        "groups": [file["groups"][i] for i in kept],
        "parts": [PARTS[name] for name in parts],
        "cosines": [np.round(np.array(part["cosine"])[np.ix_(kept, kept)], 3).tolist() for part in parts.values()],
    }
