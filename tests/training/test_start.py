"""Training that starts from an adapter: it is that adapter, what does not fit is named at once, and it resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from cuma.answering.materials import Materials
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.errors import BenchmarkError, RecipeError, RunError
from cuma.models.backbones import load_backbone
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.training.start import start_of
from cuma.training.train import train_run
from helpers.folders import base_folder

TENSORS = "adapter_model.safetensors"


def built(folder: Path, task: str) -> Path:
    """Forty people of two countries, with a pair each, or a chat."""
    replies: dict[str, Any] = {"chosen": "Yes.", "rejected": "No."} if task == "dpo" else {"completion": "Yes."}
    rows = [
        {"prompt": f"{task} {n}?", **replies, "person_id": f"p{n}", "country": ("Peru", "Kenya")[n % 2]}
        for n in range(40)
    ]
    (folder / f"{task}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build("own", folder / f"{task}.jsonl", folder / task, Options())
    return folder / task


def recipe(data: Path, *overrides: str) -> Recipe:
    small = (f"backbone.model_name_or_path={data.parent / 'base'}", "training.logging_steps=1",
             "adapter.last_layers=1", "adapter.num_experts=2", "adapter.r=2", "training.max_steps=2",
             "training.save_steps=1", "training.per_device_train_batch_size=2", "training.curve_steps=[]",
             "dpo.max_steps=2", "dpo.per_device_train_batch_size=2", "backbone.keep_frozen_layers=false")  # fmt: skip
    return load_recipe("default", (*small, f"data.benchmark={data}", *overrides))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with chats, pairs, and a run of sft on the chats."""
    folder = tmp_path_factory.mktemp("engineer")
    base_folder(folder / "base")
    chats, _ = built(folder, "sft"), built(folder, "dpo")
    train_run(recipe(chats), folder / "run")
    return folder


def after(home: Path, *overrides: str) -> Recipe:
    return recipe(home / "dpo", "pipeline=[dpo]", f"adapter.init_from={home / 'run'}", *overrides)


def test_dpo_starts_at_the_adapter_and_says_so(home: Path, tmp_path: Path) -> None:
    run = train_run(after(home, "dpo.learning_rate=1e-12"), tmp_path / "dpo")
    before, now = load_file(home / "run" / "adapter" / TENSORS), load_file(run.adapter / TENSORS)
    assert before.keys() == now.keys()
    assert all(torch.allclose(before[name], now[name], atol=1e-6) for name in before)
    first = next(row["loss"] for row in run.stage("01-dpo").read_log() if "loss" in row)
    assert first == pytest.approx(0.70, abs=0.03)  # ln 2 and the balance loss: policy and reference are one
    assert run.info["init_from"]["name"] == "run"
    moved = load_file(train_run(after(home), tmp_path / "moved").adapter / TENSORS)
    assert any(not torch.equal(before[name], moved[name]) for name in before)


def test_an_interrupted_one_goes_on_to_the_same_weights(home: Path, tmp_path: Path) -> None:
    whole = train_run(after(home), tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    cut = Run.open(tmp_path / "cut")
    shutil.rmtree(cut.adapter)
    shutil.rmtree(cut.stage("01-dpo").adapter)
    shutil.rmtree(cut.stage("01-dpo").checkpoints / "checkpoint-2")
    cut.update(status="training", stages=[])
    resumed = train_run(after(home), tmp_path / "cut")
    assert resumed.info["resumed"]
    one, two = load_file(whole.adapter / TENSORS), load_file(resumed.adapter / TENSORS)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_adapter_in_its_place_is_told(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "run", tmp_path / "start")
    asked = recipe(home / "dpo", "pipeline=[dpo]", f"adapter.init_from={tmp_path / 'start'}")
    run = train_run(asked, tmp_path / "dpo")
    run.update(status="training", stages=[], init_from={"name": "start", "sha256": "another"})
    with pytest.raises(RunError, match="began with another adapter"):
        train_run(asked, tmp_path / "dpo")
    run.update(status="trained")
    shutil.rmtree(tmp_path / "start")
    assert train_run(asked, tmp_path / "dpo").info["status"] == "trained"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("adapter.r=4", "adapter.r is 2 there and 4 here"),
        ("adapter.target_modules=[q_proj]", r"adapter.target_modules is \['q_proj', 'v_proj'\] there and \['q_proj'\]"),
        ("adapter.last_layers=2", "adapter.last_layers is 1 there and 2 here"),
        ("encoder.fields=false", "encoder.fields is True there and False here"),
        ("encoder.template=Hi {profile}", "encoder.template"),
        ("encoder.model_name_or_path=other", "encoder.model_name_or_path is 'minilm' there and 'other' here"),
        ("backbone.model_name_or_path=other", "backbone.model_name_or_path is '.*base' there and 'other' here"),
        ("data.shuffle_profiles=true", "data.shuffle_profiles is False there and True here"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_loaded(
    home: Path, tmp_path: Path, override: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Materials, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(RecipeError, match=words):
        train_run(after(home, override), tmp_path / "dpo")
    assert not (tmp_path / "dpo").exists()


def test_what_is_no_adapter_is_named(home: Path, tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RecipeError, match="neither a run"):
            start_of(recipe(home / "dpo", f"adapter.init_from={wrong}"))
    with pytest.raises(RecipeError, match=r"name what it starts from, .*: adapter\.init_from=FOLDER"):
        recipe(home / "dpo", "pipeline=[dpo]")


def test_data_that_a_stage_lacks_are_told_before_anything_is_loaded(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Materials, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(BenchmarkError, match="neither rows for 'dpo' nor survey answers; to train on it has sft"):
        train_run(recipe(home / "sft", "pipeline=[sft,dpo]"), tmp_path / "run")


def test_an_adapter_that_peft_saved_is_a_start(home: Path, tmp_path: Path) -> None:
    model = get_peft_model(
        load_backbone(str(home / "base")).model,
        LoraConfig(
            r=2, lora_alpha=16, target_modules=["q_proj", "v_proj"], layers_to_transform=[1], task_type="CAUSAL_LM"
        ),
    )
    model.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    lora = ("pipeline=[dpo]", f"adapter.init_from={tmp_path / 'lora'}", "adapter.method=lora",
            "data.profile_in=prompt", "encoder.fields=false")  # fmt: skip
    run = train_run(recipe(home / "dpo", *lora), tmp_path / "dpo")
    assert run.info["licences"]["adapter lora"] == "unknown"
    with pytest.raises(RecipeError, match=r"adapter\.method is 'lora' there and 'dora' here"):
        start_of(recipe(home / "dpo", *lora, "adapter.method=dora"))


def test_data_that_know_nobody_are_told_before_anything_is_loaded(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"Chat {n}?", "completion": "Yes."} for n in range(30)]
    (tmp_path / "nobody.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build("own", tmp_path / "nobody.jsonl", tmp_path / "nobody", Options())
    monkeypatch.setattr(Materials, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(BenchmarkError, match="fewer than two kinds of people"):
        train_run(recipe(tmp_path / "nobody", "encoder.fields=false"), tmp_path / "run")
