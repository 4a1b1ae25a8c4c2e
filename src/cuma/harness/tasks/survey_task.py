"""Surveys as tasks of lm-evaluation-harness: one document for every group, question and order of the letters.

The same prompts as `cuma evaluate`, so that the same model gives the same figures: run them with --apply_chat_template.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from cuma.answering.materials import survey_of
from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.prompts import LETTERS
from cuma.errors import BenchmarkError
from cuma.harness.marker import mark
from cuma.metrics import emd
from cuma.people.profiles import Profile

ROLES = ("seen", "test")


def documents(benchmark: str = "gss", persona: bool = False, **_: Any) -> dict[str, Dataset]:
    """The benchmark's test cells.

    Args:
        benchmark: gss, gss-all, wvs, or a folder that `cuma data build` wrote.
        persona: say who asks in the prompt, which any model reads; otherwise in the request's mark, which only the
            model type "cuma" understands.

    Returns:
        {"test": documents with group, question_id, seen, ordinal, system, text, order, letters, counts}; counts are
        people's answers in the order of the question's options.

    Raises:
        BenchmarkError: it is not there, or asks no people anything.
    """
    survey = survey_of(benchmark)[0]
    if not survey.questions:
        raise BenchmarkError(f"{benchmark} holds no survey: nobody answered lettered questions there.")
    seen = {group.id: group.role == "seen" for group in survey.groups}
    ordinal = {question.id: question.ordinal for question in survey.questions}
    rows = []
    for cell in survey_cells(survey, "test", ROLES, profile_in_prompt=persona):
        system, asked = (message["content"] for message in cell["prompt"])
        profile = Profile.parse({name: value for name, value in cell["profile"].items() if value is not None})
        counts = np.zeros(len(cell["order"]))
        counts[cell["order"]] = cell["answer_counts"]
        rows.append(
            {
                **{key: cell[key] for key in ("group", "question_id", "order")},
                "seen": seen[cell["group"]],
                "ordinal": ordinal[cell["question_id"]],
                "system": system,
                "text": asked if persona else mark(profile, asked),
                "letters": list(LETTERS[: len(cell["order"])]),
                "counts": counts.tolist(),
            }
        )
    return {"test": Dataset.from_list(rows)}


def commonest(document: dict[str, Any]) -> int:
    """The place of the letter under which the group's commonest answer stands."""
    return document["order"].index(int(np.argmax(document["counts"])))


def results(document: dict[str, Any], answers: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """What one document says, for the aggregations: option probabilities, and whether the commonest answer wins."""
    likelihood = np.array([value for value, _ in answers])
    shown = np.exp(likelihood - likelihood.max())
    said = np.zeros(len(shown))
    said[document["order"]] = shown / shown.sum()
    row = (document["group"], document["question_id"], document["ordinal"], said.tolist(), document["counts"])
    found: dict[str, Any] = {"acc": float(int(likelihood.argmax()) == commonest(document)), "soft_emd": row}
    found["soft_emd_seen" if document["seen"] else "soft_emd_unseen"] = row
    return found


def mean_soft_emd(rows: Sequence[tuple[str, str, bool, list[float], list[float]]]) -> float:
    """Soft EMD as in scores.json: orders of the letters averaged, then a group's questions, then groups."""
    said: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    people, ordinal = {}, {}
    for group, question, is_ordinal, shares, counts in rows:
        said[group, question].append(shares)
        people[group, question] = np.array(counts) / np.sum(counts)
        ordinal[question] = is_ordinal
    cells: dict[str, list[float]] = defaultdict(list)
    for (group, question), orders in said.items():
        error = emd(np.mean(orders, axis=0), people[group, question], ordinal[question])
        cells[group].append(float(error))
    return float(np.mean([np.mean(errors) for errors in cells.values()]))
