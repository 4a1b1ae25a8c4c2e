"""From a trained run to predictions and scores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from peft import PeftModel

from cuma.adapter_files import load_adapter, take_off
from cuma.benchmarks.base import Survey
from cuma.benchmarks.exemplars import Exemplars
from cuma.benchmarks.partial import keep_fields
from cuma.benchmarks.tensors import SurveyTokens
from cuma.errors import BenchmarkError, RunError, UnsupportedError
from cuma.evaluation.predict import for_people, predict_cells
from cuma.materials import Materials, profile_in_prompt
from cuma.metrics import score
from cuma.recipe import load_recipe
from cuma.recipe_schema import Recipe
from cuma.runs import Run, replacing, write_json

TEST_ROLES = ("seen", "test")
"""Groups whose test people are predicted: those trained on, and those held out whole."""
FIELD_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of each profile's fields at which `evaluate_partial` measures."""


def evaluate_run(folder: Path, materials: Materials | None = None) -> Run:
    """Let a run answer for the test people, and score its answers; a finished evaluation is left alone.

    Args:
        folder: the run's folder.
        materials: loaded parts, if there are any already.

    Returns:
        The run, with status "evaluated".

    Raises:
        RunError: the run is not trained yet.
        AdapterError: its adapter is damaged.
        UnsupportedError: it was started in several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UnsupportedError("`cuma evaluate` runs in one process. Start it without torchrun or accelerate launch.")
    run = Run.open(folder)
    if run.info["status"] == "evaluated" and run.evaluations():
        return run
    if run.info["status"] not in ("trained", "evaluated"):
        raise RunError(f"{folder} is not trained yet (status {run.info['status']!r}). Run `cuma train` on it first.")
    recipe = load_recipe(folder / "recipe.yaml")
    materials = materials or Materials.load(recipe)
    if not materials.survey.questions:
        raise BenchmarkError(
            f"{recipe.data.benchmark} has no survey answers, which is what an evaluation compares with. Build one that "
            "has (`cuma data build`), and train on it."
        )
    started = time.monotonic()
    model = load_model(run, recipe, materials)
    try:
        cells, routing = _predict(
            model, recipe, materials, "test", TEST_ROLES, every_order=True, progress=f"{run.info['label']}: answering"
        )
    finally:
        if isinstance(model, PeftModel):
            take_off(model)  # the very backbone again, for the next run
    write_evaluation(run, recipe.digest, for_people(cells, materials.survey, "test"), materials.survey, routing)
    seconds = {**run.info.get("seconds", {}), "evaluate": round(time.monotonic() - started, 1)}
    run.update(status="evaluated", seconds=seconds, **materials.provenance())
    return run


def evaluate_partial(folder: Path, materials: Materials | None = None) -> dict[str, Any]:
    """How good a run's answers are when only a part of each profile is known; written to partial.json beside scores.

    Args:
        folder: the run's folder, evaluated.
        materials: loaded parts, if there are any already.

    Returns:
        {"seed", "shares", "seen": [soft EMD {"value", "low", "high"} per share], "unseen": …}. At 0 nobody in
        particular asks, at 1 the whole profile is known. Truth is the whole group's answers throughout.

    Raises:
        RunError: the run is not evaluated yet, or its model reads no profile.
    """
    run = Run.open(folder)
    if not run.evaluations():
        raise RunError(f"{folder} is not evaluated yet. Run `cuma evaluate {folder}` first.")
    recipe = load_recipe(folder / "recipe.yaml")
    if recipe.data.profile_in == "nowhere":
        raise RunError(f"{folder}: its model reads no profile, so nothing changes when a part of one is missing.")
    materials = materials or Materials.load(recipe)
    model = load_model(run, recipe, materials)
    result: dict[str, Any] = {"seed": recipe.seed, "shares": list(FIELD_SHARES)}
    try:
        for share in FIELD_SHARES:
            survey = keep_fields(materials.survey, share, seed=recipe.seed)
            bar = f"{run.info['label']}: {share:.0%} of the fields"
            cells, _ = _predict(
                model, recipe, materials, "test", TEST_ROLES, every_order=True, progress=bar, survey=survey
            )
            scores = score(for_people(cells, survey, "test"), survey.questions)
            for side in ("seen", "unseen"):
                if side in scores:
                    result.setdefault(side, []).append(scores[side]["soft_emd"])
    finally:
        if isinstance(model, PeftModel):
            take_off(model)
    write_json(run.evaluations()[0] / "partial.json", result)
    return result


def predict_people(
    model: Any, recipe: Recipe, materials: Materials, part: str = "test", roles: tuple[str, ...] = TEST_ROLES
) -> pd.DataFrame:
    """What a model answers for the people of a part, in the form of predictions.parquet; nothing is written.

    Args:
        model: the backbone with an adapter, or without.
        recipe: says where the profile goes.
        materials: the loaded parts.
        part: of the people.
        roles: of the groups.
    """
    cells, _ = _predict(model, recipe, materials, part, roles, every_order=True)
    return for_people(cells, materials.survey, part)


def predict_groups(
    model: Any, recipe: Recipe, materials: Materials, survey: Survey
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a model answers for the tested groups of a survey with other profiles, and how it routes them.

    Args:
        model: the backbone with an adapter, or without.
        recipe: says where the profile goes.
        materials: the loaded parts.
        survey: the benchmark with changed groups.

    Returns:
        cells and routing, as `predict_cells` gives them.
    """
    return _predict(model, recipe, materials, "test", TEST_ROLES, every_order=True, survey=survey)


def load_model(run: Run, recipe: Recipe, materials: Materials) -> Any:
    """The run's model: the shared backbone, with the run's adapter if it has one."""
    if recipe.adapter.method == "none":
        return materials.backbone.model.eval()
    return load_adapter(materials.backbone.model, run.adapter).eval()


def curve_point(
    recipe: Recipe, materials: Materials, part: str = "test", roles: tuple[str, ...] = TEST_ROLES
) -> Callable[[Any], dict[str, Any]]:
    """A measure for the learning curve: EMD and spread on people of `part`, one order of the letters per cell.

    Nothing is chosen by the test people's curve; it shows when each method gets where. Choices (learning rates) are
    made with part="validation" and the validation groups.
    """

    def measure(model: Any) -> dict[str, Any]:
        cells, _ = _predict(model, recipe, materials, part, roles, every_order=False)
        scores = score(for_people(cells, materials.survey, part), materials.survey.questions, draws=0)
        return {
            side: {metric: scores[side][metric]["value"] for metric in ("soft_emd", "spread")}
            for side in ("seen", "unseen")
            if side in scores
        }

    return measure


def write_evaluation(
    run: Run, digest: str, predictions: pd.DataFrame, survey: Survey, routing: pd.DataFrame | None = None
) -> None:
    """Write predictions.parquet, routing.parquet (mixtures only) and scores.json into the run.

    Args:
        run: where to.
        digest: of whatever made the predictions, names the folder with the benchmark.
        predictions: in the form of predictions.parquet.
        survey: the benchmark.
        routing: from `predict_cells`; empty or None: no file.
    """
    folder = run.evaluation(survey.name, digest)
    if routing is not None and len(routing):
        seen = {group.id: group.role == "seen" for group in survey.groups}
        _write_parquet(folder / "routing.parquet", routing.assign(seen=routing["group"].map(seen)))
    scores = {"benchmark": survey.name, **score(predictions, survey.questions)}
    scores["questions"] = [asdict(question) for question in survey.questions]
    write_json(folder / "scores.json", scores)
    _write_parquet(folder / "predictions.parquet", predictions)  # last: it is what marks an evaluation as done


def _predict(
    model: Any,
    recipe: Recipe,
    materials: Materials,
    part: str,
    roles: tuple[str, ...],
    *,
    every_order: bool,
    progress: str | None = None,
    survey: Survey | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    survey = survey or materials.survey
    table = materials.table_for(recipe)
    exemplars = None
    if recipe.data.exemplars:
        exemplars = Exemplars(materials.survey, recipe.data.exemplars, recipe.seed)
        roles = tuple(role for role in roles if role == "seen")  # held-out groups have nobody to take them from
    with materials.kept_trunk(recipe, model):
        return predict_cells(
            model,
            SurveyTokens(materials.backbone.tokenizer, recipe.evaluation.padding_side),
            survey,
            part,
            roles,
            table=None if table is None else table.covering(group.profile for group in survey.groups),
            profile_in_prompt=profile_in_prompt(recipe),
            exemplars=exemplars,
            batch_size=recipe.evaluation.batch_size,
            every_order=every_order,
            progress=progress,
        )


def _write_parquet(path: Path, table: pd.DataFrame) -> None:
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
