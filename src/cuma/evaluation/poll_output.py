"""The tables that `cuma predict` writes: CSV, parquet or Excel, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.data.builders.poll_people import PollPeople
from cuma.data.surveys.survey import Question
from cuma.errors import RunError
from cuma.evaluation.poll import Expected, progress_folder
from cuma.models.hub import package_folder
from cuma.people.profiles import FIELDS
from cuma.runs.folder import replacing

WRITERS: dict[str, Callable[[pd.DataFrame, Any], None]] = {
    ".csv": lambda table, file: table.to_csv(file, index=False, lineterminator="\n"),
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
    ".xlsx": lambda table, file: table.to_excel(file, index=False, engine="openpyxl"),
}
EXCEL_ROWS = 2**20 - 1


def check_output(output: Path, rows: int) -> None:
    """Told before hours of work. rows: what will be written.

    Raises:
        RunError: it has another ending, is there already, or cannot hold so many rows.
    """
    if output.suffix.lower() not in WRITERS:
        raise RunError(f"--output {output} ends in {output.suffix or 'nothing'!r}; expected {', '.join(WRITERS)}.")
    if output.exists() and not progress_folder(output).exists():
        raise RunError(f"{output} is there already, and is not replaced. Choose another --output, or delete it.")
    if output.suffix.lower() == ".xlsx":
        if rows > EXCEL_ROWS:
            raise RunError(f"{rows:,} rows are more than Excel holds ({EXCEL_ROWS:,}). Write .csv or .parquet.")
        if package_folder("openpyxl") is None:
            raise RunError("To write Excel files openpyxl is needed: pip install 'cuma[surveys]', or write .csv.")


def population_file(output: Path) -> Path:
    """Where a population's estimates go, beside the answers: answers.csv → answers-population.csv."""
    return output.with_name(f"{output.stem}-population{output.suffix}")


def write_output(path: Path, table: pd.DataFrame) -> None:
    """Write a table in one step. Raises RunError."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        WRITERS[path.suffix.lower()](table, file)


def answers_table(
    questions: Sequence[Question], people: PollPeople, expected: Sequence[Expected], with_profile: bool
) -> pd.DataFrame:
    """A row for every person, or cell, and question: p_1, p_2 … are the probabilities of its options in their order,
    empty beyond its last. with_profile: a column for every field that somebody has."""
    widest = max(len(question.options) for question in questions)
    name, size = ("cell", "share") if people.known else ("person_id", "weight")
    who: dict[str, Any] = {name: people.ids}
    if people.known or np.ptp(people.weights) > 0:
        who[size] = people.weights if people.known else people.weights * len(people.weights)
    if with_profile:
        there = {field for profile in people.profiles for field in profile.fields}
        for field in (field for field in FIELDS if field in there):
            who[field] = [profile.fields.get(field) for profile in people.profiles]
    asked = len(people.ids)
    table = pd.DataFrame({key: np.repeat(np.array(values, dtype=object if isinstance(values, list | tuple) else None),
                                         len(questions)) for key, values in who.items()})  # fmt: skip
    table["question_id"] = np.tile(np.array([question.id for question in questions], dtype=object), asked)
    shares = np.full((asked, len(questions), widest), np.nan)
    for number, one in enumerate(expected):
        shares[:, number, : one.probabilities.shape[1]] = one.probabilities
    for option in range(widest):
        table[f"p_{option + 1}"] = shares[:, :, option].ravel()
    table["option_mass"] = np.stack([one.option_mass for one in expected], axis=1).ravel()
    return table
