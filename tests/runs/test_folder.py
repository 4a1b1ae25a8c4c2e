"""Run folders: whole or absent, never half written; and the machine's record."""

from __future__ import annotations

import errno
import getpass
import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest

from cuma.errors import RunError
from cuma.runs import folder
from cuma.runs.folder import Run, Stage, read_json, replacing, write_json, write_text
from cuma.runs.machine import hardware, versions


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "deep" / "cuma", "seed: 1\n", {"label": "CuMA", "seed": 1})


def test_open_gives_back_what_create_wrote(run: Run) -> None:
    again = Run.open(run.path)
    assert again.recipe_text == "seed: 1\n"
    assert again.info == run.info
    assert again.info == {"name": "cuma", "label": "CuMA", "kind": "trained", "status": "created", "seed": 1}


def test_update_keeps_the_other_keys(run: Run) -> None:
    run.update(status="trained", trainable_parameters=np.int64(3), seconds={"train": np.float32(1.5)})
    again = Run.open(run.path)
    assert again.info == run.info
    assert again.info["status"] == "trained"
    assert again.info["label"] == "CuMA"
    assert again.info["trainable_parameters"] == 3
    assert again.info["seconds"] == {"train": 1.5}


def test_create_refuses_a_folder_that_holds_a_run(run: Run) -> None:
    with pytest.raises(RunError, match="holds a run already"):
        Run.create(run.path, "", {})
    assert Run.open(run.path).recipe_text == "seed: 1\n"


@pytest.mark.parametrize("bad", [{"kind": "magic"}, {"status": "done"}])
def test_unknown_kind_or_status_changes_nothing(run: Run, bad: dict[str, str]) -> None:
    before = (run.path / "run.json").read_text()
    with pytest.raises(RunError, match=r"allowed: .*(trained)"):
        run.update(**bad)
    assert (run.path / "run.json").read_text() == before


def test_open_names_the_runs_near_a_wrong_folder(run: Run) -> None:
    with pytest.raises(RunError, match=r"no run\.json.*cuma"):
        Run.open(run.path.parent)
    with pytest.raises(RunError, match=r"no run\.json.*cuma"):
        Run.open(run.path.parent / "cumma")


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "trained"}'])
def test_open_refuses_a_damaged_run_json(run: Run, text: str) -> None:
    (run.path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"run\.json"):
        Run.open(run.path)


def test_open_refuses_a_run_without_its_recipe(run: Run) -> None:
    (run.path / "recipe.yaml").unlink()
    with pytest.raises(RunError, match=r"recipe\.yaml"):
        Run.open(run.path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    write_json(file, {"a": 1})
    with pytest.raises(RuntimeError), replacing(file) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert read_json(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("code", "word"),
    [(errno.ENOSPC, "Free some space"), (errno.EROFS, "Choose a folder"), (errno.EACCES, "Choose a folder")],
)
def test_disk_errors_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, word: str) -> None:
    write_text(tmp_path / "page.html", "old")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(folder.os, "replace", fail)
    with pytest.raises(RunError, match=word):
        write_text(tmp_path / "page.html", "new")
    assert (tmp_path / "page.html").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        Run.create(tmp_path / "runs" / "a", "", {})


def test_stage_logs_rows_in_order(run: Run) -> None:
    stage = run.stage("01-sft")
    assert stage.read_log() == []
    assert not stage.path.exists()
    stage.log({"step": 1, "loss": np.float32(0.5)})
    stage.log({"step": 2, "curve": {"seen": {"spread": 0.9}}})
    assert stage.read_log() == [{"step": 1, "loss": 0.5}, {"step": 2, "curve": {"seen": {"spread": 0.9}}}]
    assert run.stages() == [stage]
    assert stage.metrics == run.path / "stages" / "01-sft" / "metrics.jsonl"


def test_a_line_cut_short_by_a_crash_is_forgotten(run: Run) -> None:
    stage = run.stage("01-sft")
    stage.log({"step": 1})
    with stage.metrics.open("a") as file:
        file.write('{"step": 2, "lo')
    assert stage.read_log() == [{"step": 1}]
    stage.log({"step": 2})
    assert stage.read_log() == [{"step": 1}, {"step": 2}]


def test_rewind_forgets_what_came_after_the_checkpoint(run: Run) -> None:
    stage = run.stage("01-sft")
    for step in (1, 2, 3):
        stage.log({"step": step})
    stage.rewind(2)
    assert [row["step"] for row in stage.read_log()] == [1, 2]
    Stage(run.path / "stages" / "02-dpo").rewind(5)


def test_evaluations_are_listed_once_their_predictions_are_there(run: Run) -> None:
    folder = run.evaluation("gss", "0123abcd")
    assert folder == run.path / "evaluations" / "gss-0123abcd"
    assert run.evaluations() == []
    with replacing(folder / "predictions.parquet") as temporary:
        temporary.write_bytes(b"x")
    assert run.evaluations() == [folder]


@pytest.mark.parametrize("name", ["../01", "a/b", "", ".hidden"])
def test_names_stay_inside_the_run(run: Run, name: str) -> None:
    with pytest.raises(RunError, match="cannot name"):
        run.stage(name)


def test_the_machine_is_recorded_without_names_of_people_or_hosts() -> None:
    record = {**versions(), **hardware()}
    assert record["python"] == platform.python_version()
    assert {"cuma", "torch", "peft", "trl", "transformers"} <= set(record)
    assert record["cores"] >= 1
    text = json.dumps(hardware())
    assert platform.node() not in text.split('"')
    assert getpass.getuser() not in text
