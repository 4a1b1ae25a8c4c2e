"""Which of four replies a person prefers, asked of a model: Community Alignment's test, and that of data like it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.letters import mean_over_orders
from cuma.data.builders.person_splits import UNSEEN
from cuma.data.builders.preferences import reordered
from cuma.data.corpus import Corpus
from cuma.data.surveys.prompts import letter_orders, told_who_asks
from cuma.evaluation.evaluation_files import Write, write_parquet
from cuma.metrics.choice_scores import discrimination
from cuma.people.profiles import Profile
from cuma.runs.folder import write_json

TASK = "discrimination"
SPLITS = ("test", UNSEEN)
ABOUT = ("person", "group", "seen", "answer")


def choices_of(corpus: Corpus) -> list[dict[str, Any]]:
    """The test people's, with person, group, seen, profile, prompt, options and answer."""
    splits = corpus.rows(TASK) or {}
    rows = [(split, row) for split in SPLITS if split in splits for row in splits[split]]
    return [{**row, "person": row["person_id"], "seen": split != UNSEEN} for split, row in rows]


def choice_rows(choices: list[dict[str, Any]], in_prompt: bool) -> list[dict[str, Any]]:
    """What is asked: every choice in each of its letter orders, so that a preference for a letter gains nothing."""
    return [row for number, choice in enumerate(choices) for row in _rows(number, choice, in_prompt)]


def _rows(number: int, choice: dict[str, Any], in_prompt: bool) -> list[dict[str, Any]]:
    """The choice in each of its letter orders."""
    profile = Profile.parse(choice["profile"])
    return [
        {
            "group": choice["group"],
            "question_id": str(number),
            "order": list(order),
            "profile": profile.fields,
            "prompt": told_who_asks(
                reordered(choice["prompt"], choice["options"], order), profile.sentence if in_prompt else ""
            ),
        }
        for order in letter_orders(len(choice["options"]))
    ]


def write_choices(choices: list[dict[str, Any]]) -> Write:
    """What writes discrimination.json and .parquet from what was said to `choice_rows`."""

    def write(
        folder: Path, predicted: list[np.ndarray], routing: pd.DataFrame | None, protocol: Mapping[str, Any]
    ) -> None:
        table = pd.DataFrame([{name: choice[name] for name in ABOUT} for choice in choices])
        table["person"] = pd.factorize(table["person"])[0]  # a running number, not the data's own id
        orders = len(predicted) // len(choices)
        answers = [mean_over_orders(predicted[start : start + orders]) for start in range(0, len(predicted), orders)]
        table["probabilities"] = [shares for shares, _ in answers]
        table["option_mass"] = [mass for _, mass in answers]
        write_json(folder / f"{TASK}.json", {**discrimination(table), "asked": dict(protocol)})
        write_parquet(folder / f"{TASK}.parquet", table)  # last: it marks the evaluation as done

    return write
