"""A built folder as a recipe's benchmark: trained on and evaluated from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import TASKS, Built, Ledger, Options, who
from cuma.data.builders.build import build
from cuma.data.builders.built_folder import write
from cuma.data.corpus import Corpus
from cuma.data.sparsity import read_answers
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile
from cuma.runs.folder import Run

COUNTRIES = ("Japan", "Peru", "Kenya", "India")
SMALL = [
    "adapter.last_layers=1",
    "training.max_steps=2",
    "training.per_device_train_batch_size=4",
    "training.curve_steps=[]",
]
SMALL += ["backbone.keep_frozen_layers=false", "training.warmup_steps=0", "training.logging_steps=1"]


def built(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    source = folder / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    build("own", source, folder / "built", Options(**options))
    return folder / "built"


def survey_rows() -> list[dict[str, Any]]:
    return [
        {
            "question_id": f"q{number}",
            "question": f"Is {number} a good number?",
            "options": ["Yes", "No"],
            "answer": (person + number) % 2,
            "person_id": f"p{person}",
            "profile": {"country": COUNTRIES[person % 4], "age": 20 + person},
            "weight": 1.5,
        }
        for person in range(60)
        for number in range(2)
    ]


def conversation_rows() -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {i}?", "completion": f"Answer {i}.", "profile": {"country": COUNTRIES[i % 4], "age": i}}
        for i in range(40)
    ]


def run_cli(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize("recipe", ["default", "quickstart/gss/cuma"])
def test_a_survey_of_ones_own_is_trained_on_and_evaluated(tmp_path: Path, recipe: str) -> None:
    folder, run = built(tmp_path, survey_rows(), holdout=(("country", "Peru"),)), tmp_path / "run"
    words = [recipe, f"data.benchmark={folder}", *SMALL, "--output-dir", str(run)]
    assert (done := run_cli("train", *words)).exit_code == 0, done.output
    assert (done := run_cli("evaluate", str(run))).exit_code == 0, done.output
    assert "Seen groups: fewer than 11 people, too few to show." in " ".join(done.output.split())
    assert "Unseen groups" in done.output
    assert "│ Seen" not in done.output
    (evaluation,) = Run.open(run).evaluations()
    scores = json.loads((evaluation / "scores.json").read_text())
    assert [question["id"] for question in scores["questions"]] == ["q0", "q1"]
    assert {"seen", "unseen"} <= scores.keys()
    assert (done := run_cli("report", str(run))).exit_code == 0, done.output


def test_fields_that_no_group_has_in_common_are_refused_with_a_way_out(tmp_path: Path) -> None:
    folder = built(tmp_path, [{**row, "group": "all"} for row in survey_rows()])
    done = run_cli("train", "default", f"data.benchmark={folder}", *SMALL, "--output-dir", str(tmp_path / "run"))
    assert done.exit_code == 2
    assert "encoder.fields=false" in " ".join(done.output.split())


@pytest.mark.parametrize("where", ["router", "both"])
def test_conversations_of_ones_own_are_trained_on(tmp_path: Path, where: str) -> None:
    folder, run = built(tmp_path, conversation_rows()), tmp_path / "run"
    words = ["quickstart/gss/cuma", f"data.benchmark={folder}", f"data.profile_in={where}", *SMALL]
    words += ["training.profile_dropout=0.3", "--output-dir", str(run)]
    assert (done := run_cli("train", *words)).exit_code == 0, done.output
    losses = [row["loss"] for row in Run.open(run).stages()[0].read_log() if "loss" in row]
    assert len(losses) == 2
    done = run_cli("evaluate", str(run))
    assert done.exit_code == 0, done.output
    assert len(list(run.glob("evaluations/*/conversations.json"))) == 1


def test_a_survey_read_again_is_the_file(tmp_path: Path) -> None:
    survey = Corpus.open(built(tmp_path, survey_rows(), holdout=(("country", "Peru"),))).survey()
    assert {group.id: group.role for group in survey.groups}["Peru"] == "test"
    assert all(set(group.profile.fields) == {"country"} for group in survey.groups)
    assert len(survey.people) == 60
    assert survey.weighted
    answers = survey.people[["q0", "q1"]].to_numpy()
    assert (answers[:, 0] + answers[:, 1] == 1).all()
    counts = survey.counts("test", ["seen", "test"]).query("group == 'Peru'")
    assert counts["counts"].map(sum).tolist() == [15, 15]


def test_held_out_by_another_field_a_group_is_on_both_sides(tmp_path: Path) -> None:
    rows = [{**row, "group": "all"} for row in survey_rows()]
    survey = Corpus.open(built(tmp_path, rows, holdout=(("country", "Peru"),))).survey()
    assert {group.id: group.role for group in survey.groups} == {"all": "seen", "all (held out)": "test"}


def test_folders_that_are_no_benchmark_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="cuma data build"):
        Corpus.open(tmp_path)
    done = run_cli("train", "quickstart/gss/cuma", f"data.benchmark={tmp_path}/none")
    assert done.exit_code == 2
    assert "does not exist" in done.output


def test_a_question_asked_in_two_ways_is_refused(tmp_path: Path) -> None:
    rows = [
        {"question_id": "q", "question": question, "options": ["Yes", "No"], "answer": 0, "ordinal": False,
         **who(Profile(country="Peru"), person, "Peru")}
        for person, question in (("a", "Is it?"), ("b", "Is it so?"))
    ]  # fmt: skip
    task = {"survey": {"train": Dataset.from_list(rows, features=TASKS["survey"])}}
    write(Built("own", task, Ledger(), (), "", ""), tmp_path / "built", Options())
    for read in (Corpus.open(tmp_path / "built").survey, lambda: read_answers(tmp_path / "built")):
        with pytest.raises(BenchmarkError, match="in two ways"):
            read()


def test_the_first_answer_counts_for_every_reader_and_nobody_without_an_id_is_lost(tmp_path: Path) -> None:
    rows = [
        {"question_id": "q", "question": "Is it?", "options": ["Yes", "No"], "answer": answer, "ordinal": False,
         **who(Profile(country=country), person, country)}
        for person, country, answer in (
            ("a", "Peru", 0), ("a", "Kenya", 1), (None, "Peru", 1), (None, "Kenya", 1), (None, "Kenya", 0))
    ]  # fmt: skip
    task = {"survey": {"train": Dataset.from_list(rows, features=TASKS["survey"])}}
    write(Built("own", task, Ledger(), (), "", ""), tmp_path / "built", Options())
    survey, answers = Corpus.open(tmp_path / "built").survey(), read_answers(tmp_path / "built")
    trained = sorted(zip(survey.people["group"], survey.people["q"], strict=True))
    shown = sorted((answers.groups[g], code) for g, code in zip(answers.group, answers.coded[:, 0], strict=True))
    assert trained == shown == [("Kenya", 0), ("Kenya", 1), ("Peru", 0), ("Peru", 1)]
