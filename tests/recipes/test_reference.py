"""What every key, field and metric means: complete, true of the code, and the same on the page."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cuma.cli.main import app
from cuma.errors import CumaError
from cuma.metrics.breakdown import INEQUALITY
from cuma.metrics.meanings import MEANINGS
from cuma.metrics.measure import METRICS
from cuma.people.profiles import FIELDS, Profile
from cuma.recipes.load import load_recipe, packaged_recipes
from cuma.recipes.reference import attribute_meanings, explained, recipe_keys
from helpers import ROOT


def shown(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def test_every_key_has_its_meaning_values_and_default() -> None:
    keys = {key.path: key for key in recipe_keys()}
    assert keys["training.max_steps"].values == "integer ≥ 1 | null"
    assert keys["training.max_steps"].default == 200
    assert keys["adapter.r"].meaning == "Rank R (of each expert)."
    assert "prefix" in keys["adapter.method"].values
    assert [key.path for key in keys.values() if len(key.meaning) < 8] == []
    assert {key.default_text for key in keys.values()} >= {"null", "true", "false", '["sft"]', "0.001"}


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_an_explained_recipe_is_that_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "mine.yaml"
    file.write_text(explained(recipe), encoding="utf-8")
    assert load_recipe(file) == recipe


def test_show_takes_overrides_and_refuses_as_train_does() -> None:
    assert "max_steps: 7\n" in shown("show", "default", "training.max_steps=7")
    wrong = CliRunner().invoke(app, ["show", "default", "training.steps=7"])
    assert wrong.exit_code != 0
    with pytest.raises(CumaError, match=r"unknown key 'training.max_step'.*training.max_steps.*cuma list keys"):
        load_recipe("default", ["training.max_step=7"])


def test_lists_hold_all_there_is() -> None:
    assert all(f"{name} " in shown("list", "fields") for name in FIELDS)
    assert all(key.path in shown("list", "keys") for key in recipe_keys())
    assert set(attribute_meanings(Profile)) == set(FIELDS)
    assert set(MEANINGS) == {*METRICS, *INEQUALITY}
    assert all(f"{name} " in shown("list", "metrics") for name in MEANINGS)
    with pytest.raises(CumaError, match=r"'religon'.*'religion'.*cuma list fields"):
        Profile(religon="x")


def test_the_pages_say_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("reference_page")
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(), "Run: python tools/reference_page.py"
    evaluation = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, (better, text) in MEANINGS.items():
        assert f"| `{name}` {better}".rstrip() + f" | {text} |" in evaluation
