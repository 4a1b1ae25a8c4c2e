"""A recipe to a scored run on the real model: whole folders, continuing after an interruption, honest numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from cuma.errors import RunError
from cuma.evaluation.evaluate import evaluate_run
from cuma.materials import Materials
from cuma.metrics import score
from cuma.recipe import load_recipe
from cuma.recipe_schema import Recipe
from cuma.runs import Run, read_json
from cuma.training.checkpoints import newest_whole
from cuma.training.train import train_run

STAGE = "01-sft"
SMALL = (
    "adapter.last_layers=1",
    "training.max_steps=6",
    "training.save_steps=2",
    "training.logging_steps=1",
    "training.per_device_train_batch_size=4",
    "training.curve_steps=[5]",
)


def recipe(name: str = "cuma", *overrides: str) -> Recipe:
    return load_recipe(f"quickstart/gss/{name}", (*SMALL, *overrides))


def measure(_: Any) -> dict[str, Any]:
    return {"seen": {"soft_emd": 0.5, "spread": 0.1}}


@pytest.fixture(scope="module")
def materials() -> Materials:
    return Materials.load(recipe())


@pytest.fixture(scope="module")
def run(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "cuma"
    train_run(recipe(), folder, materials, measure)
    return evaluate_run(folder, materials)


def test_the_folder_is_whole(run: Run) -> None:
    assert run.info["status"] == "evaluated"
    assert run.info["trainable_parameters"] > 0
    for folder in (run.adapter, run.stage(STAGE).adapter):
        assert (folder / "adapter_model.safetensors").is_file()
        assert (folder / "cuma_manifest.json").is_file()
    rows = run.stage(STAGE).read_log()
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert all(row["aux_loss"] >= 0.99 for row in rows if "loss" in row)
    assert [row["step"] for row in rows if "curve" in row] == [5]


def test_scores_are_the_predictions_recomputed(run: Run) -> None:
    (folder,) = run.evaluations()
    stored = read_json(folder / "scores.json")
    again = score(pd.read_parquet(folder / "predictions.parquet"), stored["questions"])
    for part in ("seen", "unseen"):
        for metric, numbers in stored[part].items():
            assert numbers == pytest.approx(again[part][metric], nan_ok=True), (part, metric)
    routing = pd.read_parquet(folder / "routing.parquet")
    np.testing.assert_allclose(routing.groupby(["group", "layer"])["gate"].sum(), 1, atol=1e-5)


def test_an_interrupted_run_ends_with_the_same_weights(run: Run, materials: Materials, tmp_path: Path) -> None:
    def interrupt(_: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    folder = tmp_path / "cuma"
    with pytest.raises(KeyboardInterrupt):
        train_run(recipe(), folder, materials, interrupt)
    assert Run.open(folder).info["status"] == "training"
    resumed = train_run(recipe(), folder, materials, measure)
    assert resumed.info["resumed"] is True
    steps = [row["step"] for row in resumed.stage(STAGE).read_log() if "loss" in row]
    assert steps == [1, 2, 3, 4, 5, 6]
    whole, again = (load_file(made.adapter / "adapter_model.safetensors") for made in (run, resumed))
    assert whole.keys() == again.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], again[name], err_msg=name)


def test_a_half_written_checkpoint_is_passed_over(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(run.stage(STAGE).checkpoints, folder)
    newest = newest_whole(folder)
    assert newest is not None
    assert newest.name == "checkpoint-6"
    weights = newest / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    older = newest_whole(folder)
    assert older is not None
    assert older.name == "checkpoint-4"
    (older / "sha256.json").unlink()
    assert newest_whole(folder) is None


def test_a_folder_of_another_recipe_is_refused(run: Run, materials: Materials) -> None:
    with pytest.raises(RunError, match="another recipe"):
        train_run(recipe("cuma", "training.learning_rate=1e-4"), run.path, materials)


def test_an_untrained_run_cannot_be_evaluated(materials: Materials, tmp_path: Path) -> None:
    Run.create(tmp_path / "new", recipe().to_yaml(), {"status": "training"})
    with pytest.raises(RunError, match="not trained"):
        evaluate_run(tmp_path / "new", materials)


def test_the_backbone_is_left_as_it_was(run: Run, materials: Materials) -> None:
    names = [name for name, _ in materials.backbone.model.named_modules()]
    assert not [name for name in names if "cuma" in name or "base_layer" in name]
