"""The command line: quick to start, one line for an error, and the right exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cuma import __version__
from cuma.cli import EXIT_ERROR, EXIT_INTERRUPTED, app
from cuma.cli.main import VERBS
from cuma.recipes.load import load_recipe, packaged_recipes
from cuma.runs.folder import Run
from cuma.runs.machine import versions

HEAVY = ("torch", "peft", "transformers", "datasets", "trl", "accelerate", "sentence_transformers")
# Runs the command, then writes on standard error the CPU seconds it took and the heavy modules it loaded.
PROBE = f"""
import sys, time
from cuma.cli import main
try:
    main()
finally:
    print("CPU", time.process_time(), *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


def invoke(*words: str):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, list(words))


def probe(*words: str) -> tuple[str, float, list[str]]:
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True)
    _, seconds, *loaded = done.stderr.split()
    return done.stdout, float(seconds), loaded


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"], ["list", "recipes"], ["env"]])
def test_light_verbs_never_load_a_deep_learning_library(words: list[str]) -> None:
    _, _, loaded = probe(*words)
    assert loaded == []


def test_help_takes_under_a_second_of_cpu_and_names_every_verb() -> None:
    seconds = []
    for _ in range(2):  # the first may still compile the files
        text, cpu, _ = probe("--help")
        seconds.append(cpu)
    assert min(seconds) < 1.0
    assert [verb for verb in VERBS if verb not in text] == []


def test_the_installed_command_is_there() -> None:
    command = Path(sys.executable).with_name("cuma")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__ == versions()["cuma"]


def test_list_recipes_shows_every_one() -> None:
    result = invoke("list", "recipes")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list(packaged_recipes())


def test_env_shows_versions_and_hardware() -> None:
    text = invoke("env").stdout
    assert [word for word in ("python", "torch", "cores", "memory_gib") if word not in text] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "quickstart/gss/cumma"], "Did you mean 'quickstart/gss/cuma'?"),
        (["train", "quickstart/gss/cuma", "training.lerning_rate=1e-3"], "Did you mean 'training.learning_rate'?"),
        (
            ["train", "quickstart/gss/cuma", "adapter.method=loora"],
            "Did you mean 'lora'?",
        ),
        (["evaluate", "no/such/run"], "no run.json"),
        (["evaluate", "smollm2-135m", "--benchmark", "gss", "--against", "no/such/run"], "no run.json"),
        (["card", "no/such/run"], "no run.json"),
        (["chat", "no/such/run"], "no run.json"),
        (["serve", "mine=no/such/run"], "no run.json"),
        (["export", "no/such/run", "--output", "x"], "no run.json"),
        (["resolve", "no/such/folder"], "not a folder of exported people"),
        (["train", "quickstart/gss/cuma", "training.report_to=[tensorbord]"], "Did you mean 'tensorboard'?"),
    ],
)
def test_an_error_of_ours_is_one_line_without_a_traceback(words: list[str], message: str) -> None:
    result = invoke(*words)
    assert result.exit_code == EXIT_ERROR
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_debug_shows_the_traceback_as_well() -> None:
    result = invoke("--debug", "train", "quickstart/gss/cumma")
    assert result.exit_code == EXIT_ERROR
    assert "Traceback" in result.stderr
    assert "Error: " in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("status", ["training", "trained"])
@pytest.mark.parametrize("name", ["stages/01-sft/checkpoints/checkpoint-2", "stages/02-dpo/checkpoints/best", "x"])
def test_a_checkpoint_is_of_the_stage_that_runs(status: str, name: str, tmp_path: Path) -> None:
    two = load_recipe("quickstart/gss/cuma", ("pipeline=[sft, dpo]",))
    run = Run.create(tmp_path / "run", two.to_yaml(), {"status": status, "stages": ["01-sft"], "digest": two.digest})
    (run.path / name).mkdir(parents=True)
    words = ["--output-dir", str(run.path), "--resume-from-checkpoint", str(run.path / name)]
    result = invoke("train", two.name, "pipeline=[sft, dpo]", *words)
    assert result.exit_code == EXIT_ERROR
    expected = "is trained already" if status == "trained" else "is no checkpoint of 02-dpo, the stage that runs"
    assert expected in result.stderr


def test_a_checkpoint_of_the_stage_that_runs_must_be_whole(tmp_path: Path) -> None:
    recipe = load_recipe("quickstart/gss/cuma", ("training.curve_steps=[]",))
    run = Run.create(tmp_path / "run", recipe.to_yaml(), {"status": "training", "digest": recipe.digest})
    (run.path / "stages/01-sft/checkpoints/checkpoint-2").mkdir(parents=True)
    named = run.path / "../run/stages/01-sft/checkpoints/checkpoint-2/"
    words = ["--output-dir", str(run.path), "--resume-from-checkpoint", str(named)]
    assert "half written" in invoke("train", recipe.name, "training.curve_steps=[]", *words).stderr


def test_a_finished_run_is_not_trained_anew_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recipe = load_recipe("quickstart/gss/cuma")
    Run.create(tmp_path / "run", recipe.to_yaml(), {"status": "trained", "digest": recipe.digest})
    words = ["--output-dir", str(tmp_path / "run"), "--resume-from-checkpoint", "false"]
    assert invoke("train", recipe.name, *words).exit_code == 0
    assert "is trained already, and is left alone" in caplog.text


@pytest.mark.parametrize(
    "words",
    [
        ["serve"],
        ["list", "cats"],
        ["train"],
        ["quickstart", "--seed", "-1"],
        ["evaluate"],
        ["evaluate", "smollm2-135m"],  # on which benchmark?
        ["evaluate", "--endpoint", "http://localhost:1/v1", "--model", "m", "--benchmark", "gss", "--dtype", "float16"],
        ["evaluate", "smollm2-135m", "--benchmark", "gss", "--quantization", "3bit"],
        ["evaluate", "--endpoint", "http://localhost:1/v1", "--benchmark", "gss"],
        ["evaluate", "smollm2-135m", "--endpoint", "http://localhost:1/v1", "--model", "m", "--benchmark", "gss"],
        ["evaluate", "smollm2-135m", "--benchmark", "gss", "--judge", "m"],  # of which replies?
        ["evaluate", "smollm2-135m", "--benchmark", "gss", "--prompting", "hypnosis"],
        ["evaluate", "smollm2-135m", "--benchmark", "gsss"],
    ],
)
def test_wrong_words_exit_with_2(words: list[str]) -> None:
    assert invoke(*words).exit_code == 2


def test_a_judge_compares_with_one_run_which_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.evaluation.subject.subject_of_model", lambda *_: pytest.fail("too late"))
    words = ["evaluate", "smollm2-135m", "--benchmark", "gss", "--replies", "9", "--judge", "m"]
    result = invoke(*words, "--against", "a", "--against", "b")
    assert result.exit_code == 2
    assert "name one run" in result.stderr


@pytest.mark.parametrize("measure", ["--partial-profiles", "--gradients", "--topology"])
def test_what_needs_weights_is_refused_of_a_server_before_it_is_asked(measure: str) -> None:
    result = invoke("evaluate", "--endpoint", "http://localhost:1/v1", "--model", "m", "--benchmark", "gss", measure)
    assert result.exit_code == 2
    assert measure in result.stderr
    assert "the model's weights on this machine" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "continues"), [(["train", "quickstart/gss/cuma"], True), (["evaluate", "RUN"], True)]
)
def test_ctrl_c_exits_130_and_says_whether_the_command_continues(
    words: list[str], continues: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", "", {})

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cuma.recipes.load.load_recipe", interrupt)
    monkeypatch.setattr("cuma.runs.folder.Run.open", interrupt)
    result = invoke(*[str(run.path) if word == "RUN" else word for word in words])
    assert result.exit_code == EXIT_INTERRUPTED
    assert result.stderr.startswith("Stopped.")
    assert ("same command continues" in result.stderr) is continues
