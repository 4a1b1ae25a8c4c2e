"""The survey's design from a built folder to the scores, the difference between runs, and the page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.corpus import Corpus
from cuma.data.sparsity import read_answers
from cuma.errors import BenchmarkError
from cuma.metrics import break_down
from cuma.runs.design_file import read_design
from cuma.runs.evidence import read_evidence
from cuma.runs.group_answers import true_answers
from helpers.folders import base_folder
from helpers.replicate_weights import half_samples

COUNTRIES = ("Japan", "Peru", "Kenya", "India")
PEOPLE, UNITS = 400, 40
FACTS = {"strata": True, "units": True, "weights": "wt", "replicates": None, "source": "wave.sav"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey of units whose people answer alike; weights, and no design."""
    folder, rng = tmp_path_factory.mktemp("survey"), np.random.default_rng(0)
    lean = rng.normal(scale=1.5, size=UNITS)
    rows = [
        {
            "question_id": f"q{number}",
            "question": f"Is {number} a good number?",
            "options": ["Yes", "No"],
            "answer": int(rng.normal() + lean[person % UNITS] > 0),
            "person_id": f"p{person}",
            "profile": {"country": COUNTRIES[person // UNITS % 4]},
            "weight": float(1 + person % 3),
        }
        for person in range(PEOPLE)
        for number in range(2)
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build("own", folder / "mine.jsonl", folder / "built", Options(holdout=(("country", "Peru"),)))
    return folder / "built"


def labels(people: list[str], **more: Any) -> pd.DataFrame:
    unit = [int(person[1:]) % UNITS for person in people]
    table = {"person_id": people, "stratum": [f"s{u // 2}" for u in unit], "unit": [str(u % 2) for u in unit]}
    return pd.DataFrame({**table, **more})


def with_design(plain: Path, folder: Path, table: pd.DataFrame | None = None, **facts: Any) -> Path:
    """A copy with design/SPLIT.parquet: everybody's rows dealt to two splits."""
    shutil.copytree(plain, folder)
    everybody = labels([f"p{person}" for person in range(PEOPLE)]) if table is None else table
    (folder / "design").mkdir()
    for split, rows in (("train", everybody[::2]), ("test", everybody[1::2])):
        rows.to_parquet(folder / "design" / f"{split}.parquet", index=False)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"design": {**FACTS, **facts}}))
    return folder


def test_strata_and_units_become_running_numbers(plain: Path, tmp_path: Path) -> None:
    assert Corpus.open(plain).survey().design is None
    survey = Corpus.open(with_design(plain, tmp_path / "built")).survey()
    design = survey.design
    assert design is not None
    assert design.facts() == {
        "strata": 20, "units": 40, "lonely_strata": 0, "weights": "wt", "replicates": None, "people_without": 0,
    }  # fmt: skip
    assert design.person.tolist() == survey.people["person"].tolist()
    assert len(set(zip(design.stratum[design.unit], design.unit, strict=True))) == 40


def test_only_weights_are_no_design(plain: Path, tmp_path: Path) -> None:
    folder = with_design(plain, tmp_path / "built", strata=False, units=False)
    assert Corpus.open(folder).survey().design is None


def test_who_has_no_stratum_and_no_unit_is_counted(plain: Path, tmp_path: Path) -> None:
    table = labels([f"p{person}" for person in range(PEOPLE - 30)])
    table.loc[:4, ["stratum", "unit"]] = None
    design = Corpus.open(with_design(plain, tmp_path / "built", table)).survey().design
    assert design is not None
    assert design.facts()["people_without"] == 35
    assert design.facts()["units"] == 40 + 35


def test_replicate_weights_are_read_as_times(plain: Path, tmp_path: Path) -> None:
    people = [f"p{person}" for person in range(PEOPLE)]
    unit = np.arange(PEOPLE) % UNITS
    times = half_samples(unit // 2, unit % 2, 0.5)
    weight = 1.0 + np.arange(PEOPLE) % 3
    table = labels(people, replicate_weights=list(times * weight[:, None]))
    told = {"kind": "fay", "fay": 0.5, "count": times.shape[1]}
    folder = with_design(plain, tmp_path / "built", table, replicates=told)
    design = Corpus.open(folder).survey().design
    assert design is not None
    assert design.replicates is not None
    assert design.facts()["replicates"] == {"kind": "fay", "count": times.shape[1]}
    assert set(np.unique(design.replicates.times.round(9))) == {0.5, 1.5}
    np.testing.assert_allclose(design.replicates.coefficients, 4 / times.shape[1])


def test_the_comparison_of_groups_reads_the_same_design(plain: Path, tmp_path: Path) -> None:
    folder = with_design(plain, tmp_path / "built")
    answers, survey = read_answers(folder), Corpus.open(folder).survey()
    assert answers.design is not None
    assert survey.design is not None
    assert answers.design.facts() == survey.design.facts()
    assert sorted(np.bincount(answers.design.unit)) == sorted(np.bincount(survey.design.unit))
    alike = [len(set(map(tuple, answers.coded[answers.design.unit == unit]))) for unit in range(UNITS)]
    assert np.mean(alike) < 2.9  # of four pairs of answers: a unit's people are alike
    assert "drawn together count" in run_cli("data", "sparsity", folder) + (folder / "sparsity.html").read_text()


@pytest.mark.parametrize(
    ("change", "facts", "words"),
    [
        (lambda t: t.drop(columns="unit"), {}, r"lacks the columns \['unit'\]"),
        (lambda t: t.assign(person_id="x" + t["person_id"]), {}, "names none of the people"),
        (lambda t: t.assign(unit="1", stratum="1"), {}, "1 sampling unit"),
        (lambda t: t, {"replicates": {"kind": "brr", "fay": 0, "count": 4}}, "400 of 400 people have no replicate"),
        (
            lambda t: t.assign(replicate_weights=[[1.0, 2.0]] * PEOPLE),
            {"replicates": {"kind": "bootstap", "count": 2}},
            "Did you mean 'bootstrap'",
        ),
        (
            lambda t: t.assign(replicate_weights=[[1.0, -2.0]] * PEOPLE),
            {"replicates": {"kind": "brr", "count": 2}},
            "negative",
        ),
        (
            lambda t: t.assign(replicate_weights=[[1.0] * (2 + i % 2) for i in range(PEOPLE)]),
            {"replicates": {"kind": "brr", "count": 2}},
            "different numbers",
        ),
    ],
)
def test_a_damaged_design_is_named(plain: Path, tmp_path: Path, change: Any, facts: Any, words: str) -> None:
    table = change(labels([f"p{person}" for person in range(PEOPLE)]))
    folder = with_design(plain, tmp_path / "built", table, **facts)
    with pytest.raises(BenchmarkError, match=words):
        Corpus.open(folder).survey()


def test_a_missing_table_is_named(plain: Path, tmp_path: Path) -> None:
    folder = with_design(plain, tmp_path / "built")
    shutil.rmtree(folder / "design")
    with pytest.raises(BenchmarkError, match="should have the survey's design"):
        Corpus.open(folder).survey()


def run_cli(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_from_the_command_line_to_the_page(plain: Path, tmp_path: Path) -> None:
    folder, run = with_design(plain, tmp_path / "built"), tmp_path / "run"
    words = ("--benchmark", folder, "--prompting", "none", "--output-dir", run, "--collapse")
    output = run_cli("evaluate", base_folder(tmp_path / "base"), *words)
    (file,) = run.glob("evaluations/*/scores.json")
    scores, design = json.loads(file.read_text()), read_design(file.parent)
    assert design is not None
    assert design.facts() == scores["design"]
    predictions = pd.read_parquet(file.parent / "predictions.parquet")
    plainly = break_down(predictions, scores["questions"])["by_group"]["unseen"]["Peru"]["accuracy"]
    own = scores["by_group"]["unseen"]["Peru"]["accuracy"]
    assert own["value"] == plainly["value"]
    assert own["high"] - own["low"] > 1.1 * (plainly["high"] - plainly["low"])
    run_cli("report", run, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for text in (output, page):
        assert "40 sampling units in 20 strata, weights wt" in text
        assert f"design effect {scores['n']['unseen']['design_effect']['mean']:.2f} on average" in text
    assert "as many people as the survey’s design leaves" in page
    cells = true_answers(read_evidence([run]))
    peru = cells[cells["group"] == "Peru"].iloc[0]
    assert peru["worth"] < peru["n"]
    rows = predictions[(predictions["group"] == "Peru") & (predictions["question_id"] == peru["question_id"])]
    assert peru["shares"][1] == pytest.approx(np.average(rows["answer"], weights=rows["weight"]))
