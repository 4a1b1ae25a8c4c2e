"""`cuma evaluate --collapse`: does a model speak for one average, and does it make everyone in a group the same?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cuma.evaluation.subject import Subject
from cuma.metrics.erasure import GroupErasure, Side, erasure, within
from cuma.metrics.estimates import entry
from cuma.metrics.inference import interval
from cuma.metrics.pointwise import Floats
from cuma.metrics.sample import read_parts
from cuma.runs.folder import read_json, write_json

DRAWS = 500
ALARM_BELOW = 0.5
"""A spread or a variety whose whole interval lies below this share of people's raises an alarm."""


def evaluate_collapse(subject: Subject) -> dict[str, Any]:
    """Measure mean collapse and stereotyping from an evaluation's predictions; written to collapse.json beside them.

    Returns {"sides": {side: {"spread", "alignment", "within_ratio", "questions", "groups"}}, "alarms"}; see
    docs/evaluation.md. Raises RunError if the subject is not evaluated yet.
    """
    folder = subject.folder
    scores = read_json(folder / "scores.json")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    result = collapse(predictions, scores, draws=DRAWS)
    write_json(folder / "collapse.json", result)
    return result


def collapse(predictions: pd.DataFrame, scores: dict[str, Any], draws: int = DRAWS, seed: int = 0) -> dict[str, Any]:
    """`evaluate_collapse` of a table of predictions and its scores.json."""
    sides, alarms = {}, []
    for name, (people, predicted) in read_parts(predictions, scores["questions"]).items():
        side = Side.of(people, predicted, draws, seed)
        result = {metric: scores[name][metric] for metric in ("spread", "alignment")}
        result |= _questions(side, scores["by_question"][name])
        result["groups"] = {group: _group(one) for group, one in erasure(side).items()}
        sides[name] = result
        alarms += _alarms(name, result, {question["id"]: question["text"] for question in scores["questions"]})
    return {"sides": sides, "alarms": alarms}


def _questions(side: Side, scores: dict[str, Any]) -> dict[str, Any]:
    variety = within(side)
    questions = {}
    for number, scale in enumerate(side.people.scales):
        if scale.id in scores:
            questions[scale.id] = {
                "spread": scores[scale.id]["spread"],
                "alignment": scores[scale.id]["alignment"],
                "within_model": float(variety.model[number]),
                "within_people": float(variety.people[number]),
                "within_ratio": _estimate(variety.by_question[number]),
                "n": scores[scale.id]["n"]["people"],
            }
    return {"within_ratio": _estimate(variety.ratio), "questions": questions}


def _group(one: GroupErasure) -> dict[str, Any]:
    return {
        "n": one.people,
        "entropy_model": _known(one.entropy_model),
        "entropy_people": _known(one.entropy_people),
        "own_distance": _known(one.own_distance),
        "toward": one.toward,
        "toward_distance": _known(one.toward_distance),
        "margin": _estimate(one.margin),
        "to_average": _estimate(one.to_average),
        "erased": one.erased,
    }


def _estimate(estimate: tuple[float, Floats | None]) -> dict[str, Any]:
    value, around = estimate
    return entry(value, interval(value, around))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


# --- alarms ----------------------------------------------------------------------------------------------------------


def _alarms(side: str, result: dict[str, Any], texts: dict[str, str]) -> list[dict[str, Any]]:
    alarms = []
    places: list[tuple[str | None, dict[str, Any]]] = [(None, result), *result["questions"].items()]
    for question, here in places:
        where = "all questions together" if question is None else f"“{texts[question]}”"
        for kind, key, text in (("spread", "spread", _SPREAD), ("within", "within_ratio", _WITHIN)):
            if here[key]["high"] is not None and here[key]["high"] < ALARM_BELOW:
                alarms.append(_alarm(side, kind, question, None, text.format(side=side, where=where, **here[key])))
    for group, one in result["groups"].items():
        if one["erased"]:
            sentence = _ERASED.format(side=side, group=group, toward=one["toward"], **one["margin"])
            alarms.append(_alarm(side, "erased", None, group, sentence))
    return alarms


_SPREAD = (
    "Mean collapse ({side} groups, {where}): groups are told apart {value:.2f} times [{low:.2f}, {high:.2f}] as much "
    "as people's groups differ."
)
_WITHIN = (
    "Stereotyping ({side} groups, {where}): within a group the answers are {value:.2f} times [{low:.2f}, {high:.2f}] "
    "as varied as people's; everyone in a group is made nearly the same."
)
_ERASED = (
    "Erased ({side} groups): what is said for “{group}” fits the people of “{toward}” better than their own, by an EMD "
    "of {value:.3f} [{low:.3f}, {high:.3f}]."
)


def _alarm(side: str, kind: str, question: str | None, group: str | None, sentence: str) -> dict[str, Any]:
    return {"side": side, "kind": kind, "question": question, "group": group, "sentence": sentence}
