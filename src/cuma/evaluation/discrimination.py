"""Which of four replies a person prefers, asked of a model: Community Alignment's test, and that of data like it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from peft import PeftModel

from cuma.adapter_files import take_off
from cuma.benchmarks.prompts import letter_orders, told_who_asks
from cuma.benchmarks.tensors import mean_over_orders
from cuma.data.corpus import Corpus
from cuma.data.preferences import reordered
from cuma.data.splits import UNSEEN
from cuma.errors import BenchmarkError
from cuma.evaluation.answer_log import AnswerLog, fingerprint, rows_fingerprint
from cuma.evaluation.asking import asking_of, load_model
from cuma.evaluation.evaluate import require_one_process
from cuma.evaluation.subject import Subject
from cuma.evaluation.write import write_parquet
from cuma.materials import Materials, load_survey, profile_in_prompt
from cuma.metrics.discrimination import discrimination
from cuma.profiles import Profile
from cuma.runs import read_json, write_json

TASK = "discrimination"
SPLITS = ("test", UNSEEN)
ABOUT = ("person", "group", "seen", "answer")


def has_choices(corpus: Corpus | None) -> bool:
    """Whether a built folder has test people's choices among replies."""
    return bool(corpus is not None and _choices(corpus))


def evaluate_discrimination(subject: Subject) -> dict[str, Any]:
    """Let a model on this machine say which reply each test person prefers: discrimination.json and .parquet.

    The replies are shown in every rotation, so that a preference for a letter gains nothing. An evaluation that was
    stopped goes on where it was; a finished one is left alone.

    Args:
        subject: the model, and how it is told who asks.

    Returns:
        As `cuma.metrics.discrimination.discrimination`.

    Raises:
        BenchmarkError: the benchmark has no such choices.
    """
    require_one_process()
    subject.require_local()
    recipe = subject.recipe
    survey, corpus = load_survey(recipe)
    choices = _choices(corpus) if corpus is not None else []
    if not choices:
        raise BenchmarkError(f"{recipe.data.benchmark} has no test people who chose among replies.")
    folder = subject.run.evaluation(survey.name, recipe.digest)
    rows = [row for number, choice in enumerate(choices) for row in _rows(number, choice, profile_in_prompt(recipe))]
    adapter = subject.run.info.get("adapter", {}).get("sha256")
    asked = fingerprint(rows_fingerprint(rows), recipe.digest, adapter, recipe.evaluation.batch_size)
    file = folder / f"{TASK}.json"
    if file.is_file() and read_json(file)["asked"] == asked:
        return read_json(file)
    log = AnswerLog(folder / f"{TASK}.jsonl", asked)
    table = pd.DataFrame([{name: choice[name] for name in ABOUT} for choice in choices])
    table["person"] = pd.factorize(table["person"])[0]  # a running number, not the data's own id
    said = _said(subject, rows, log)
    orders = len(rows) // len(choices)
    answers = [mean_over_orders(said[start : start + orders]) for start in range(0, len(said), orders)]
    table["probabilities"] = [shares for shares, _ in answers]
    table["option_mass"] = [mass for _, mass in answers]
    result = {**discrimination(table), "prompting": subject.prompting, "asked": asked}
    write_parquet(folder / f"{TASK}.parquet", table)
    write_json(file, result)
    log.close()
    return result


def _choices(corpus: Corpus) -> list[dict[str, Any]]:
    """The test people's, with person, group, seen, profile, prompt, options and answer."""
    splits = corpus.rows(TASK) or {}
    rows = [(split, row) for split in SPLITS if split in splits for row in splits[split]]
    return [{**row, "person": row["person_id"], "seen": split != UNSEEN} for split, row in rows]


def _rows(number: int, choice: dict[str, Any], in_prompt: bool) -> list[dict[str, Any]]:
    """The choice in each of its letter orders."""
    profile = Profile.parse(choice["profile"])
    return [
        {
            "group": choice["group"],
            "question_id": str(number),
            "order": list(order),
            "profile": profile.fields,
            "prompt": told_who_asks(
                reordered(choice["prompt"], choice["options"], order), profile.sentence if in_prompt else ""
            ),
        }
        for order in letter_orders(len(choice["options"]))
    ]


def _said(subject: Subject, rows: list[dict[str, Any]], log: AnswerLog) -> list[np.ndarray]:
    materials = Materials.load(subject.recipe)
    model = load_model(subject, materials)
    try:
        asking = asking_of(model, subject.recipe, materials, materials.survey)
        if asking.table is not None:
            asking = replace(asking, table=asking.table.covering(row["profile"] for row in rows))
        return asking.answer(rows, f"{subject.run.info['label']}: choosing", log, record=False)[0]
    finally:
        if isinstance(model, PeftModel):
            take_off(model)
