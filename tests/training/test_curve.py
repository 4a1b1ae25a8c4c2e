"""`cuma train` measures the learning curve that its recipe asks for, or says why it does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.catalog import load_benchmark
from cuma.recipes.load import load_recipe
from cuma.runs.folder import Run
from cuma.training.train import _measure

POINT = {"seen": {"soft_emd": 0.5, "spread": 0.1}}
SMALL = ("adapter.last_layers=1", "training.max_steps=1", "training.per_device_train_batch_size=2", "data.max_train=2")


def test_the_verb_measures_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.evaluation.evaluate.curve_point", lambda *_: lambda model: POINT)
    words = ["train", "default", *SMALL, "training.lr_scheduler_type=constant", "training.curve_steps=[0, 1]"]
    done = CliRunner().invoke(app, [*words, "--output-dir", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    rows = Run.open(tmp_path / "run").stage("01-sft").read_log()
    assert [(row["step"], row["curve"]) for row in rows if "curve" in row] == [(0, POINT), (1, POINT)]


def test_no_curve_without_held_out_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuma.cli.runs import _curve

    monkeypatch.setattr("cuma.evaluation.evaluate.curve_point", lambda *_: POINT)
    survey = load_benchmark("gss")
    answers = SimpleNamespace(survey=survey)
    nobody = SimpleNamespace(survey=SimpleNamespace(counts=lambda *_: survey.counts("train", ("test",))), corpus=None)
    recipe: Any = None
    assert _curve(recipe, answers) is POINT
    assert _curve(recipe, nobody) is None


@pytest.mark.parametrize(("number", "why"), [(1, "held out"), (2, "in one process")])
def test_a_curve_that_is_left_out_is_told_once(
    number: int, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, materials = load_recipe("default"), SimpleNamespace()
    for main in (True, False):
        world = SimpleNamespace(num_processes=number, is_main_process=main)
        monkeypatch.setattr("cuma.training.train.processes", lambda world=world: world)
        assert _measure(recipe, materials, lambda *_: None) is None
    assert [why in record.message for record in caplog.records] == [True]
