"""A study's result file: nothing is measured twice, and nothing is lost when several processes write it."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuma.recipes.load import load_recipe, packaged_recipes
from helpers import ROOT

STUDIES = ROOT / "studies"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module("ledger").Ledger


@pytest.fixture
def grid(ledger: Any) -> Any:
    return importlib.import_module("grid")


def test_the_table_of_statistics_is_the_result_s_and_its_means_are_those_of_its_splits(ledger: Any) -> None:
    study = importlib.import_module("anchors_gss")
    found = json.loads((ROOT / study.FILE).read_text())
    documented = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert [row for row in study.page(found).splitlines() if row not in documented] == []
    for name, of in found["soft_emd"].items():
        assert of["mean"] == pytest.approx(sum(of["by_split"]) / len(found["splits"])), name
    survey = study.load_gss(found["splits"][0])
    again = study.measured(study.anchor_predictions("mrp", survey), survey)["unseen"]["soft_emd"]
    assert again == pytest.approx(found["soft_emd"]["mrp"]["by_split"][0], abs=1e-3)


def test_every_command_of_studies_and_bench_answers_to_help() -> None:
    files = [file for folder in ("studies", "bench") for file in (ROOT / folder).glob("*.py")]
    started = [file for file in files if 'if __name__ == "__main__":' in file.read_text(encoding="utf-8")]
    assert len(started) > 15
    assert [file.name for file in started if "parse_args()" not in file.read_text(encoding="utf-8")] == []


def test_two_processes_keep_each_others_runs(ledger: Any, tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    one, other = ledger(file, "make it"), ledger(file, "make it")
    assert one.once("a", "recipe", lambda: {"soft_emd": 0.1}) == {"soft_emd": 0.1}
    assert other.once("b", "recipe", lambda: {"soft_emd": 0.2}) == {"soft_emd": 0.2}
    assert set(json.loads(file.read_text())["runs"]) == {"a", "b"}
    third = ledger(file, "make it")
    assert third.once("a", "recipe", lambda: pytest.fail("it is known")) == {"soft_emd": 0.1}
    assert third.once("a", "another recipe", lambda: {"soft_emd": 0.3}) == {"soft_emd": 0.3}
    found = json.loads(file.read_text())
    assert {run["machine"] for run in found["runs"].values()} == set(found["machines"])


def test_the_table_of_rectified_intervals_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STUDIES))
    study = importlib.import_module("rectified")
    found = json.loads((ROOT / "docs" / "results" / "rectified.json").read_text(encoding="utf-8"))
    assert set(found["simulated"]) == set(study.SCENARIOS)
    documented = (ROOT / "docs" / "predict.md").read_text(encoding="utf-8")
    assert study.table(found) in documented
    again = study.measure(study.SCENARIOS["biased, n = 50"], 20, found["seed"])
    assert again["truth"] == found["simulated"]["biased, n = 50"]["truth"]
    assert 0.8 < min(again["rectified"]) <= max(again["rectified"]) <= 1


def test_a_table_names_every_method_with_its_interval(grid: Any, ledger: Any) -> None:
    file = STUDIES.parent / "docs" / "results" / "study-gss.json"
    known = ledger(file, "").runs
    wanted = {f"split-{split}/{name}" for split in range(5) for name in ("cuma", "lora", "lora-3e-3", "shuffled")}
    assert wanted <= set(known)
    shown = grid.page(json.loads(file.read_text())).splitlines()
    assert len(shown) == 2 + len(grid.LABELS)
    documented = (STUDIES.parent / "docs" / "studies.md").read_text(encoding="utf-8")
    assert [row for row in shown if row not in documented] == []


def test_the_paper_s_page_names_what_is_there_and_costs_what_is_computed(ledger: Any) -> None:
    study = importlib.import_module("paper_cost")
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    assert study.table() in page
    shape = study.SHAPES["qwen3-8b"]
    shares = [
        study.trained(load_recipe(f"paper/qwen3-8b/wvb/cuma-{r}"), shape) / shape.parameters for r in ("r8", "r64")
    ]
    assert [round(100 * share, 2) for share in shares] == [1.53, 4.15]  # as published
    for name in re.findall(r"`((?:paper|ablations|released)/[^`]+)`", page):
        assert any(known.startswith(name.rstrip("*")) for known in packaged_recipes()), name


def test_sides_and_experts_share_what_they_must(ledger: Any) -> None:
    information = importlib.import_module("expert_sides").information
    apart = np.array([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]])  # 4 groups, 1 layer, 2 experts
    assert information([apart], [np.array([0, 0, 1, 1])]) == pytest.approx(np.log(2))
    assert information([apart], [np.array([0, 1, 0, 1])]) == pytest.approx(0)
    assert information([apart], [np.array([0, -1, 1, 1])]) == pytest.approx(np.log(3) - 2 / 3 * np.log(2))


def test_noise_is_taken_out_of_cosines_and_opposite_groups_are_found(ledger: Any) -> None:
    conflict = importlib.import_module("conflict")
    rng, groups, batches, width = np.random.default_rng(0), 12, 3, 4000
    side = np.where(np.arange(groups) < groups // 2, 1.0, -1.0)
    pull = side[:, None] * rng.normal(size=width)
    vectors = pull[:, None] + 2 * rng.normal(size=(groups, batches, width))
    gram = np.einsum("gbn,hcn->gbhc", vectors, vectors)
    upper = np.triu(np.ones((groups, groups), dtype=bool), 1)
    pairs = {"different": upper & (np.outer(side, side) < 0), "alike": upper & (np.outer(side, side) > 0)}
    found = conflict.figures([gram], None, pairs)
    assert found["different"]["value"] == pytest.approx(-1, abs=0.1)
    assert found["alike"]["value"] == pytest.approx(1, abs=0.1)
    assert found["own same"]["value"] == pytest.approx(0.2, abs=0.03)  # 1 / (1 + 4): what the noise leaves
    unused = conflict.figures([gram, np.roll(gram, 1, axis=(0, 2))], [np.ones(groups), np.zeros(groups)], pairs)
    assert unused["different"]["value"] == pytest.approx(found["different"]["value"])
