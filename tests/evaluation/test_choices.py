"""Which reply people prefer, asked of a model on data in Community Alignment's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.preferences import reordered
from cuma.data.corpus import Corpus
from cuma.data.surveys.prompts import letter_orders
from cuma.runs.folder import Run, read_json
from helpers.make_preferences import community_rows, write_community
from helpers.paper import write_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred and fifty people, a conversation each; the few who live in India are held out."""
    home = tmp_path_factory.mktemp("community")
    rows = community_rows(150, 150)
    for row in rows[6:]:
        row["annotator_country"] = "united states"
    build("community", write_community(home / "ca.csv", rows), home / "built", Options(holdout=(("country", "India"),)))
    return home / "built"


def test_letters_change_places_and_nothing_else(folder: Path) -> None:
    splits = Corpus.open(folder).rows("discrimination")
    assert splits is not None
    for row in splits["train"].select(range(5)):
        for order in letter_orders(4):
            shown = reordered(row["prompt"], row["options"], order)
            assert shown[:-1] == row["prompt"][:-1]
            lines = shown[-1]["content"].split("\n\n")
            assert [line for line in lines if line[:3] in ("A. ", "B. ", "C. ", "D. ")] == [
                f"{letter}. {row['options'][option]}" for letter, option in zip("ABCD", order, strict=True)
            ]
            assert sorted(shown[-1]["content"]) == sorted(row["prompt"][-1]["content"])
        assert reordered(row["prompt"], row["options"], range(4)) == row["prompt"]


def test_a_model_is_asked_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    words = [
        "evaluate",
        str(write_base(tmp_path / "base")),
        "--benchmark",
        str(folder),
        "--output-dir",
        str(tmp_path / "run"),
    ]
    other = Run.create(tmp_path / "other", "name: other\n")
    for measure in (["--collapse"], ["--against", str(other.path)], ["--topology"]):  # before any answering
        refused = CliRunner().invoke(app, [*words, *measure])
        assert refused.exit_code == 2
        assert f"{measure[0]} needs survey answers" in " ".join(refused.output.split())
        assert not list((tmp_path / "run").glob("evaluations/*"))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    shown = " ".join(done.output.split())
    assert "Seen groups: the preferred one of 4 replies named in" in shown
    assert "Unseen groups: fewer than 11 people, too few to show." in shown
    (evaluation,) = (tmp_path / "run" / "evaluations").iterdir()
    found, table = read_json(evaluation / "discrimination.json"), pd.read_parquet(evaluation / "discrimination.parquet")
    splits = Corpus.open(folder).rows("discrimination")
    assert splits is not None
    assert found["seen"]["n"]["choices"] == len(splits["test"]) == table["seen"].sum()
    assert found["unseen"]["n"]["choices"] == len(splits["unseen"])
    assert table["answer"].tolist() == [*splits["test"]["answer"], *splits["unseen"]["answer"]]
    assert not set(table["person"]) & set(splits["test"]["person_id"])  # a running number
    said = np.stack(table["probabilities"].to_list())
    np.testing.assert_allclose(said.sum(1), 1)
    rows = table["seen"].to_numpy()
    right = (said.argmax(1) == table["answer"])[rows].mean()
    assert found["seen"]["accuracy"]["value"] == pytest.approx(right)
    before = (evaluation / "discrimination.json").stat().st_mtime_ns
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (evaluation / "discrimination.json").stat().st_mtime_ns == before  # a finished one is left alone
    assert Run.open(tmp_path / "run").info["kind"] == "measured"
