"""From a recipe to a trained run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, ProgressCallback, set_seed
from trl import SFTConfig

from cuma.benchmarks.catalog import check_benchmark
from cuma.benchmarks.cells import survey_cells
from cuma.benchmarks.tensors import SurveyTokens
from cuma.errors import RunError
from cuma.machine import hardware, versions
from cuma.materials import Materials, profile_in_prompt
from cuma.profile_table import ProfileTable
from cuma.recipe_schema import Recipe, TrainingSection
from cuma.runs import Run, Stage
from cuma.training.batches import tokenise_cells
from cuma.training.checkpoints import SealCheckpoints, newest_whole
from cuma.training.progress import CurvePoint, LearningCurve, LogToStage, ProgressBar
from cuma.training.trainers import CumaSFTTrainer
from cuma.tuner.config import CumaConfig

STAGE = "01-sft"


def train_run(
    recipe: Recipe,
    folder: Path,
    materials: Materials | None = None,
    measure: Callable[[Any], CurvePoint] | None = None,
) -> Run:
    """Train a recipe into a run's folder; a run that was interrupted goes on, a finished one is left alone.

    Args:
        recipe: what to do.
        folder: the run's folder.
        materials: loaded parts, if there are any already.
        measure: measures a model for the learning curve, at the recipe's curve_steps.

    Returns:
        The run, with status "trained".

    Raises:
        BenchmarkError: there is no such benchmark.
        RunError: the folder holds a run of another recipe, or cannot be written.
    """
    check_benchmark(recipe.data.benchmark)  # else a misspelt name would be told as "a run of another recipe"
    run = open_run(recipe, folder)
    if run.info["status"] in ("trained", "evaluated") or recipe.adapter.method == "none":
        if run.info["status"] == "created":
            run.update(status="trained", trainable_parameters=0, seconds={"train": 0.0})
        return run
    materials = materials or Materials.load(recipe)
    run.update(status="training", **materials.provenance())
    set_seed(recipe.seed)
    model = get_peft_model(materials.backbone.model, adapter_config(recipe, materials))
    # The vocabulary is as it was; left to itself PEFT asks the Hub about that at every checkpoint.
    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    try:
        _train(recipe, run, model, materials, measure)
    finally:
        model.unload().eval()  # the very backbone again, for the next run
    return run


def open_run(recipe: Recipe, folder: Path) -> Run:
    """The run in `folder`, made if there is none.

    Raises:
        RunError: it was made with another recipe.
    """
    if not (folder / "run.json").exists():
        info = {
            "name": folder.name,
            "label": recipe.label or recipe.name,
            "description": recipe.description,
            "kind": recipe.kind,
            "seed": recipe.seed,
            "digest": recipe.digest,
            "versions": versions(),
            "hardware": hardware(),
        }
        return Run.create(folder, recipe.to_yaml(), info)
    run = Run.open(folder)
    if run.info.get("digest") != recipe.digest:
        raise RunError(
            f"{folder} holds a run of another recipe (or other settings). Choose another --output-dir, or delete the "
            "folder to start anew."
        )
    return run


def adapter_config(recipe: Recipe, materials: Materials) -> CumaConfig | LoraConfig:
    """The PEFT configuration a recipe describes."""
    adapter = recipe.adapter
    depth = materials.backbone.model.config.num_hidden_layers
    layers = None if adapter.last_layers is None else list(range(max(0, depth - adapter.last_layers), depth))
    common: dict[str, Any] = {
        "r": adapter.r,
        "lora_alpha": adapter.lora_alpha,
        "lora_dropout": adapter.lora_dropout,
        "target_modules": list(adapter.target_modules),
        "layers_to_transform": layers,
        "task_type": "CAUSAL_LM",
    }
    if adapter.method == "lora":
        return LoraConfig(**common)
    return CumaConfig(
        **common,
        num_experts=adapter.num_experts,
        top_k=adapter.top_k,
        router_input=adapter.router_input,
        share_a=adapter.share_a,
        share_router=adapter.share_router,
        router_hidden_dim=adapter.router_hidden_dim,
        profile_dim=materials.table.embeds.shape[1],
        profile_projection_dim=adapter.profile_projection_dim,
        profile_scale=adapter.profile_scale,
        router_aux_loss_coef=adapter.router_aux_loss_coef,
        gating=adapter.gating,
        profile_encoder=materials.encoder_spec,
    )


def _train(recipe: Recipe, run: Run, model: Any, materials: Materials, measure: Any) -> None:
    stage = run.stage(STAGE)
    table = materials.table_for(recipe)
    if table is not None:
        model.fit_profiles(materials.group_embeds(table, ("seen",)))
    trainer = _trainer(recipe, stage, model, materials, table)
    if measure is not None and recipe.training.curve_steps:
        trainer.add_callback(LearningCurve(stage, recipe.training.curve_steps, measure))
    trainer.add_callback(LogToStage(stage))
    trainer.add_callback(SealCheckpoints())
    trainer.add_callback(ProgressBar(run.info["label"]))
    checkpoint = newest_whole(stage.checkpoints)
    stage.rewind(int(checkpoint.name.rpartition("-")[2]) if checkpoint else -1)
    started = time.monotonic()
    with materials.kept_trunk(recipe, model):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model.save_pretrained(stage.adapter)
    shutil.copytree(stage.adapter, run.adapter, dirs_exist_ok=True)
    run.update(
        status="trained",
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        # Of the last start alone if the run was interrupted.
        seconds={"train": round(time.monotonic() - started, 1)},
        resumed=checkpoint is not None,
    )


def _trainer(
    recipe: Recipe, stage: Stage, model: Any, materials: Materials, table: ProfileTable | None
) -> CumaSFTTrainer:
    cells = survey_cells(materials.survey, "train", ("seen",), profile_in_prompt=profile_in_prompt(recipe))
    tokens = SurveyTokens(materials.backbone.tokenizer)
    trainer = CumaSFTTrainer(
        model,
        sft_config(recipe, stage.checkpoints),
        train_dataset=tokenise_cells(cells, tokens),
        processing_class=materials.backbone.tokenizer,
        profile_table=table,
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def sft_config(recipe: Recipe, folder: Path) -> SFTConfig:
    """TRL's configuration for a recipe; checkpoints go to `folder`."""
    training = recipe.training
    return SFTConfig(
        output_dir=str(folder),
        seed=recipe.seed,
        data_seed=recipe.seed,
        max_steps=training.max_steps,
        per_device_train_batch_size=training.per_device_train_batch_size,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        lr_scheduler_type=training.lr_scheduler_type,
        lr_scheduler_kwargs=_decay(training),
        warmup_steps=training.warmup_steps,
        max_grad_norm=training.max_grad_norm,
        logging_steps=training.logging_steps,
        save_steps=training.save_steps,
        save_total_limit=2,
        gradient_checkpointing=training.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if training.gradient_checkpointing else None,
        bf16=training.bf16,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=False,
    )


def _decay(training: TrainingSection) -> dict[str, Any]:
    if training.lr_scheduler_type != "warmup_stable_decay":
        return {}
    return {"num_decay_steps": int(training.decay_ratio * max(0, training.max_steps - training.warmup_steps))}
