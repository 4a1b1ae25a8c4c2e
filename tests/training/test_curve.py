"""`cuma train` measures the learning curve on validation answers, evenly over the corners, or says why it does not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.catalog import load_benchmark
from cuma.data.surveys.survey import Survey
from cuma.evaluation.curve import _curve_cells, _even, curve_point
from cuma.metrics.corners import ITEM_SEEN
from cuma.recipes.load import load_recipe
from cuma.runs.folder import Run, Stage
from cuma.training.progress import Stopwatch
from cuma.training.train import _measure

POINT = {"seen": {"soft_emd": 0.5, "spread": 0.1}}
SMALL = ("adapter.last_layers=1", "training.max_steps=1", "training.per_device_train_batch_size=2", "data.max_train=2")
RECIPE = load_recipe("default")


def test_the_verb_measures_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.evaluation.curve.curve_point", lambda *_: lambda model: POINT)
    words = ["train", "default", *SMALL, "training.lr_scheduler_type=constant", "training.curve_steps=[0, 1]"]
    done = CliRunner().invoke(app, [*words, "--output-dir", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    rows = Run.open(tmp_path / "run").stage("01-sft").read_log()
    assert [(row["step"], row["curve"]) for row in rows if "curve" in row] == [(0, POINT), (1, POINT)]
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


@pytest.fixture(scope="module")
def survey() -> Survey:
    """Two of the four items are held out."""
    whole = load_benchmark("gss")
    roles = ("seen", "validation", "test", "seen")
    return replace(whole, questions=tuple(replace(q, role=r) for q, r in zip(whole.questions, roles, strict=True)))


def test_no_curve_without_validation_answers(survey: Survey) -> None:
    people = survey.people
    nobody = replace(survey, people=people.assign(part=people["part"].replace("validation", "test")))
    materials: Any = SimpleNamespace(survey=nobody, corpus=None)
    assert curve_point(RECIPE, materials) is None


def test_a_curve_is_of_validation_answers_in_all_corners_alike(survey: Survey) -> None:
    role = {group.id: group.role for group in survey.groups}
    whole = _curve_cells(RECIPE, survey, None)
    assert {role[group] for group in whole["group"]} == {"seen", "validation"}
    assert set(whole["question_id"]) == {q.id for q in survey.questions if q.role != "test"}
    keys = _curve_cells(RECIPE, survey, 32).to_pandas()[["group", "question_id"]].drop_duplicates()
    validation = {q.id for q in survey.questions if q.role == "validation"}
    corners = Counter((q in validation, role[g] == "validation") for g, q in keys.itertuples(index=False))
    assert set(corners.values()) == {8}


def test_corners_with_few_cells_give_all_and_the_others_more() -> None:
    table = pd.DataFrame({"seen": [True] * 90 + [False] * 10, ITEM_SEEN: ([True] * 85 + [False] * 5) + [True] * 10})
    drawn = table.iloc[_even(table, 40, seed=0)]
    assert Counter(zip(drawn["seen"], drawn[ITEM_SEEN], strict=True)) == {
        (True, False): 5, (False, True): 10, (True, True): 25,
    }  # fmt: skip
    assert _even(table, None, seed=0) == list(range(100))


def test_training_time_goes_on_where_the_log_ends_and_stops_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("cuma.training.progress.time.monotonic", lambda: now[0])
    stage = Stage(tmp_path)
    stage.metrics.write_text(json.dumps({"step": 3, "seconds": 7.5}) + "\n", encoding="utf-8")
    watch = Stopwatch(stage)
    now[0] += 2
    with watch.stopped():
        now[0] += 50
    now[0] += 1
    assert watch.seconds == 10.5


@pytest.mark.parametrize(("number", "why"), [(1, "held out"), (2, "in one process")])
def test_a_curve_that_is_left_out_is_told_once(
    number: int, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    materials: Any = SimpleNamespace()
    for main in (True, False):
        world = SimpleNamespace(num_processes=number, is_main_process=main)
        monkeypatch.setattr("cuma.training.train.processes", lambda world=world: world)
        assert _measure(RECIPE, materials, lambda *_: None) is None
    assert [why in record.message for record in caplog.records] == [True]
