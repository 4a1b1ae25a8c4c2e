"""From a recipe to a trained run."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from peft import get_peft_model
from transformers import PrinterCallback, ProgressCallback, set_seed

from cuma.answering.adapter_files import load_adapter, save_adapter, taken_off_after
from cuma.answering.materials import Data, Materials, load_survey, require_fields
from cuma.data.catalog import check_benchmark
from cuma.errors import CheckpointError, RecipeError, RunError, UnsupportedError
from cuma.people.encoder import locate_encoder
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run, Stage
from cuma.runs.machine import hardware, versions
from cuma.runs.writer_lock import writing
from cuma.training.adapter_configs import adapter_config
from cuma.training.checkpoints import NAME, newest_whole, require_whole
from cuma.training.final_weights import FinalWeights
from cuma.training.population import population, population_of_shares
from cuma.training.processes import processes
from cuma.training.progress import (
    LearningCurve,
    LogToStage,
    Measure,
    ProgressBar,
    Stopwatch,
    check_trackers,
    keep_beside_the_log,
)
from cuma.training.rewards import check_reward
from cuma.training.stages import (
    PART,
    ROLES,
    grpo_columns,
    require_people,
    require_rows,
    shares_to_train,
    stage_folders,
    stage_trainer,
)
from cuma.training.start import Start, check_same_start, start_of

logger = logging.getLogger(__name__)
DONE = ("trained", "evaluated")
"""Statuses of a run that has nothing left to train."""
SHOWN = 6
"""So many keys in which another recipe differs are named."""


def train_run(
    recipe: Recipe,
    folder: Path,
    materials: Materials | None = None,
    curve: Callable[[Recipe, Materials], Measure | None] | None = None,
    resume_from_checkpoint: Path | bool = True,
) -> Run:
    """Train a recipe into a run's folder; a run that was interrupted goes on, a finished one is left alone.

    Under torchrun or accelerate launch every process calls this, and the main one writes the folder.

    Args:
        recipe: what to do.
        folder: the run's folder.
        materials: loaded parts, if there are any already.
        curve: gives what measures the learning curve at the recipe's curve_steps, in one process only; None: nothing to
            measure.
        resume_from_checkpoint: how the unfinished stage goes on: True from its newest whole checkpoint, if there is
            one; False from its start; a path from that checkpoint of the stage, which must be whole.

    Returns:
        The run, with status "trained".

    Raises:
        BenchmarkError: there is no such benchmark, or it has no rows for one of the stages.
        RecipeError: a tracker is unknown or not installed; the benchmark lacks a column that the recipe's reward reads;
            training is to stop by a learning curve that cannot be measured; the adapter that it starts from does not
            fit.
        CheckpointError: the checkpoint that was named is not whole, or not of the stage that runs.
        RunError: the folder holds a run of another recipe, is in use by another process, or cannot be written.
        UnsupportedError: it was started under FSDP.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1"):
        raise UnsupportedError(
            "`cuma train` saves adapters that every process holds whole, and FSDP shards them. Start it with plain "
            "torchrun (DDP), or use the trainers of cuma.training.trainers."
        )
    world = processes()
    check_trackers(recipe.training.report_to)
    check_benchmark(recipe.data.benchmark)  # else a misspelt name would be told as "a run of another recipe"
    if "grpo" in recipe.pipeline:
        check_reward(recipe, grpo_columns(recipe.data.benchmark))
    start = None if _is_done(folder) else start_of(recipe)
    with writing(folder) if world.is_main_process else nullcontext():
        with world.main_process_first():
            run = open_run(recipe, folder)
        run.writes = world.is_main_process
        _check_resume(recipe, run, resume_from_checkpoint)
        if run.info["status"] in DONE or recipe.adapter.method == "none":
            if run.info["status"] == "created":
                run.update(status="trained", trainable_parameters=0)
            return run
        if start is not None:
            check_same_start(run, start)
        if materials is None:
            data = load_survey(recipe)
            _check_data(recipe, data, start)
            with world.main_process_first():  # it fills the caches
                materials = Materials.load(recipe, data)
        else:
            _check_data(recipe, Data(materials.survey, materials.corpus), start)
        if start is not None:
            materials = start.read_by(materials)
            run.update(init_from=start.entry())
        _train_stages(recipe, run, materials, start, _measure(recipe, materials, curve), resume_from_checkpoint)
        return run


def _is_done(folder: Path) -> bool:
    """Whether a run is trained: what it started from may then be gone."""
    return (folder / "run.json").is_file() and Run.open(folder).info["status"] in DONE


def _check_data(recipe: Recipe, data: Data, start: Start | None) -> None:
    """Raise `BenchmarkError` for what a stage needs and the benchmark lacks, `BackboneError` for an encoder that is
    not here, before a model is loaded."""
    for planned in recipe.pipeline:
        require_rows(planned, recipe, data)
    if recipe.adapter.reads_profile:
        locate_encoder(recipe.encoder.model_name_or_path, recipe.encoder.revision)
        if start is None:
            require_people(recipe, data)
            require_fields(recipe, data.survey)


def _train_stages(
    recipe: Recipe,
    run: Run,
    materials: Materials,
    start: Start | None,
    measure: Measure | None,
    resume_from_checkpoint: Path | bool,
) -> None:
    """Train what is left of the pipeline, each stage on the adapter of the one before."""
    world = processes()
    shares = shares_to_train(recipe.pipeline[0], recipe, materials)
    people = population(materials.survey, PART, ROLES) if shares is None else population_of_shares(shares)
    origin = materials.provenance()
    if start is not None:
        origin["licences"] = {**start.licences(), **origin["licences"]}
    run.update(status="training", **origin, population=people)
    previous: Stage | None = None
    for folder_name, kind in stage_folders(recipe).items():
        stage = run.stage(folder_name)
        if folder_name not in run.info.get("stages", []):
            set_seed(recipe.seed)
            with taken_off_after(_model(recipe, materials, previous, start)) as model:  # for the next stage or run
                _train_stage(recipe, run, stage, kind, model, materials, measure, resume_from_checkpoint)
            resume_from_checkpoint = True  # what was named belongs to the first stage that was not finished
        previous = stage
    assert previous is not None
    if world.is_main_process:
        shutil.copytree(previous.adapter, run.adapter, dirs_exist_ok=True)
    run.update(status="trained")
    world.wait_for_everyone()


def _check_resume(recipe: Recipe, run: Run, resume: Path | bool) -> None:
    """Raise `CheckpointError` for a path that is no checkpoint of the stage that runs; warn of False if none does."""
    done = run.info["status"] in DONE
    stage = next((name for name in stage_folders(recipe) if not done and name not in run.info.get("stages", [])), None)
    if resume is False and stage is None and run.writes:
        logger.warning("%s is trained already, and is left alone. Delete it to train anew.", run.path)
    if not isinstance(resume, Path):
        return
    if stage is None:
        raise CheckpointError(
            f"{run.path} is trained already: nothing goes on from {resume}. Name no checkpoint, or delete the run to "
            "train anew."
        )
    checkpoints = run.stage(stage).checkpoints
    if not NAME.fullmatch(resume.name) or resume.parent.resolve() != checkpoints.resolve():
        raise CheckpointError(
            f"{resume} is no checkpoint of {stage}, the stage that runs. Name one of {checkpoints / 'checkpoint-N'}, "
            "or none: the newest whole one is then taken."
        )


def _measure(recipe: Recipe, materials: Materials, curve: Any) -> Measure | None:
    """What takes the points of the learning curve. A recipe that wants one and cannot have it is told so.

    Raises:
        RecipeError: training is to stop by it (early_stopping_patience).
    """
    world, patience = processes(), recipe.training.early_stopping_patience
    if not recipe.training.curve_steps or (curve is None and patience is None):
        return None
    if "sft" not in recipe.pipeline:  # whose steps curve_steps are
        curve = None
    measure: Measure | None = curve(recipe, materials) if curve is not None and world.num_processes == 1 else None
    if measure is None:
        why = "train_run was given none (curve=…)" if "sft" in recipe.pipeline else "there is no stage sft"
        if curve is not None:
            alone = world.num_processes == 1
            why = "no survey answers are held out for validation" if alone else "it is measured in one process"
        if patience is not None:
            raise RecipeError(
                f"training.early_stopping_patience is {patience}, and there is no learning curve to stop by: {why}. "
                "Set it to null, or train where there is one."
            )
        if world.is_main_process:
            logger.warning("No learning curve (training.curve_steps): %s.", why)
    return measure


def _model(recipe: Recipe, materials: Materials, previous: Stage | None, start: Start | None) -> Any:
    """The backbone with what the previous stage handed on, with the adapter it starts from, or with a fresh one."""
    base = materials.backbone.model
    if previous is not None:
        model = load_adapter(base, previous.adapter, is_trainable=True)
    elif start is not None:
        model = load_adapter(base, start.folder, is_trainable=True, needs_sums=start.strict)
    else:
        model = get_peft_model(base, adapter_config(recipe, materials))
    # The vocabulary is as it was; left to itself PEFT asks the Hub about that at every checkpoint.
    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    return model


def open_run(recipe: Recipe, folder: Path) -> Run:
    """The run in `folder`, made if there is none. One of another recipe that has not trained a step makes way.

    Raises:
        RunError: it was made with another recipe, and trained.
    """
    if (folder / "run.json").exists():
        run = Run.open(folder)
        others = load_recipe(folder / "recipe.yaml")  # keys it does not have yet get their defaults
        if others.digest == recipe.digest:
            return run
        if run.begun:
            raise RunError(
                f"{folder} holds a run of another recipe: {_named(recipe.differences(others))}. Choose another "
                "--output-dir, or delete the folder to start anew."
            )
        logger.warning("%s held a run of another recipe that had not trained a step: it is started anew.", folder)
        (folder / "run.json").unlink()  # first: without it the folder is no run
        shutil.rmtree(folder / "stages", ignore_errors=True)
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


def _named(differences: dict[str, tuple[Any, Any]]) -> str:
    shown = [f"{key} is {there!r} there and {here!r} here" for key, (here, there) in differences.items()]
    more = f", and {len(shown) - SHOWN} more keys" if len(shown) > SHOWN else ""
    return "; ".join(shown[:SHOWN]) + more


def _train_stage(
    recipe: Recipe,
    run: Run,
    stage: Stage,
    kind: str,
    model: Any,
    materials: Materials,
    measure: Measure | None,
    resume_from_checkpoint: Path | bool,
) -> None:
    table = materials.table_for(recipe)
    fresh = table is not None and not model.base_model.cuma_profile[model.active_adapter].fitted
    if table is not None and fresh and materials.corpus is None:  # else the trainer fits on its rows
        model.fit_profiles(materials.group_embeds(table, ("seen",)))
    trainer = stage_trainer(kind, recipe, stage.checkpoints, model, materials, table)
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    keep_beside_the_log(trainer, stage)
    world = processes()
    with world.main_process_first():
        checkpoint = _checkpoint(stage, resume_from_checkpoint, may_remove=world.is_main_process)
    if world.is_main_process:
        stage.rewind(int(checkpoint.name.rpartition("-")[2]) if checkpoint else -1)
    watch = Stopwatch(stage)
    final = FinalWeights(model, recipe.training, measure if kind == "sft" else None)
    trainer.checkpoint_parts = final.parts
    if final.average is not None:
        trainer.add_callback(final.average)  # before the curve, which measures it
    if final.measure is not None:
        trainer.add_callback(LearningCurve(stage, recipe.training.curve_steps, final.measure, watch))
    if final.best is not None:
        trainer.add_callback(final.best)  # behind the curve, whose points it reads
    trainer.add_callback(LogToStage(stage, watch))
    trainer.add_callback(ProgressBar(f"{run.info['label']}: {kind}"))
    started = time.monotonic()
    with materials.kept_trunk(recipe, model):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if world.is_main_process:
        with final.in_place():
            save_adapter(model, stage.adapter)
    world.wait_for_everyone()  # the next stage reads it
    # Of the last start alone if the stage was interrupted.
    seconds = {**run.info.get("seconds", {}), kind: round(time.monotonic() - started, 1)}
    run.update(
        stages=[*run.info.get("stages", []), stage.path.name],
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        seconds=seconds,
        resumed=checkpoint is not None or run.info.get("resumed", False),
        **({} if final.best is None else {"early_stopping": final.best.entry()}),
    )


def _checkpoint(stage: Stage, resume: Path | bool, *, may_remove: bool) -> Path | None:
    """Where the stage goes on; None: at its start."""
    if isinstance(resume, Path):
        return require_whole(resume)
    if not resume and may_remove:
        shutil.rmtree(stage.checkpoints, ignore_errors=True)
    return newest_whole(stage.checkpoints)
