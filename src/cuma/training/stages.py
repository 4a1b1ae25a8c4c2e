"""One stage of a recipe as one of TRL's trainers: its configuration, its rows, its people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, GRPOConfig, SFTConfig

from cuma.benchmarks.answers import preference_pairs, survey_answers
from cuma.benchmarks.cells import survey_cells
from cuma.benchmarks.tensors import SurveyTokens
from cuma.materials import Materials, profile_in_prompt
from cuma.profile_table import ProfileTable
from cuma.recipe_schema import DpoSection, GrpoSection, Recipe, TrainingSection
from cuma.training.batches import tokenise_cells
from cuma.training.rewards import REWARDS
from cuma.training.trainers import CumaDPOTrainer, CumaGRPOTrainer, CumaSFTTrainer

PART, ROLES = "train", ("seen",)
"""Whose answers are trained on, in every stage."""


def stage_folders(recipe: Recipe) -> dict[str, str]:
    """Folder ("01-sft") → stage ("sft"), in the order in which they run."""
    return {f"{place:02d}-{stage}": stage for place, stage in enumerate(recipe.pipeline, 1)}


def stage_trainer(
    stage: str, recipe: Recipe, folder: Path, model: Any, materials: Materials, table: ProfileTable | None
) -> Any:
    """The trainer of one stage.

    Args:
        stage: "sft", "dpo" or "grpo".
        recipe: says how.
        folder: where checkpoints go.
        model: the PeftModel to train; dpo and grpo start from, and measure against, the adapter as it comes in.
        materials: the loaded parts.
        table: the embeddings that the router reads, if it reads any.
    """
    tokenizer = materials.backbone.tokenizer
    common: dict[str, Any] = {"processing_class": tokenizer, "profile_table": table}
    if stage == "sft":
        cells = survey_cells(materials.survey, PART, ROLES, profile_in_prompt=profile_in_prompt(recipe))
        rows = tokenise_cells(cells, SurveyTokens(tokenizer))
        return CumaSFTTrainer(model, sft_config(recipe, folder), train_dataset=rows, **common)
    if stage == "dpo":
        pairs = preference_pairs(_answers(recipe, materials), seed=recipe.seed)
        return CumaDPOTrainer(model, dpo_config(recipe, folder), train_dataset=pairs, **common)
    reward = REWARDS[recipe.grpo.reward].make(recipe)
    rows = _answers(recipe, materials)
    return CumaGRPOTrainer(model, reward, grpo_config(recipe, folder), train_dataset=rows, **common)


def _answers(recipe: Recipe, materials: Materials) -> Dataset:
    return survey_answers(materials.survey, PART, ROLES, profile_in_prompt=profile_in_prompt(recipe), seed=recipe.seed)


def sft_config(recipe: Recipe, folder: Path) -> SFTConfig:
    """TRL's configuration of the SFT stage; checkpoints go to `folder`."""
    return SFTConfig(**_common(recipe, recipe.training, folder))


def dpo_config(recipe: Recipe, folder: Path) -> DPOConfig:
    """TRL's configuration of the DPO stage."""
    return DPOConfig(**_common(recipe, recipe.dpo, folder), beta=recipe.dpo.beta)


def grpo_config(recipe: Recipe, folder: Path) -> GRPOConfig:
    """TRL's configuration of the GRPO stage."""
    section = recipe.grpo
    return GRPOConfig(
        **_common(recipe, section, folder),
        beta=section.beta,
        num_generations=section.num_generations,
        max_completion_length=section.max_completion_length,
        temperature=section.temperature,
    )


def _common(recipe: Recipe, stage: TrainingSection | DpoSection | GrpoSection, folder: Path) -> dict[str, Any]:
    """What a stage sets for itself, over what it has in common with the SFT stage."""
    training = recipe.training
    return {
        "output_dir": str(folder),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "max_steps": stage.max_steps,
        "per_device_train_batch_size": stage.per_device_train_batch_size,
        "learning_rate": stage.learning_rate,
        "lr_scheduler_type": stage.lr_scheduler_type,
        "lr_scheduler_kwargs": _decay(stage),
        "warmup_steps": stage.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "logging_steps": training.logging_steps,
        "save_steps": training.save_steps,
        "save_total_limit": 2,
        "gradient_checkpointing": training.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if training.gradient_checkpointing else None,
        "bf16": training.bf16,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
    }


def _decay(stage: TrainingSection | DpoSection | GrpoSection) -> dict[str, Any]:
    if stage.lr_scheduler_type != "warmup_stable_decay":
        return {}
    return {"num_decay_steps": int(stage.decay_ratio * max(0, stage.max_steps - stage.warmup_steps))}
