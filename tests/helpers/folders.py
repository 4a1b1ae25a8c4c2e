"""Folders as the loader finds them: a tiny base, adapters over it, runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model

from cuma.answering.adapter_files import save_adapter
from cuma.answering.materials import Materials
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from helpers.served import encoder, tokenizer
from helpers.tiny import adapted, llama

PREFIX = (
    "adapter.method=prefix", "data.profile_in=prompt", "backbone.keep_frozen_layers=false",
    "evaluation.padding_side=right",
)  # fmt: skip
LORA = ("adapter.method=lora", "data.profile_in=prompt")


def tiny_base(**options: Any) -> Any:
    """A random model over SmolLM2's vocabulary."""
    return llama(**({"vocab_size": len(tokenizer()), "pad_token_id": None, "bos_token_id": None} | options))


def base_folder(folder: Path, **options: Any) -> Path:
    """The same with its tokenizer, as a folder."""
    tiny_base(**options).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def tiny_materials(recipe: Recipe, folder: Path) -> Materials:
    """What a recipe names, with a tiny random model in the place of its own."""
    tiny = replace(recipe, backbone=replace(recipe.backbone, model_name_or_path=str(base_folder(folder))))
    return Materials.load(tiny)


def mixture_folder(base: Path, folder: Path, seed: int = 1, **options: Any) -> Path:
    """An adapter of ours, with its manifest."""
    spec = {"profile_encoder": dict(encoder().spec), "profile_dim": encoder().dim, "profile_scale": 20.0} | options
    made = adapted(tiny_base(), seed=seed, **spec)
    made.peft_config["default"].base_model_name_or_path = str(base)
    save_adapter(made, folder)
    return folder


def lora_folder(base: Path, folder: Path) -> Path:
    """A LoRA as PEFT itself writes it, with random weights and without our manifest."""
    model = tiny_base()
    model.name_or_path = str(base)
    config = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def run_folder(folder: Path, *overrides: str, status: str = "trained", recipe: str = "cuma", **info: Any) -> Path:
    """A run of a packaged recipe, without an adapter."""
    made = load_recipe(f"quickstart/gss/{recipe}", overrides)
    Run.create(folder, made.to_yaml(), {"status": status, "kind": made.kind, **info})
    return folder
