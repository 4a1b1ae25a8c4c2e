"""Survey files with one row a respondent, and their questionnaires."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.recipes import strict_yaml

COLUMNS: dict[str, dict[str, Any]] = {
    "id": {"role": "person"},
    "w": {"role": "weight"},
    "strat": {"role": "stratum"},
    "psu": {"role": "unit"},
    "land": {"role": "profile", "field": "country", "source": "country_code"},
    "gender": {"role": "profile", "field": "sex", "options": {1: "Male", 2: "Female"}, "no_answer": {9: "Refused"}},
    "trust": {
        "role": "item", "text": "Can people be trusted?", "options": {1: "Yes", 2: "No"},
        "no_answer": {8: "Don't know"},
    },
    "warm": {"role": "item", "text": "How warm do you feel?", "bins": [0, 50, 100], "ordinal": True},
}  # fmt: skip


def respondents(count: int = 120, seed: int = 0) -> pd.DataFrame:
    """So many made-up people from two countries, with a weight, strata of two units, and some gaps."""
    rng = np.random.default_rng(seed)
    number = np.arange(count)
    return pd.DataFrame(
        {
            "id": number + 1,
            "w": rng.gamma(4, 0.25, count).round(3),
            "strat": number % 5,
            "psu": number % 10,
            "land": np.where(number % 2, "NO", "JP"),
            "gender": rng.choice([1, 2, 9], count, p=[0.5, 0.4, 0.1]),
            "trust": rng.choice([1.0, 2.0, 8.0, np.nan], count, p=[0.5, 0.3, 0.1, 0.1]),
            "warm": rng.choice([0, 49, 50, 100, 998], count),
        }
    )


def write_questionnaire(folder: Path, columns: dict[str, Any] | None = None, **whole: Any) -> Path:
    """A questionnaire's file; columns: in the place of `COLUMNS`."""
    path = folder / "questionnaire.yaml"
    path.write_text(strict_yaml.dump({**whole, "columns": columns or COLUMNS}))
    return path


def build_survey(
    folder: Path, table: pd.DataFrame, columns: dict[str, Any] | None = None, whole: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Path, dict[str, Any]]:  # fmt: skip
    """The folder that is built of a table and a questionnaire, and its card."""
    source = folder / "survey.csv"
    table.to_csv(source, index=False)
    questionnaire = write_questionnaire(folder, columns, **(whole or {}))
    output = folder / "built"
    return output, build("own", source, output, Options(questionnaire=questionnaire, **options))
