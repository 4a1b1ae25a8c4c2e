"""The study of variants: chosen on validation items, at CuMA's rate, and measured once on new splits."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from helpers import ROOT

SPLITS = (0, 1, 2, 3, 4)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    found = importlib.import_module("question_variants")
    monkeypatch.setattr(importlib.import_module("questions"), "RESULT", ROOT / "docs" / "results" / "questions.json")
    monkeypatch.setattr(found, "RESULT", tmp_path / "variants.json")
    return found


def test_each_variant_is_a_recipe_of_its_own_at_the_rate_that_the_study_chose(module: Any, tmp_path: Path) -> None:
    study = module.Variants(tmp_path, None)
    recipes = {name: study.recipe(name, 0) for name in module.VARIANTS}
    assert len({recipe.digest for recipe in recipes.values()}) == len(recipes)
    assert {recipe.training.learning_rate for recipe in recipes.values()} == {1e-3}
    assert {recipe.data.benchmark for recipe in recipes.values()} == {"runs/questions/anes/data-0"}


def test_cuma_as_it_is_is_not_trained_again(module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study = module.Variants(tmp_path, None)
    asked = []
    monkeypatch.setattr(study.own, "once", lambda trial, recipe, measure: asked.append((trial.method, trial.split)))
    study.train(["cuma", "average"], list(SPLITS), None)
    assert asked == [("average", split) for split in SPLITS]
    asked.clear()
    study.train(["cuma"], list(SPLITS), "average")
    assert asked == [(name, split) for split in module.NEW_SPLITS for name in ("cuma", "average")]
    assert not set(module.NEW_SPLITS) & set(SPLITS)


def test_the_page_shows_the_end_the_best_step_and_the_difference(
    module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "VARIANTS", {name: module.VARIANTS[name] for name in ("cuma", "average")})
    study = module.Variants(tmp_path, None)
    for split in SPLITS[:3]:
        ours = study.validation("cuma", split)["curve"][-1]
        curve = [
            {"step": step, module.SEEN_ITEMS: 0.5, module.UNSEEN_ITEMS: ours[module.UNSEEN_ITEMS] + more}
            for step, more in ((500, -0.02), (1000, 0.01 * (split - 2)))
        ]
        run = {"recipe": study.recipe("average", split).digest, "parameters": 5, "curve": curve}
        study.own.ledger.runs[study.trial("average", split).name] = run
    (row,) = (line for line in study.page().splitlines() if "ema_decay" in line)
    assert "| 5 | 0.500 |" in row
    assert "−0.010 [−0.035, +0.015] | 3 |" in row


def test_a_variant_is_compared_on_the_test_cells_of_new_splits(module: Any, tmp_path: Path) -> None:
    study = module.Variants(tmp_path, None)
    corners = importlib.import_module("question_table").CORNERS
    cells = {
        "items": ["a", "b", "c"],
        "groups": ["x", "y", "z"],
        "cells": " ".join(f"{i}:{g}" for i in range(3) for g in range(3)),
    }
    for split in module.NEW_SPLITS[:2]:
        study.own.ledger.runs[f"anes/split-{split}/cells"] = dict.fromkeys(corners, cells)
        for name, shift in (("cuma", 0.0), ("average", -0.01)):
            errors = " ".join(f"{0.1 + 0.01 * place + shift * (place % 3):.4f}" for place in range(9))
            run = {"recipe": study.recipe(name, split).digest, "cells": dict.fromkeys(corners, errors)}
            study.own.ledger.runs[study.trial(name, split).name] = run
    rows = study.page().splitlines()
    assert rows[-2].startswith("| average of weights")
    assert rows[-1].startswith("| the second minus the first | −0.010 [")
    assert rows[-1].endswith("| 2 |")
