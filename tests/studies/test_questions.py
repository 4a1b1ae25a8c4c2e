"""The study of many questions: what it counts, its intervals, and a plan that compares rates before it goes on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from helpers import ROOT

STUDIES = ROOT / "studies"


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(STUDIES))
    return importlib.import_module("question_table")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(STUDIES))
    module = importlib.import_module("questions")
    monkeypatch.setattr(module, "RESULT", tmp_path / "questions.json")
    return module.Study(tmp_path, None, None)


def test_cells_of_their_own_items_and_groups_have_the_ordinary_interval(table: Any) -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 40)
    cells = pd.DataFrame({"item": range(40), "group": range(40), "error": values})
    found = table.two_way(cells, "error")
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["p"] == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


def test_items_are_clusters(table: Any) -> None:
    rng = np.random.default_rng(1)
    item = np.repeat(range(12), 6)
    values = rng.normal(size=12)[item] + rng.normal(size=72)
    found = table.two_way(pd.DataFrame({"item": item, "group": range(72), "error": values}), "error")
    options = {"groups": item, "use_correction": False, "df_correction": False}
    oracle = sm.OLS(values, np.ones(72)).fit(cov_type="cluster", cov_kwds=options)
    wanted = float(oracle.bse[0]) * np.sqrt(12 / 11) * stats.t.ppf(0.975, 11)
    assert found["high"] - found["value"] == pytest.approx(wanted)


def test_the_checked_in_cells_give_the_table(table: Any) -> None:
    runs = json.loads((ROOT / "docs" / "results" / "questions.json").read_text(encoding="utf-8"))["runs"]
    keys = {0: runs["anes/split-0/cells"]}
    pair = {name: {0: runs[f"anes/split-0/{name}-2e-3-seed-0"]} for name in ("cuma", "lora")}
    page = table.tables("anes", arms(table, cuma="CuMA", lora="LoRA"), pair, keys)
    assert all(corner in page for corner in table.CORNERS)
    corner = "seen items · seen groups"
    errors = {name: table.pooled(of, keys, corner)["error"] for name, of in pair.items()}
    found = table.differences(pair, keys, corner)["lora"]
    assert found["value"] == pytest.approx(errors["cuma"].mean() - errors["lora"].mean())
    assert found["n"] == len(errors["cuma"]) == len(keys[0][corner]["cells"].split())


def test_the_documented_tables_and_curves_are_those_of_the_results(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("questions")
    monkeypatch.setattr(module, "RESULT", ROOT / module.RESULT)
    study = module.Study(ROOT, None, None)
    documented = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
    assert [row for row in study.page("anes").splitlines() if row.startswith("|") and row not in documented] == []
    main = [name for name in study.runs("anes") if module.METHODS[name].main]
    assert {"cuma", "vector", "lora"} <= set(main)
    runs = table.on_shared_splits(study.runs("anes"), main)
    keys = {split: study.ledger.runs[f"anes/split-{split}/cells"] for split in runs["cuma"]}
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    seen, _, new_groups, _ = table.CORNERS
    for method in main:
        estimate = table.two_way(table.pooled(runs[method], keys, seen), "error")
        assert table.estimate_text(estimate) in readme
    process = {split: {"cells": study.ledger.runs[f"anes/split-{split}/anchors"]["process_fields"]} for split in keys}
    behind = table.differences({"cuma": runs["cuma"], "process": process}, keys, new_groups)["process"]
    (row,) = (
        line
        for line in study.page("anes").splitlines()
        if line.startswith("| anchor: Gaussian process on fields ×") and line.endswith("| 5 |") and " p " in line
    )
    p = row.split(" | ")[3].rpartition(" p ")[2]
    assert f"ahead of CuMA by {table.estimate_text(behind)} (p {p})" in readme
    drawing = ElementTree.parse(ROOT / "docs" / "questions-curves.svg")
    (figures,) = drawing.iter("{http://www.w3.org/2000/svg}metadata")
    assert json.loads(figures.text or "") == importlib.import_module("question_curves").curves(runs)


@pytest.mark.parametrize("program", ["questions", "question_variants", "option_orders"])
def test_what_is_no_file_is_named(
    table: Any, program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        monkeypatch.setattr("sys.argv", [program, "--anes", str(path)])
        with pytest.raises(SystemExit):
            importlib.import_module(program).main()
        assert f"{path} is no file. studies/anes_thermometers.py counts it" in capsys.readouterr().err


def arms(table: Any, **labels: str) -> dict[str, Any]:
    return {name: table.Arm(label, main=True) for name, label in labels.items()}


def test_means_are_of_the_splits_that_all_main_methods_have(table: Any) -> None:
    runs = {"cuma": {0: "a", 1: "b"}, "lora": {0: "c"}, "dora": {1: "d"}, "anchor": {0: "e", 1: "f"}}
    found = table.on_shared_splits(runs, ["cuma", "lora"])
    assert found == {"cuma": {0: "a"}, "lora": {0: "c"}, "anchor": {0: "e"}}


def test_an_anchor_stands_where_it_says_something(table: Any) -> None:
    runs = json.loads((ROOT / "docs" / "results" / "questions.json").read_text(encoding="utf-8"))["runs"]
    keys, ours = {0: runs["anes/split-0/cells"]}, runs["anes/split-0/cuma-2e-3-seed-0"]
    seen, new, *_ = table.CORNERS
    anchor = {"cells": {seen: ours["cells"][seen]}}  # which is nobody's: the differences are 0
    runs = {"cuma": {0: ours}, "anchor": {0: anchor}}
    page = table.tables("anes", {**arms(table, cuma="CuMA"), "anchor": table.Arm("A")}, runs, keys)
    errors, against = [line for line in page.splitlines() if line.startswith("| A |")]
    assert errors.split(" | ")[1] == page.split("| CuMA | ")[1].split(" | ")[0]
    assert f" | {table.MISSING} | " in errors
    assert "0.000" in against.split(" | ")[1]
    assert new not in anchor["cells"]


def test_thermometers_are_counted_and_what_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(STUDIES))
    study = importlib.import_module("anes_thermometers")
    monkeypatch.setattr(study, "FEWEST_CELLS", 1)
    people = {"V201231x": 1, "V201549x": 2, "V201600": 2, "V201511x": 5}
    degrees = [0, 20, 21, 39, 40, 50, 60, 61, 80, 81, 100, 15, 50, 85, 100, 998, -9]
    sample = pd.DataFrame([{**people, **dict.fromkeys(study.ITEMS, degree)} for degree in degrees])
    few = pd.DataFrame([{**people, "V201600": 1, **dict.fromkeys(study.ITEMS, 50)}] * 3)
    unknown = pd.DataFrame([{**people, "V201231x": -8, **dict.fromkeys(study.ITEMS, 50)}] * 2)
    rows, dropped = study.count(pd.concat([sample, few, unknown], ignore_index=True))
    assert len(rows) == len(study.ITEMS)
    assert rows[0]["distribution"] == pytest.approx([3 / 15, 2 / 15, 4 / 15, 2 / 15, 4 / 15])
    assert rows[0]["n"] == 15
    assert rows[0]["profile"]["education"] == "a college degree"
    assert dropped["people with an unknown or other party, race, sex or education"] == 2
    assert dropped["answers that are no temperature"] == 2 * len(study.ITEMS)
    assert dropped["cells of fewer than 15 people"] == len(study.ITEMS)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        ("1e-3", ["1e-3", "2e-3", "5e-4"]),
        ("4e-3", ["1e-3", "2e-3", "4e-3", "8e-3"]),
        ("2.5e-4", ["1e-3", "2e-3", "5e-4", "2.5e-4", "1.25e-4"]),
        ("16e-3", ["1e-3", "2e-3", "4e-3", "8e-3", "16e-3"]),
    ],
)
def test_rates_are_tried_until_the_best_has_worse_neighbours(study: Any, best: str, tried: list[str]) -> None:
    def error(rate: str) -> float:
        return abs(np.log(float(rate) / float(best)))

    for trial in study.plan("us", ["cuma", "shuffled"]):
        if trial.split == 0 and trial.method == "cuma" and study.rate("us", "cuma") is None:
            tried.remove(trial.rate)
            known = {"recipe": study.recipe(trial).digest, "validation": error(trial.rate)}
            study.ledger.runs[trial.name] = known
        else:
            assert trial.rate == best
    assert not tried
    assert study.rate("us", "shuffled") == study.rate("us", "cuma") == best


def test_no_rate_is_taken_while_one_is_missing(study: Any) -> None:
    assert study.page("anes") == "anes: 0 runs are done as the recipes stand, and no method's rate is known yet."
    (first,) = list(study.plan("us", ["cuma", "shuffled"]))[:1]
    assert (first.method, first.split, first.rate) == ("cuma", 0, "1e-3")
    assert study.rate("us", "cuma") is None
    # what another process is training is left to it, and nothing that waits for it is begun
    assert {trial.rate for trial in study.plan("us", ["cuma", "shuffled"])} == {"1e-3"}


def test_runs_on_other_cells_are_not_mixed_with_those_that_are_known(study: Any, table: Any) -> None:
    module = importlib.import_module("questions")
    first = {corner: {"items": ["a"], "groups": ["x"], "cells": "0:0"} for corner in table.CORNERS}
    trial = module.Trial("us", 0, "cuma", "1e-3")
    for _ in range(2):
        study.keep_cells(trial, first)
    seen, *_ = table.CORNERS
    other = {**first, seen: {"items": ["b"], "groups": ["x"], "cells": "0:0"}}
    with pytest.raises(SystemExit, match="us, split 0: the cells are not those"):
        study.keep_cells(trial, other)
    assert study.ledger.runs["us/split-0/cells"]["recipe"] == "cells"


def test_no_step_is_timed_before_a_rate_is_known(study: Any, capsys: pytest.CaptureFixture[str]) -> None:
    study.time_steps("us", ["cuma", "lora"])
    assert "no method's rate is known yet" in capsys.readouterr().out
    assert study.ledger.runs == {}


def test_a_step_s_cost_is_compared_round_by_round(table: Any) -> None:
    cost = importlib.import_module("question_cost")
    seconds = {"cuma": [1.0, 2.0, 4.0], "lora": [1.5, 3.0, 6.0], "vector": [1.0, 2.2, 3.6]}
    assert cost.beside(seconds["lora"], seconds["cuma"]) == pytest.approx({"value": 1.5, "low": 1.5, "high": 1.5})
    ratios = [1.0, 1.1, 0.9]
    low, high = stats.t.interval(0.95, 2, 1.0, stats.sem(ratios))
    assert cost.beside(seconds["vector"], seconds["cuma"]) == pytest.approx({"value": 1.0, "low": low, "high": high})


def test_how_soon_is_told_by_the_step_and_its_cost(table: Any) -> None:
    runs = json.loads((ROOT / "docs" / "results" / "questions.json").read_text(encoding="utf-8"))["runs"]
    keys, cells = {0: runs["anes/split-0/cells"]}, runs["anes/split-0/cuma-2e-3-seed-0"]
    corner, *_ = table.CORNERS

    def run(*errors: float) -> dict[int, Any]:
        curve = [{"step": 100 * place, corner: error} for place, error in enumerate(errors)]
        return {0: {**cells, "curve": curve}}

    found = {"cuma": run(0.3, 0.09, 0.05), "lora": run(0.3, 0.2, 0.1), "vector": run(0.3, 0.2, 0.11)}
    timed = {"cuma": (1.0, 1.0), "lora": (2.0, 2.0), "vector": ()}
    page = table.tables("anes", {name: table.Arm(name, True, "", of) for name, of in timed.items()}, found, keys)
    *_, ours, words, vector = page.splitlines()
    assert ours == "| cuma | 0.050 | 100 | 1.00 [1.00, 1.00] |"
    assert words == "| lora | 0.100 | 200 | 2.00 [2.00, 2.00] |"
    assert vector == f"| vector | 0.110 | {table.MISSING} | {table.MISSING} |"


def test_what_the_seed_does_is_told_seed_by_seed(table: Any, study: Any) -> None:
    trial = importlib.import_module("questions").Trial
    errors = {("cuma", 0): 0.05, ("cuma", 1): 0.07, ("vector", 0): 0.06, ("vector", 2): 0.04, ("lora", 0): 0.1}
    for (method, seed), error in errors.items():
        for rate in ("1e-3", "2e-3", "5e-4") if seed == 0 else ("1e-3",):
            one = trial("us", 0, method, rate, seed)
            study.ledger.runs[one.name] = {
                "recipe": study.recipe(one).digest,
                "validation": 0.1 if rate == "1e-3" else 0.2,
                "cells": dict.fromkeys(table.CORNERS, f"{error} 0.1"),
            }
    seeds = study.seeds("us")
    assert {name: list(of) for name, of in seeds.items()} == {"cuma": [0, 1], "vector": [0, 2]}
    *_, ours, vector, difference = table._by_seed(arms(table, cuma="CuMA", vector="V"), seeds)
    assert ours == "| CuMA | " + "0.075 · 0.085 | " * 4 + "0 1 |"
    assert vector == "| V | " + "0.080 · 0.070 | " * 4 + "0 2 |"
    assert difference == "| CuMA minus V | " + "−0.005 | " * 4 + "0 |"


def test_the_curves_are_means_over_splits_beside_each_split_s_own(table: Any) -> None:
    study = importlib.import_module("question_curves")
    a, b, *_ = table.CORNERS
    splits = {split: {"curve": [{"step": 0, a: 0.4, b: 0.2}, {"step": 50, a: 0.1 * split, b: 0.1}]} for split in (1, 3)}
    found = study.curves({"cuma": splits})
    assert found == {
        "CuMA": {"mean": [[0, 0.3], [50, 0.15]], "split 1": [[0, 0.3], [50, 0.1]], "split 3": [[0, 0.3], [50, 0.2]]}
    }
    thin, _, thick = study.figure(found).data
    assert list(thick.y) == [0.3, 0.15]
    assert (thin.showlegend, thick.showlegend) == (False, True)
