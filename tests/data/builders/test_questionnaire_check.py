"""What `cuma data check` shows of a survey file: weighted shares, and no figure of a few people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cuma.data.builders.own_survey import read_survey
from cuma.data.builders.questionnaire_check import survey_page, survey_summary
from helpers.surveys import respondents, write_questionnaire


def checked(folder: Path, table: Any) -> tuple[dict[str, Any], str]:
    """The findings, and the page."""
    table.to_csv(folder / "s.csv", index=False)
    survey = read_survey(folder / "s.csv", write_questionnaire(folder))
    console = Console(width=200, record=True, file=(folder / "page.txt").open("w"))
    console.print(survey_page(folder / "s.csv", survey))
    return survey_summary(survey), console.export_text()


def test_shares_are_weighted_and_reasons_are_counted(tmp_path: Path) -> None:
    table = respondents()
    found, _ = checked(tmp_path, table)
    item = next(item for item in found["items"] if item["question_id"] == "trust")
    weights = [table["w"][table["trust"] == code].sum() for code in (1, 2)]
    assert item["shares"] == pytest.approx(np.array(weights) / sum(weights))
    assert item["no_answer"] == {"empty cell": table["trust"].isna().sum(),
                                 "no answer, says the questionnaire": (table["trust"] == 8).sum()}  # fmt: skip
    assert found["profile_fields"]["sex"]["absent"] == (table["gender"] == 9).sum()
    assert found["design"] == ["weight", "stratum", "unit"]


def test_shares_of_a_few_people_are_not_shown_nor_given_away(tmp_path: Path) -> None:
    table = respondents()
    table["trust"] = [1.0] * 117 + [2.0] * 3
    found, page = checked(tmp_path, table)
    assert found["items"][0]["shares"] == [None, None]
    assert "No few" in page
    assert "97." not in page
