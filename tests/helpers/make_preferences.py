"""Synthetic files in the form of PRISM and of Community Alignment, with nothing odd in them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

COUNTRIES = ("Japan", "Peru", "Kenya")
WHO = ("annotator_age", "annotator_gender", "annotator_country", "annotator_education_level", "annotator_political")
LETTERS = "abcd"
TURNS = ("first", "second", "third", "fourth")


def prism_people(people: int = 60) -> list[dict[str, Any]]:
    """Rows of survey.jsonl. Nobody wants to say their ethnicity, and every other one their gender."""
    hidden = {"self_described": "secret", "categorised": "Prefer not to say", "simplified": "Prefer not to say"}
    return [
        {
            "user_id": f"user{u}", "age": "18-24 years old", "gender": "Female" if u % 2 else "Prefer not to say",
            "religion": {**hidden, "categorised": "Christian"}, "ethnicity": hidden, "survey_only": False,
            "location": {"birth_country": COUNTRIES[u % 3], "reside_country": COUNTRIES[u % 3]},
        }
        for u in range(people)
    ]  # fmt: skip


def prism_talks(talks: int = 120, people: int = 60) -> list[dict[str, Any]]:
    """Rows of conversations.jsonl: two turns, of four replies and of two; reply 1 is chosen."""
    return [
        {
            "conversation_id": f"c{c}", "user_id": f"user{c % people}", "conversation_type": "unguided",
            "opening_prompt": f"Question {c} 0?", "conversation_turns": 2,
            "conversation_history": prism_turn(c, 0, 4) + prism_turn(c, 1, 2),
        }
        for c in range(talks)
    ]  # fmt: skip


def prism_turn(talk: int, turn: int, replies: int) -> list[dict[str, Any]]:
    """What the person said, and the replies to it."""
    return [
        {"turn": turn, "role": "user", "content": f"Question {talk} {turn}?"},
        *(
            {"turn": turn, "role": "model", "content": f"Reply {talk} {turn} {k}", "score": 10 * k + 5,
             "if_chosen": k == 1, "within_turn_id": k, "model_name": "m", "model_provider": "p"}
            for k in range(replies)
        ),
    ]  # fmt: skip


def write_prism(folder: Path, people: list[dict[str, Any]], talks: list[Any]) -> Path:
    """The folder that `--source` names."""
    folder.mkdir(exist_ok=True)
    for name, rows in (("survey", people), ("conversations", talks)):
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def community_rows(conversations: int = 100, people: int = 40) -> list[dict[str, str]]:
    """Two turns of four replies, every reply with the marker at its end."""
    rows = []
    for c in range(conversations):
        row = {"conversation_id": f"c{c}", "annotator_id": f"a{c % people}", "assigned_lang": "en"}
        row |= {"annotator_age": "18-34", "annotator_gender": "female"}
        row["annotator_country"] = "united states" if c % people % 2 else "india"
        for number, turn in enumerate(TURNS[:2], 1):
            row[f"{turn}_turn_prompt"] = f"Prompt {c} {number}"
            for letter in LETTERS:
                row[f"{turn}_turn_response_{letter}"] = f"Reply {c} {number} {letter}<|end_of_text|>"
            row[f"{turn}_turn_preferred_response"] = f"response_{LETTERS[c % 4]}"
            row[f"{turn}_turn_feedback"] = "good"
        rows.append(row)
    return rows


def write_community(path: Path, rows: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """The CSV with all columns of the data set."""
    names = ["conversation_id", "annotator_id", "assigned_lang", *WHO, "annotator_ethnicity"]
    names += ["is_pregenerated_first_prompt", "in_balanced_subset", "in_balanced_subset_10"]
    for turn in TURNS:
        names += [f"{turn}_turn_prompt", *(f"{turn}_turn_response_{letter}" for letter in LETTERS)]
        names += [f"{turn}_turn_preferred_response", f"{turn}_turn_feedback"]
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, names, restval="", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path
