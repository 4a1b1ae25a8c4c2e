"""Data in GlobalOpinionQA's form: countries whose made-up shares differ in one direction on every question."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

COUNTRIES = ("Britain", "Egypt", "France", "Japan", "Mexico", "Nigeria", "S. Korea", "Peru")
SCALE = ["Very good", "Somewhat good", "Somewhat bad", "Very bad", "DK/Refused"]
NAMES = ["Schools", "Roads", "Hospitals"]
TOPICS = (
    "the economy", "public schools", "the national press", "the courts", "relations with neighbours", "police work",
    "the railways", "drinking water", "local government", "health care", "pensions", "the army", "public parks",
)  # fmt: skip


def write_opinions(path: Path, questions: int = 40, countries: tuple[str, ...] = COUNTRIES, seed: int = 0) -> Path:
    """A CSV of `questions` questions, of which every fourth has unordered options."""
    rng = np.random.default_rng(seed)
    lean = np.linspace(-1.2, 1.2, len(countries))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "selections", "options", "source"])
        for number in range(questions):
            named = number % 4 == 0
            options = NAMES if named else SCALE
            direction = np.linspace(1, -1, len(options)) if not named else rng.normal(size=len(options))
            shares = {}
            for country, place in zip(countries, lean, strict=True):
                weight = np.exp(place * direction + 0.2 * rng.normal(size=len(options)))
                shares[country] = (weight / weight.sum()).round(6).tolist()
            topic = TOPICS[number % len(TOPICS)]
            text = (
                f"Which of these should get more money, year {number}?" if named
                else f"Thinking of the year {1980 + number}, how good or bad would you say is the state of {topic}?"
            )  # fmt: skip
            writer.writerow([text, f"defaultdict(<class 'list'>, {shares!r})", repr(options), "GAS"])
    return path
