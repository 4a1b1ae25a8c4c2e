"""Every packaged recipe for `gss` runs: one step on the real model, then a prediction."""

from __future__ import annotations

from pathlib import Path

import pytest

from cuma.materials import Materials
from cuma.recipe import load_recipe, packaged_recipes
from cuma.training.train import train_run

NAMES = [name for name in packaged_recipes() if "/gss/" in name]
SMALL = (
    "adapter.last_layers=1",
    "training.max_steps=1",
    "training.per_device_train_batch_size=2",
    "training.curve_steps=[]",
)


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials.load(load_recipe("quickstart/gss/cuma"))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("quickstart")])
def test_a_baseline_or_ablation_trains(name: str, materials: Materials, tmp_path: Path) -> None:
    recipe = load_recipe(name, SMALL)
    assert recipe.description
    run = train_run(recipe, tmp_path / "run", materials)
    assert run.info["trainable_parameters"] > 0
    assert (run.adapter / "adapter_model.safetensors").is_file()


def test_each_changes_something() -> None:
    digests = {name: load_recipe(name).digest for name in NAMES}
    assert len(set(digests.values())) == len(NAMES)
