"""PRISM and Community Alignment in their own form: triples with the chosen replies as history, counted to the turn."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from datasets import load_from_disk

from cuma.data.base import Options
from cuma.data.build import build

COUNTRIES = ("Japan", "Peru", "Kenya")
WHO = ("annotator_age", "annotator_gender", "annotator_country", "annotator_education_level", "annotator_political")


def prism(folder: Path) -> Path:
    """60 people, 120 conversations of two turns; conversation 5 has a sentinel, conversation 7 two winners a turn."""
    folder.mkdir()
    hidden = {"self_described": "secret", "categorised": "Prefer not to say", "simplified": "Prefer not to say"}
    people = [
        {
            "user_id": f"user{u}", "age": "18-24 years old", "gender": "Female" if u % 2 else "Prefer not to say",
            "religion": {**hidden, "categorised": "Christian"}, "ethnicity": hidden, "survey_only": False,
            "location": {"birth_country": COUNTRIES[u % 3], "reside_country": COUNTRIES[u % 3]},
        }
        for u in range(60)
    ]  # fmt: skip
    talks = []
    for c in range(120):
        history: list[dict[str, Any]] = []
        for turn, replies in ((0, 4), (1, 2)):
            history.append({"turn": turn, "role": "user", "content": f"Question {c} {turn}?"})
            for k in range(replies):
                said = "EMPTY STRING" if (c, turn, k) == (5, 0, 2) else f"Reply {c} {turn} {k}"
                won = k == 1 or (c == 7 and k == 0)
                history.append({"turn": turn, "role": "model", "content": said, "score": 10 * k + 5, "if_chosen": won,
                                "within_turn_id": k, "model_name": "m", "model_provider": "p"})  # fmt: skip
        talks.append(
            {
                "conversation_id": f"c{c}",
                "user_id": f"user{c % 60}",
                "conversation_type": "unguided",
                "opening_prompt": f"Question {c} 0?",
                "conversation_turns": 2,
                "conversation_history": history,
            }
        )
    for name, rows in (("survey", people), ("conversations", talks)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def community(path: Path) -> Path:
    """40 people, 100 conversations of two turns with four replies, all with the marker at their end."""
    names = ["conversation_id", "annotator_id", "assigned_lang", *WHO, "annotator_ethnicity"]
    for turn in ("first", "second"):
        replies = [f"{turn}_turn_response_{letter}" for letter in "abcd"]
        names += [f"{turn}_turn_prompt", *replies, f"{turn}_turn_preferred_response", f"{turn}_turn_feedback"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for c in range(100):
            row = [f"c{c}", f"a{c % 40}", "en", "18-34", "female", "united states" if c % 2 else "india", "", "", ""]
            for turn in (1, 2):
                replies = [f"Reply {c} {turn} {letter}<|end_of_text|>" for letter in "abcd"]
                row += [f"Prompt {c} {turn}", *replies, f"response_{'abcd'[c % 4]}", "good"]
            writer.writerow(row)
    return path


def splits_share(folder: Path, task: str, column: str) -> bool:
    found = [set(rows[column]) for rows in load_from_disk(folder / task).values()]
    return sum(map(len, found)) != len(set().union(*found))


def test_prism_is_counted_to_the_turn(tmp_path: Path) -> None:
    card = build("prism", prism(tmp_path / "prism"), tmp_path / "built", Options())
    assert (card["rows_read"], card["rows_kept"]) == (180, 180)
    assert card["dropped"] == {"reply: empty, or EMPTY STRING": 1}
    assert card["noted"] == {"turn with two winners, the one with the higher score taken": 2}
    assert sum(of["answers"] for of in card["splits"].values()) == 120 * (3 + 1) - 1
    assert not splits_share(tmp_path / "built", "dpo", "person_id")
    assert not splits_share(tmp_path / "built", "dpo", "conversation_id")
    for rows in load_from_disk(tmp_path / "built" / "dpo").values():
        for row in rows:
            number = row["conversation_id"].removeprefix("c")
            assert row["chosen"] == [{"role": "assistant", "content": f"Reply {number} {row['turn']} 1"}]
            asked = [{"role": "user", "content": f"Question {number} {turn}?"} for turn in range(row["turn"] + 1)]
            assert row["prompt"][::2] == asked
            assert row["prompt"][1::2] == [{"role": "assistant", "content": f"Reply {number} 0 1"}][: row["turn"]]
            assert row["profile"]["ethnicity"] is None
            assert row["profile"]["country"] == row["group"]
            assert "Prefer" not in row["profile_text"]
            assert "secret" not in json.dumps(row)


def test_community_asks_which_of_four_and_keeps_a_country_out(tmp_path: Path) -> None:
    options = Options(holdout=(("country", "India"),))
    card = build("community", community(tmp_path / "ca.csv"), tmp_path / "built", options)
    assert card["rows_kept"] == 100
    assert card["noted"] == {"text that ended in <|end_of_text|>, trimmed": 800}
    assert {split: sum(card["tasks"][task][split] for task in ("sft", "dpo")) for split in card["splits"]}[
        "unseen"
    ] == 400
    choices = load_from_disk(tmp_path / "built" / "discrimination")
    assert set(choices["unseen"]["group"]) == {"India"}
    assert set(choices["train"]["group"]) == {"United States"}
    for row in choices["train"]:
        number, turn = row["conversation_id"].removeprefix("c"), row["turn"] + 1
        assert row["options"] == [f"Reply {number} {turn} {letter}" for letter in "abcd"]
        assert row["answer"] == int(number) % 4
    for task in ("sft", "dpo", "discrimination"):
        assert not splits_share(tmp_path / "built", task, "person_id")
