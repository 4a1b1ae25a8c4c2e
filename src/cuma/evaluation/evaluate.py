"""From a trained run to predictions and scores."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import Materials, profile_in_prompt
from cuma.data.corpus import Shares
from cuma.data.surveys.cells import askable, share_cells
from cuma.data.surveys.partial import keep_fields
from cuma.errors import RunError, UnsupportedError
from cuma.evaluation.answer_log import AnswerLog, distinct, fingerprint, rows_fingerprint
from cuma.evaluation.asking import TEST_ROLES, asking_of, load_model, predict
from cuma.evaluation.item_nearness import text_encoder
from cuma.evaluation.predict import for_people, merge_gates, predict_cells
from cuma.evaluation.question_sheet import Sheet, sheet_of
from cuma.evaluation.subject import Subject, subject_of_run
from cuma.metrics import score
from cuma.metrics.corners import side_rows
from cuma.models.chat_template import is_plain
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run, write_json
from cuma.runs.writer_lock import writing

CURVE_CELLS = 500
"""Of shares, so many cells at most make the learning curve."""
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
    subject = subject_of_run(folder)
    evaluate_subject(subject, materials)
    return subject.run


def evaluate_subject(subject: Subject, materials: Materials | None = None) -> Path:
    """Let a model on this machine answer for the test people, or groups, and score its answers.

    An evaluation that was stopped goes on where it was; a finished one is left alone.

    Args:
        subject: the model, and how it is asked.
        materials: loaded parts, if there are any already.

    Returns:
        The evaluation's folder.

    Raises:
        BenchmarkError: the benchmark has nothing to compare with. AdapterError: the adapter is damaged or does not fit.
    """
    require_one_process()
    done = subject.run.evaluation_of(subject.recipe.digest)
    if done is not None:
        return done
    subject.require_local()
    with writing(subject.run.path):
        return _evaluated(subject, materials or Materials.load(subject.recipe))


def _evaluated(subject: Subject, materials: Materials) -> Path:
    """The folder of an evaluation that is made now."""
    run, recipe = subject.run, subject.recipe
    sheet = sheet_of(recipe, materials.survey, materials.corpus, text_encoder(materials))
    started = time.monotonic()
    folder = run.evaluation(sheet.benchmark, recipe.digest)
    with load_model(subject, materials) as model:
        predicted, routing, log = _answers(model, subject, materials, sheet, folder / "answers.jsonl")
    protocol = {"prompting": subject.prompting, "answers": "logits", "samples": None}
    if is_plain(materials.backbone.tokenizer):
        protocol["template"] = "plain"
    sheet.write(folder, predicted, routing, protocol)
    log.close()
    seconds = {**run.info.get("seconds", {}), "evaluate": round(time.monotonic() - started, 1)}
    about = {} if run.info["kind"] == "trained" else materials.provenance()  # else it says what it was trained on
    run.update(status="evaluated", seconds=seconds, **about)
    return folder


def _answers(
    model: Any, subject: Subject, materials: Materials, sheet: Sheet, path: Path
) -> tuple[list[np.ndarray], pd.DataFrame, AnswerLog]:
    """Each row's option probabilities, routing.parquet and the log of what was answered, of a subject."""
    recipe = subject.recipe
    asking = asking_of(model, recipe, materials, materials.survey)
    rows, places = distinct(sheet.rows, profiles=asking.table is not None)
    if asking.table is not None:
        asking = replace(asking, table=asking.table.covering(row["profile"] for row in rows))
    adapter = subject.run.info.get("adapter", {}).get("sha256")
    asked = (rows_fingerprint(rows), recipe.digest, adapter, recipe.evaluation.batch_size, "gates by row")
    log = AnswerLog(path, fingerprint(*asked))
    kept = materials.kept_trunk(recipe, model) if sheet.repeats else contextlib.nullcontext()
    with kept:
        predicted, gates = asking.answer(rows, f"{subject.run.info['label']}: answering", log, record=sheet.routed)
    groups = [row["group"] for row in sheet.rows]
    return [predicted[place] for place in places], merge_gates(gates, groups, places), log


def require_one_process() -> None:
    """Raises UnsupportedError under torchrun."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UnsupportedError("`cuma evaluate` runs in one process. Start it without torchrun or accelerate launch.")


def evaluate_partial(subject: Subject, materials: Materials | None = None) -> dict[str, Any]:
    """How good a run's answers are when only a part of each profile is known; written to partial.json beside scores.

    Args:
        subject: the model, and how it was asked; evaluated.
        materials: loaded parts, if there are any already.

    Returns:
        {"seed", "shares", "n": as in scores.json, "seen": [soft EMD {"value", "low", "high"} per share], "unseen": …}.
        At 0 nobody in particular asks, at 1 the whole profile is known. Truth is the whole group's answers throughout.

    Raises:
        RunError: the run is not evaluated yet, or its model reads no profile.
    """
    run, recipe, folder = subject.run, subject.recipe, subject.folder
    if recipe.data.profile_in == "nowhere":
        raise RunError(f"{run.path}: its model reads no profile, so nothing changes when a part of one is missing.")
    subject.require_local()
    materials = materials or Materials.load(recipe)
    result: dict[str, Any] = {"seed": recipe.seed, "shares": list(FIELD_SHARES)}
    with load_model(subject, materials) as model:
        for share in FIELD_SHARES:
            survey = keep_fields(materials.survey, share, seed=recipe.seed)
            bar = f"{run.info['label']}: {share:.0%} of the fields"
            cells, _ = predict(
                model, recipe, materials, "test", TEST_ROLES, every_order=True, progress=bar, survey=survey
            )
            scores = score(for_people(cells, survey, "test"), survey.questions, design=survey.design)
            result["n"] = scores["n"]
            for side in ("seen", "unseen"):
                if side in scores:
                    result.setdefault(side, []).append(scores[side]["soft_emd"])
    write_json(folder / "partial.json", result)
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
    cells, _ = predict(model, recipe, materials, part, roles, every_order=True)
    return for_people(cells, materials.survey, part)


def curve_point(
    recipe: Recipe, materials: Materials, part: str = "test", roles: tuple[str, ...] = TEST_ROLES
) -> Callable[[Any], dict[str, Any]]:
    """A measure for the learning curve: EMD and spread on people of `part`, one order of the letters per cell.

    Nothing is chosen by the test people's curve; it shows when each method gets where. Choices (learning rates) are
    made with part="validation" and the validation groups. Where only shares of groups are known, the curve is of
    `CURVE_CELLS` of their cells, drawn with the recipe's seed.
    """
    shares = None if materials.survey.questions else _curve_shares(recipe, materials, part)

    def measure(model: Any) -> dict[str, Any]:
        if shares is not None:
            scores = _share_scores(model, recipe, materials, shares)
        else:
            cells, _ = predict(model, recipe, materials, part, roles, every_order=False)
            survey = materials.survey
            scores = score(for_people(cells, survey, part), survey.questions, draws=0, design=survey.design)
        return {
            side: {metric: scores[side][metric]["value"] for metric in ("soft_emd", "spread")}
            for side in ("seen", "unseen")
            if side in scores
        }

    return measure


def _curve_shares(recipe: Recipe, materials: Materials, part: str) -> Shares | None:
    """The cells of the learning curve; None if there are none."""
    corpus = materials.corpus
    shares = None if corpus is None else corpus.shares() if part == "test" else corpus.training_shares(part)
    if shares is None:
        return None
    questions = tuple(askable(shares.questions))
    table = side_rows(shares.table)
    table = table[table["question_id"].isin([question.id for question in questions])]
    drawn = table.sample(min(CURVE_CELLS, len(table)), random_state=recipe.seed)
    return Shares(questions, drawn.sort_index().reset_index(drop=True))


def _share_scores(model: Any, recipe: Recipe, materials: Materials, shares: Shares) -> dict[str, Any]:
    """Scores without intervals, one order of the letters per cell."""
    rows = share_cells(shares, profile_in_prompt=profile_in_prompt(recipe), counts=False)
    asking = asking_of(model, recipe, materials, materials.survey)
    if asking.table is not None:
        asking = replace(asking, table=asking.table.covering(rows["profile"]))
    with materials.kept_trunk(recipe, model):
        cells, _ = predict_cells(asking, rows, every_order=False)
    table = shares.table.drop(columns="profile").merge(cells, on=["group", "question_id"], validate="one_to_one")
    return score(table, shares.questions, draws=0)
