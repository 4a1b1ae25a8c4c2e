"""Every packaged recipe for `gss` runs: one step on the real model, then a prediction; the backbone stays as it was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from cuma.answering.adapter_files import load_adapter
from cuma.answering.materials import Materials
from cuma.data.surveys import NO_ANSWER
from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.exemplars import Exemplars
from cuma.errors import AdapterError, BenchmarkError
from cuma.evaluation.evaluate import evaluate_run
from cuma.recipes.load import load_recipe, packaged_recipes
from cuma.runs.folder import Run, read_json
from cuma.training.train import train_run
from cuma.tuner import manifest

NAMES = [name for name in packaged_recipes() if "/gss/" in name]
ALIASES = {"baselines/gss/lora": "quickstart/gss/lora", "baselines/gss/mixlora": "quickstart/gss/semantic"}
"""The same recipe under the name that people look for."""
OTHERS = [name for name in NAMES if not name.startswith("quickstart") and name not in ALIASES]
SMALL = (
    "adapter.last_layers=1",
    "training.max_steps=1",
    "training.per_device_train_batch_size=2",
    "training.curve_steps=[]",
    "data.max_train=2",
)


@pytest.fixture(scope="module")
def materials() -> Materials:
    """Two seen groups and one that was held out, one question; everything else is real."""
    whole = Materials.load(load_recipe("quickstart/gss/cuma"))
    by_role = {role: [group for group in whole.survey.groups if group.role == role] for role in ("seen", "test")}
    groups = [*by_role["seen"][:2], by_role["test"][0]]
    people = whole.survey.people
    people = people[people["group"].isin([group.id for group in groups])].reset_index(drop=True)
    asked = whole.survey.questions[0]
    people = people[["person", "group", "part", asked.id]]
    whole.survey = replace(whole.survey, questions=(asked,), groups=tuple(groups), people=people)
    return whole


def said(run: Run) -> pd.DataFrame:
    (folder,) = run.evaluations()
    return pd.read_parquet(folder / "predictions.parquet")


@pytest.mark.parametrize("name", OTHERS)
def test_a_baseline_or_ablation_trains_and_predicts(name: str, materials: Materials, tmp_path: Path) -> None:
    recipe = load_recipe(name, SMALL)
    assert recipe.description
    before = {key: tensor.clone() for key, tensor in materials.backbone.model.state_dict().items()}
    run = train_run(recipe, tmp_path / "run", materials)
    trained = recipe.kind == "trained"
    assert (run.info["trainable_parameters"] > 0) == trained
    assert (run.adapter / "adapter_model.safetensors").is_file() == trained
    predictions = said(evaluate_run(tmp_path / "run", materials))
    sides = {"seen"} if recipe.data.exemplars else {"seen", "unseen"}  # nobody to take exemplars from
    (folder,) = run.evaluations()
    assert {"seen", "unseen"} & read_json(folder / "scores.json").keys() == sides
    assert predictions["probabilities"].map(sum).between(0.999, 1.001).all()
    after = materials.backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(parameter.requires_grad for parameter in materials.backbone.model.parameters())


def test_each_changes_something() -> None:
    digests = {name: load_recipe(name).digest for name in NAMES}
    assert len(set(digests.values())) == len(NAMES) - len(ALIASES)
    assert all(digests[alias] == digests[name] for alias, name in ALIASES.items())


@pytest.fixture(scope="module")
def full(materials: Materials, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("full") / "run"
    second = ("pipeline=[sft, dpo]", "dpo.max_steps=1", "dpo.per_device_train_batch_size=2")
    moves = ("training.learning_rate=1e-3", "training.logging_steps=1")
    recipe = load_recipe("baselines/gss/full", (*SMALL, *second, *moves))
    return train_run(recipe, folder, materials)


def test_full_fine_tuning_trains_its_layer_and_nothing_else(full: Run, materials: Materials) -> None:
    tensors = load_file(full.adapter / "adapter_model.safetensors")
    layer = materials.backbone.model.get_decoder().layers[-1]
    assert {name.partition(".layers.29.")[2] for name in tensors} == set(layer.state_dict())
    assert full.info["trainable_parameters"] == sum(parameter.numel() for parameter in layer.parameters())
    old = layer.state_dict()
    assert any(not torch.equal(tensor, old[name.partition(".layers.29.")[2]]) for name, tensor in tensors.items())


def test_the_reference_of_full_fine_tuning_is_the_model_after_sft(full: Run) -> None:
    first = next(row for row in full.stage("02-dpo").read_log() if "loss" in row)
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-5)


@pytest.mark.parametrize("name", ["lora", "full", "prefix"])
def test_damaged_files_are_refused_and_leave_the_backbone_alone(
    name: str, materials: Materials, tmp_path: Path
) -> None:
    run = train_run(load_recipe(f"baselines/gss/{name}", SMALL), tmp_path / "run", materials)
    weights = run.adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = min(tensors)
    for broken in (
        {**tensors, key: tensors[key] * torch.nan},
        {**tensors, "another.weight": torch.ones(1)},
        {other: tensor for other, tensor in tensors.items() if other != key},
    ):
        save_file(broken, weights)
        with pytest.raises(AdapterError, match=r"cuma_manifest|differ|damaged|changed"):
            load_adapter(materials.backbone.model, run.adapter)
        manifest.write(run.adapter)
        with pytest.raises(AdapterError, match="tensor"):
            load_adapter(materials.backbone.model, run.adapter)
    parts = [name for name, _ in materials.backbone.model.named_modules()]
    assert not [name for name in parts if "lora" in name or "modules_to_save" in name]


def test_few_shot_shows_training_people_of_the_same_group_only(materials: Materials) -> None:
    survey = materials.survey
    seen, _, held_out = (group.id for group in survey.groups)
    # Training people say yes to everything, all others no: whoever else were asked would be seen.
    items = [question.id for question in survey.questions]
    people = survey.people.copy()
    train = people["part"] == "train"
    for item in items:
        answered = people[item] != NO_ANSWER
        people.loc[answered & train, item] = 0
        people.loc[answered & ~train, item] = 1
    marked = replace(survey, people=people)
    exemplars = Exemplars(marked, 4, seed=3)
    cells = survey_cells(marked, "test", ("seen",), profile_in_prompt=False, exemplars=exemplars)
    for cell in cells:
        system, *turns, asked = cell["prompt"]
        assert [turn["role"] for turn in (system, *turns, asked)] == ["system", *["user", "assistant"] * 4, "user"]
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            assert f"{answer['content']}. Yes" in question["content"].splitlines()
    assert Exemplars(marked, 4, seed=3)(seen, items[0]) == exemplars(seen, items[0])
    assert Exemplars(marked, 4, seed=4)(seen, items[0]) != exemplars(seen, items[0])
    with pytest.raises(BenchmarkError, match="Held-out groups"):
        exemplars(held_out, items[0])


@pytest.mark.parametrize("name", ["baselines/gss/full", "baselines/gss/prefix"])
def test_an_interrupted_baseline_ends_with_the_same_weights(name: str, materials: Materials, tmp_path: Path) -> None:
    options = (*SMALL, "training.max_steps=2", "training.save_steps=1", "training.learning_rate=1e-3")
    run = train_run(load_recipe(name, options), tmp_path / "run", materials)
    whole = load_file(run.adapter / "adapter_model.safetensors")
    (stage,) = run.stages()
    for folder in (run.adapter, stage.adapter, stage.checkpoints / "checkpoint-2"):
        shutil.rmtree(folder)
    run.update(status="training", stages=[])
    again = train_run(load_recipe(name, options), tmp_path / "run", materials)
    assert again.info["resumed"] is True
    resumed = load_file(again.adapter / "adapter_model.safetensors")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_mixed_precision_keeps_what_is_trained_in_fp32(materials: Materials, tmp_path: Path) -> None:
    options = (*SMALL, "training.bf16=true", "training.gradient_checkpointing=true", "training.logging_steps=1")
    options += ("backbone.keep_frozen_layers=false", "training.warmup_steps=0")
    run = train_run(load_recipe("quickstart/gss/cuma", options), tmp_path / "run", materials)
    tensors = load_file(run.adapter / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    moved = [tensor.abs().max() for key, tensor in tensors.items() if "lora_B" in key]
    assert min(moved) > 0
    (row,) = [row for row in run.stages()[0].read_log() if "loss" in row]
    assert 0 < row["loss"] < 5
