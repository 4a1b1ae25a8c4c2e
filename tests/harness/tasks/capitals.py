"""A small capability task without any hub: capitals, by letter."""

from __future__ import annotations

from typing import Any

from datasets import Dataset

ROWS = (("France", ("Paris", "Rome")), ("Italy", ("Madrid", "Rome")), ("Japan", ("Tokyo", "Oslo")))


def documents(**_: Any) -> dict[str, Dataset]:
    rows = [
        {
            "text": f"What is the capital of {country}?\nA. {a}\nB. {b}\nAnswer with one letter.",
            "answer": (b == "Rome") * 1,
        }
        for country, (a, b) in ROWS
    ]
    return {"test": Dataset.from_list(rows)}
