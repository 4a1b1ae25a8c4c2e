"""From a trained run to predictions and scores."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import Data, Materials, load_survey
from cuma.data.surveys.partial import keep_fields
from cuma.errors import RunError, UnsupportedError
from cuma.evaluation.answer_log import AnswerLog, distinct, fingerprint, rows_fingerprint
from cuma.evaluation.asking import TEST_ROLES, asking_of, load_model, predict
from cuma.evaluation.conversations import evaluate_conversations
from cuma.evaluation.item_nearness import text_encoder
from cuma.evaluation.kinds import kind_of, require_some
from cuma.evaluation.outlook import tell_prompts, tell_time
from cuma.evaluation.predict import for_people, merge_gates
from cuma.evaluation.question_sheet import Sheet, sheet_of
from cuma.evaluation.subject import Subject, subject_of_run
from cuma.metrics import score
from cuma.models.chat_template import is_plain
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run, write_json
from cuma.runs.writer_lock import writing

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
    data = load_survey(subject.recipe) if materials is None else Data(materials.survey, materials.corpus)
    kind = kind_of(*data)
    require_some(kind, subject.recipe.data.benchmark)
    if kind == "conversations":
        evaluate_conversations(subject, materials)
        return subject.folder
    with writing(subject.run.path):
        return _evaluated(subject, materials or Materials.load(subject.recipe, data))


def _evaluated(subject: Subject, materials: Materials) -> Path:
    """The folder of an evaluation that is made now."""
    run, recipe = subject.run, subject.recipe
    sheet = sheet_of(recipe, materials.survey, materials.corpus, materials.kept, text_encoder(materials))
    started = time.monotonic()
    folder = run.evaluation(sheet.benchmark, recipe.digest)
    with load_model(subject, materials) as model:
        predicted, routing, log = _answers(model, subject, materials, sheet, folder / "answers.jsonl")
    protocol = {**subject.protocol, "answers": "logits", "samples": None}
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
    label = subject.run.info["label"]
    with kept:
        tell_prompts(rows, label, sheet.in_orders, tell_time(asking, rows, log, sheet.routed))
        predicted, gates = asking.answer(rows, f"{label}: answering", log, record=sheet.routed)
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
