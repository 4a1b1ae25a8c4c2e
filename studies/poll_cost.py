"""What `cuma predict` costs: 1,000 made-up people and 20 questions, for a run of the quickstart.

python studies/poll_cost.py FOLDER
cuma predict RUN --questions FOLDER/questions.csv --people FOLDER/people.csv --output FOLDER/answers.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from cuma.data.surveys.gss import ALL_QUESTIONS

FIELDS = {
    "ethnicity": ["White", "Black"],
    "sex": ["woman", "man"],
    "party": ["strong Democrat", "Democrat", "independent", "Republican", "strong Republican"],
    "education": ["no degree", "a high school diploma", "some college", "a college degree"],
    "church_activity": ["never", "sometimes", "at least monthly"],
    "age": [str(age) for age in range(18, 90)],
}
TOPICS = ("the economy", "crime", "schools", "health care", "the environment", "immigration", "taxes", "trade",
          "science", "the courts", "the army", "the press", "banks")  # fmt: skip
SCALE = "A great deal|Quite a lot|Not very much|None at all"


def people(number: int, seed: int = 0) -> pd.DataFrame:
    """So many people of different profiles."""
    rng = np.random.default_rng(seed)
    drawn = pd.DataFrame({field: rng.choice(values, 2 * number) for field, values in FIELDS.items()})
    return drawn.drop_duplicates().head(number)


def questions() -> pd.DataFrame:
    """gss's seven yes/no questions and thirteen of four options."""
    known = [(one.id, one.text, "|".join(one.options)) for one in ALL_QUESTIONS]
    trust = [(topic, f"How much do you trust what the government does about {topic}?", SCALE) for topic in TOPICS]
    return pd.DataFrame([*known, *trust], columns=["question_id", "question", "options"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    people(1000).to_csv(folder / "people.csv", index=False)
    questions().to_csv(folder / "questions.csv", index=False)


if __name__ == "__main__":
    main()
