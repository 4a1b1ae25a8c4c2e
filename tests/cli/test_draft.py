"""`cuma data draft`, `check` and `build` of a survey file, as somebody types them."""

from __future__ import annotations

from pathlib import Path

import pyreadstat
import pytest
from typer.testing import CliRunner

from cuma.cli import app
from helpers.surveys import respondents


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    path = tmp_path / "survey.sav"
    values = {"trust": {1: "Yes", 2: "No", 8: "Don't know"}, "gender": {1: "1. Male", 2: "2. Female", 9: "9. Refused"}}
    table = respondents().rename(columns={"land": "country"}).drop(columns="warm")
    pyreadstat.write_sav(table, path, column_labels={"trust": "Can people be trusted?", "w": "Survey weight"},
                         variable_value_labels=values)  # fmt: skip
    return path


def run(*words: str | Path) -> str:
    """What a command prints; it has to succeed."""
    result = CliRunner().invoke(app, ["data", *map(str, words)], catch_exceptions=False, env={"COLUMNS": "240"})
    assert result.exit_code == 0, result.output
    return result.output


def test_from_a_file_to_a_benchmark_in_the_commands_that_each_step_names(survey: Path, tmp_path: Path) -> None:
    questionnaire, built = tmp_path / "q.yaml", tmp_path / "built"
    told = run("draft", survey, "--output", questionnaire)
    assert f"cuma data check {survey} --questionnaire {questionnaire}" in told
    page = run("check", survey, "--questionnaire", questionnaire)
    assert "Can people be trusted?" in page
    assert "weight, stratum, unit" in " ".join(page.split())
    assert f"cuma data build own --source {survey} --questionnaire {questionnaire} --output" in page
    told = run("build", "own", "--source", survey, "--questionnaire", questionnaire, "--output", built, "--all-test")
    answers = respondents()["trust"].isin([1, 2]).sum()
    assert f"{answers} people, " in told
    assert "Grouped by country" in told
    assert "2. Female" not in (built / "card.json").read_text()
    assert "sparsity" in told


def test_a_questionnaire_that_is_there_is_never_replaced_unsaid(survey: Path, tmp_path: Path) -> None:
    questionnaire = tmp_path / "q.yaml"
    questionnaire.write_text("mine")
    result = CliRunner().invoke(app, ["data", "draft", str(survey), "--output", str(questionnaire)])
    assert result.exit_code == 2
    assert questionnaire.read_text() == "mine"
    run("draft", survey, "--output", questionnaire, "--overwrite")
    assert "columns:" in questionnaire.read_text()


@pytest.mark.parametrize("option", ["--all-test", "--questionnaire=q.yaml"])
def test_options_of_own_data_are_refused_for_others(option: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["data", "build", "gss", "--output", str(tmp_path / "built"), option])
    assert result.exit_code == 2
    assert not (tmp_path / "built").exists()
