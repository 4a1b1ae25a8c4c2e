"""`cuma predict` at the command line: what cannot work is told at once, with the way out."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cuma.cli import EXIT_ERROR, app
from helpers.folders import base_folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poll")
    base_folder(folder / "base")
    (folder / "questions.csv").write_text("question_id,question,options\ntea,Do you like tea?,Yes|No\n")
    (folder / "people.csv").write_text("country\nWonderland\nPeru\n")
    (folder / "cells.csv").write_text("country,count\nPeru,300\nJapan,700\n")
    (folder / "there.csv").write_text("mine\n")
    (folder / "runs").mkdir()
    rows = [("Peru", "Yes"), ("Japan", "No"), ("Peru", "No"), ("Japan", "Yes")] * 10
    table = pd.DataFrame(rows, columns=["country", "answer"])
    table = table.assign(question_id="tea", question="Do you like tea?", options="Yes|No", person_id=range(40))
    table.to_csv(folder / "sample.csv", index=False)
    return folder


def run(folder: Path, *words: str, target: str = "base", output: str = "out.csv") -> tuple[int, str]:
    given = [str(folder / word) if (folder / word).exists() else word for word in words]
    asked = ["--questions", str(folder / "questions.csv")] if "--questions" not in words else []
    done = CliRunner().invoke(app, ["predict", str(folder / target), *asked, *given, "--output", str(folder / output)])
    return done.exit_code, " ".join((done.output + done.stderr).split())


@pytest.mark.parametrize(
    ("words", "more", "message"),
    [
        ([], {}, "give one of the two: --people or --population"),
        (["--people", "people.csv", "--population", "cells.csv"], {}, "give one of the two"),
        (["--people", "people.csv"], {"output": "out.txt"}, "ends in '.txt'; expected .csv, .parquet, .xlsx"),
        (["--people", "people.csv"], {"output": "there.csv"}, "is there already, and is not replaced"),
        (["--people", "peple.csv"], {}, "peple.csv does not exist"),
        (["--people", "people.csv", "--by", "contry"], {}, "Did you mean 'country'?"),
        (["--people", "people.csv"], {"target": "runs/mine"}, "is not a run: there is no run.json in it"),
        (["--people", "people.csv", "--sample", "people.csv"], {}, "`cuma data build own` makes a folder of it"),
        (["--questions", "people.csv", "--people", "people.csv"], {}, "lacks the column 'question'"),
    ],
)
def test_what_cannot_work_is_told_at_once(files: Path, words: list[str], more: dict[str, str], message: str) -> None:
    code, shown = run(files, *words, **more)
    assert code == EXIT_ERROR, shown
    assert message in shown
    assert "Wonderland" not in shown


def test_a_population_with_a_sample_is_estimated_in_three_ways_and_explained(files: Path) -> None:
    words = ["--population", "cells.csv", "--sample", "sample.csv", "--by", "country", "--device", "cpu"]
    code, shown = run(files, *words, output="out.xlsx")
    assert code == 0, shown
    table = pd.read_excel(files / "out-population.xlsx")
    assert table["n"].tolist() == [40, 40, 20, 20, 20, 20]
    assert table["value"].fillna("").tolist() == ["", "", "Japan", "Japan", "Peru", "Peru"]
    assert "of 1 question: 40 sampled people with it are worth about" in shown
    cells = pd.read_excel(files / "out.xlsx")
    assert cells.columns.tolist() == ["cell", "share", "question_id", "p_1", "p_2", "option_mass"]
    assert cells["share"].tolist() == [0.3, 0.7]
    assert not list(files.glob(".out*"))
