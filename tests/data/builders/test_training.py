"""What each builder writes goes straight into TRL's trainers, its own and ours, with the real model. No glue."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk
from peft import LoraConfig, get_peft_model
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from cuma import CumaConfig
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.models.backbones import Backbone, load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.trainers import CumaDPOTrainer, CumaSFTTrainer
from helpers.make_preferences import community_rows, prism_people, prism_talks, write_community, write_prism
from helpers.make_wvb import write_full_size, write_metadata
from helpers.preferences import COMMON


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("smollm2-135m")


@pytest.fixture(scope="module")
def encoder() -> ProfileEncoder:
    return ProfileEncoder.from_pretrained("minilm")


def wvb(folder: Path) -> Path:
    folder.mkdir()
    write_metadata(folder)
    questions, codebook = (
        json.loads((folder / name).read_text()) for name in ("question_metadata.json", "codebook.json")
    )
    write_full_size(folder, 200, questions, codebook, columns=10)
    return folder


def opinions(file: Path) -> Path:
    shares = "defaultdict(<class 'list'>, {'France': [0.4, 0.6], 'Japan': [0.7, 0.3]})"
    rows = [[f"Is thing {number} good?", shares, "['Yes', 'No']", "GAS"] for number in range(20)]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([["question", "selections", "options", "source"], *rows])
    return file


SOURCES: dict[str, Callable[[Path], Path | None]] = {
    "wvb": lambda path: wvb(path / "wvb"),
    "prism": lambda path: write_prism(path / "prism", prism_people(), prism_talks()),
    "community": lambda path: write_community(path / "ca.csv", community_rows()),
    "global_opinions": lambda path: opinions(path / "opinions.csv"),
    "gss": lambda path: None,
    "wvs": lambda path: None,
}

TRAINERS: dict[str, tuple[Any, Any, Any]] = {
    "sft": (SFTConfig, SFTTrainer, CumaSFTTrainer),
    "dpo": (DPOConfig, DPOTrainer, CumaDPOTrainer),
}
ONE_A_STEP = {**COMMON, "per_device_train_batch_size": 1}


def mixture(model: Any) -> Any:
    config = CumaConfig(
        r=2, num_experts=2, top_k=1, target_modules=["q_proj"], layers_to_transform=[29], layers_pattern="layers",
        profile_dim=384,
    )  # fmt: skip
    return get_peft_model(model, config)


def plain(model: Any) -> Any:
    return get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[29], layers_pattern="layers")
    )


@pytest.mark.parametrize("name", SOURCES)
def test_it_goes_straight_into_trl(tmp_path: Path, name: str, backbone: Backbone, encoder: ProfileEncoder) -> None:
    build(name, SOURCES[name](tmp_path), tmp_path / "built", Options(rows=200, sample=60))
    tasks = [task for task in TRAINERS if (tmp_path / "built" / task).is_dir()]
    assert tasks == (["sft"] if name in ("wvb", "global_opinions") else ["sft", "dpo"])
    for task in tasks:
        rows = load_from_disk(tmp_path / "built" / task)["train"].shuffle(seed=0).select(range(4))
        config, stock, ours = TRAINERS[task]
        trainers = [(stock, plain, {})]
        if name in ("wvb", "prism"):  # one of the surveys and one of the preference data: the rest has the same columns
            trainers.append((ours, mixture, {"profile_encoder": encoder}))
        for trainer_class, adapt, people in trainers:
            model = adapt(backbone.model)
            trainer = trainer_class(
                model,
                args=config(output_dir=str(tmp_path / "run"), max_length=192, **ONE_A_STEP),
                train_dataset=rows,
                processing_class=backbone.tokenizer,
                **people,
            )
            assert trainer.train().global_step == 2
            assert any(p.abs().sum() > 0 for n, p in model.named_parameters() if "lora_B" in n)  # zero when untrained
            model.unload()
