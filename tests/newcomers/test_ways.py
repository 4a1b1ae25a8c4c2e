"""Three newcomers, each with a page of the docs and nothing else: each ends where they want to be."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from helpers import ROOT
from helpers.paper import write_base
from helpers.way import follow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def test_the_social_scientist_sees_how_well_a_model_represents_people(folder: Path) -> None:
    write_base(folder / "base")
    quick = {"smollm2-135m --benchmark wvs": "base --benchmark wvs"}  # 640 prompts to a model of random weights
    said = dict(follow("start-scientist", folder, quick))
    assert "soft_emd" in said["cuma evaluate smollm2-135m --benchmark wvs --output-dir runs/untouched"]
    page = (folder / "runs" / "untouched" / "report.html").read_text(encoding="utf-8")
    assert all(country in page for country in ("Norway", "Peru", "Japan"))
    checked = said["cuma data check answers.csv"]
    assert "7 read, 6 usable" in checked
    assert "answer is missing" in checked
    shares = pd.read_csv(folder / "says-population.csv")
    assert list(shares["text"]) == ["Yes", "No"]
    assert shares["model"].sum() == pytest.approx(1)


def test_the_researcher_measures_the_method_against_its_rival_and_changes_it(folder: Path) -> None:
    write_base(folder / "base")
    tiny = {"training.max_steps=20": "training.max_steps=2 backbone.model_name_or_path=base adapter.last_layers=1"}
    said = dict(follow("start-researcher", folder, tiny))
    assert "adapter.gating" in said["cuma list keys"]
    assert "router_hidden_dim" in said["cuma show paper/qwen3-8b/wvb/cuma-r8"]
    assert "Holm" in said["cuma evaluate runs/lora --against runs/cuma"]
    assert "LoRA" in (folder / "compared.html").read_text(encoding="utf-8")
    kept = json.loads((folder / "runs" / "four" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (kept["top_k"], kept["share_a"]) == (4, True)


def test_the_engineer_trains_on_chats_and_pairs_survives_a_kill_and_serves(folder: Path) -> None:
    said: dict[str, str] = {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    for line, output in follow("start-engineer", folder, FEWER | {"8000": port}):
        said[line] = output
        if line.startswith("cuma data build"):
            _train_and_kill()
    built = next(text for line, text in said.items() if line.startswith("cuma data build"))
    assert "dpo" in built
    info = json.loads((folder / "runs" / "tea" / "run.json").read_text(encoding="utf-8"))
    assert info["resumed"] is True
    scores = next((folder / "runs" / "tea" / "evaluations").glob("*/conversations.json"))
    assert json.loads(scores.read_text(encoding="utf-8"))
    assert (folder / "lora" / "adapter_config.json").is_file()
    assert all(f"{country}: " in said["python ask.py"] for country in ("Japan", "Turkey"))
    assert "preference accuracy" in (folder / "compared.html").read_text(encoding="utf-8").lower()


FEWER = {
    "training.max_steps=20": "training.max_steps=4 training.per_device_train_batch_size=2",
    "save_steps=10": "save_steps=2",
    "dpo.max_steps=10": "dpo.max_steps=1 dpo.per_device_train_batch_size=2",
}
"""The engineer's page takes minutes; a test takes fewer and smaller steps."""


def _train_and_kill() -> None:
    """Start the page's training, and kill it when its first checkpoint is whole."""
    page = (ROOT / "docs" / "start-engineer.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("cuma train"))
    for written, other in FEWER.items():
        line = line.replace(written, other)
    child = subprocess.Popen(
        [sys.executable, "-m", *shlex.split(line)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 240
    while not Path("runs/tea/stages/01-sft/checkpoints/checkpoint-2/sha256.json").is_file():
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
