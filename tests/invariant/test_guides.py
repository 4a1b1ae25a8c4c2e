"""The guides of CONTRIBUTING.md, followed to the letter in a copy of the code, and what then shows where."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from helpers.paper import write_base

GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|In `(?P<file>[^`]+)`, (?P<how>above|a row of) `(?P<table>\w+)`):\n"
    r"```\w+\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
GUIDES = ("benchmark", "baseline", "anchor", "router", "metric", "measurement")


def follow(guide: str, code: Path) -> dict[str, int]:
    """Take every step of a guide in a copy of the repository; returns how often each source file was touched."""
    _, _, text = GUIDE.partition(f"\n## Add an {guide}\n" if guide == "anchor" else f"\n## Add a {guide}\n")
    touched: dict[str, int] = {}
    for step in STEP.finditer(text.partition("\n## ")[0]):
        if step["new"]:
            path = code / step["new"]
            assert not path.exists()
            path.write_text(step["code"], encoding="utf-8")
            continue
        path = code / step["file"]
        source = path.read_text(encoding="utf-8")
        head = re.search(rf"^{step['table']}\b.*[({{\[]$\n", source, re.MULTILINE)
        assert head is not None, f"{step['file']} has no table {step['table']}"
        at = head.start() if step["how"] == "above" else head.end()
        path.write_text(source[:at] + step["code"] + source[at:], encoding="utf-8")
        touched[step["file"]] = touched.get(step["file"], 0) + 1
    return touched


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code in which all guides were followed."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for guide in GUIDES:
        touched = follow(guide, copy)
        assert 1 <= len(touched) <= 2, f"{guide} touches {sorted(touched)}"
    return copy


def run(code: Path, script: str) -> list[str]:
    """What a script prints there, cut at its marks. Its `cuma(*words)` is the command line, in the same process."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CUMA + script],
        cwd=code, env={**os.environ, "PYTHONPATH": str(code / "src"), "COLUMNS": "200", "TERM": "dumb"},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout.split(MARK)[1:]


MARK = "=====\n"
CUMA = f"""
import json
from pathlib import Path
from typer.testing import CliRunner
from cuma.cli import app

def cuma(*words):
    done = CliRunner().invoke(app, words)
    print({MARK!r} + done.output)
    assert done.exit_code == 0, done.exception
"""
LISTS = """
from cuma.data.catalog import load_benchmark
cuma("list", "benchmarks")
cuma("list", "recipes")
cuma("evaluate", "--help")
print("=====\\n" + json.dumps(load_benchmark("immigration").card))
"""
PAGE = """
from cuma.answering.materials import Materials
from cuma.cli.quickstart_run import _anchor
from cuma.recipes.load import load_recipe
tiny = ("backbone.model_name_or_path=base", "training.max_steps=2", "training.curve_steps=[]", "adapter.last_layers=1")
cuma("train", "baselines/gss/rslora", *tiny, "--output-dir", "runs/rslora")
cuma("evaluate", "runs/rslora", "--confidence")
recipe = load_recipe("baselines/gss/rslora", ["backbone.model_name_or_path=base"])
_anchor("majority", Path("runs/majority"), Materials.load(recipe), recipe)
cuma("report", "runs/rslora", "runs/majority", "--output", "report.html")
cuma("card", "runs/rslora")
cuma("train", "quickstart/gss/cuma", *tiny, "adapter.gating=sigmoid", "--output-dir", "runs/sigmoid")
"""


@pytest.fixture(scope="module")
def page(code: Path) -> str:
    """The page of the new baseline beside the new anchor."""
    write_base(code / "base")
    _, evaluated, *_ = run(code, PAGE)
    assert "Its likeliest answer gets" in evaluated
    return (code / "report.html").read_text(encoding="utf-8")


def test_the_command_line_shows_what_was_added(code: Path) -> None:
    benchmarks, recipes, options, card = run(code, LISTS)
    assert "immigration" in benchmarks
    assert "baselines/gss/rslora" in recipes
    assert "--confidence" in options
    rows = json.loads(card)
    assert rows["rows_read"] == rows["kept"] + sum(rows["dropped"].values())
    assert rows["groups"]["test"] > 5


def test_the_page_shows_what_was_added(page: str, code: Path) -> None:
    for text in ("rsLoRA", "majority", "Hellinger ↓", "How sure is it?", "Its likeliest answer gets"):
        assert text in page, text
    scores = next((code / "runs" / "rslora" / "evaluations").glob("*/scores.json"))
    assert 0 <= json.loads(scores.read_text(encoding="utf-8"))["seen"]["hellinger"]["value"] <= 1


def test_a_router_of_one_s_own_trains_and_is_saved(page: str, code: Path) -> None:
    saved = json.loads((code / "runs" / "sigmoid" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert saved["gating"] == "sigmoid"


def test_the_model_card_names_the_new_baseline(page: str, code: Path) -> None:
    card = (code / "runs" / "rslora" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "scaled by the root of its rank" in card
