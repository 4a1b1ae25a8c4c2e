"""What a model is asked on a benchmark, and what becomes of its answers.

Three kinds: people's answers to survey questions, published shares of whole groups, and choices among replies. All are
asked alike, as rows with lettered options.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import as_routed, profile_in_prompt
from cuma.data.corpus import Corpus, Shares
from cuma.data.surveys.cells import askable, cell_rows, unsteered_rows
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import Survey
from cuma.errors import BenchmarkError, MissingModelError
from cuma.evaluation.anchor_data import Known, known_of_shares, known_of_survey
from cuma.evaluation.anchors import beside
from cuma.evaluation.asking import TEST_ROLES, cells_of, steers
from cuma.evaluation.choices import choice_rows, choices_of, write_choices
from cuma.evaluation.evaluation_files import (
    Write,
    all_scores,
    people_rows,
    seen_groups,
    survey_scores,
    write_answers,
    write_parquet,
)
from cuma.evaluation.item_nearness import Encode, item_nearness
from cuma.evaluation.kinds import kind_of, require_some
from cuma.evaluation.predict import merge_orders
from cuma.people.encoder import ProfileEncoder
from cuma.people.profiles import Profile
from cuma.recipes.schema import Recipe
from cuma.runs.anchor_file import NAME as ANCHORS_FILE


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is asked."""

    benchmark: str
    """The name that the evaluation's folder begins with."""
    rows: list[dict[str, Any]]
    """group, question_id, order, prompt and profile of each, in the order in which they are asked."""
    write: Write
    """Writes the files of an evaluation."""
    repeats: bool
    """Whether many rows have the same prompt, so that keeping what frozen layers make of it pays."""
    routed: bool = True
    """Whether a mixture's gates are recorded."""
    in_orders: bool = True
    """Whether questions are asked in as many orders as the recipe says."""


def sheet_of(
    recipe: Recipe,
    survey: Survey,
    corpus: Corpus | None,
    kept: MutableMapping[str, Any] | None = None,
    encode: Encode | None = None,
) -> Sheet:
    """What a recipe's benchmark asks. Raises BenchmarkError for one that asks nothing, and few-shot without people.

    kept: of `Materials`. What anchors say and score is worked out once and stays there, for it is the same beside any
        model.
    encode: for how near held-out items are to those of training; None: by their words alone.
    """
    kept = {} if kept is None else kept
    kind = kind_of(survey, corpus)
    if kind == "answers":
        return _people_sheet(recipe, survey, kept, encode)
    if kind == "conversations":
        raise BenchmarkError(
            f"{recipe.data.benchmark} has conversations or preference pairs, which need the model's weights on this "
            "machine. Of a model behind a server, --replies and --judge measure its replies."
        )
    require_some(kind, recipe.data.benchmark)
    assert corpus is not None  # only folders have anything but answers
    if recipe.data.exemplars:
        raise BenchmarkError(
            f"Few-shot shows survey answers of training people, and {recipe.data.benchmark} has none. Ask with "
            "--prompting persona or none."
        )
    shares = corpus.shares()
    if shares is not None:
        return _shares_sheet(recipe, survey.name, shares, corpus, kept, encode)
    choices = choices_of(corpus)
    return Sheet(
        survey.name, choice_rows(choices, profile_in_prompt(recipe)), write_choices(choices), False, False, False
    )


def _people_sheet(recipe: Recipe, survey: Survey, kept: MutableMapping[str, Any], encode: Encode | None) -> Sheet:
    cells = cells_of(recipe, survey, "test", TEST_ROLES).to_list()
    rows = cells + (unsteered_rows(survey.with_roles(TEST_ROLES)) if steers(recipe) else [])

    def write(
        folder: Path, predicted: list[np.ndarray], routing: pd.DataFrame | None, protocol: Mapping[str, Any]
    ) -> None:
        predictions = people_rows(rows, predicted, len(cells), survey)
        scores = survey_scores(predictions, survey, protocol)
        training = [question for question in survey.questions if question.role == "seen"]
        scores |= item_nearness(predictions, survey.questions, training, encode, survey.design)
        if len(training) < len(survey.questions):
            key = f"anchors, {recipe.data.exemplars} answers shown"  # which are of seen groups and items alone
            if key not in kept:
                known = _read(known_of_survey(survey), recipe)
                kept[key] = beside(known, predictions, survey.questions, survey.design)
            _write_anchors(folder, kept[key], scores)
        write_answers(folder, predictions, scores, routing, seen_groups(survey), survey.design)

    return Sheet(survey.name, rows, write, repeats=True)


def _read(known: Known, recipe: Recipe) -> Known:
    """What is known, read with the recipe's encoder. One that is not here leaves out the anchors that read, and
    scores.json says so."""
    encoder = recipe.encoder
    try:
        encode = ProfileEncoder.from_pretrained(
            encoder.model_name_or_path, revision=encoder.revision, template=encoder.template
        )
    except MissingModelError as error:
        return replace(known, no_encoder=str(error))
    profiles = [group.profile for group in known.groups]
    return known.read(encode, as_routed(encode, recipe, known.groups)(profiles))


def _write_anchors(folder: Path, anchors: tuple[pd.DataFrame, dict[str, Any]], scores: dict[str, Any]) -> None:
    rows, scores["anchors"] = anchors
    write_parquet(folder / ANCHORS_FILE, rows)


def _shares_sheet(
    recipe: Recipe,
    name: str,
    shares: Shares,
    corpus: Corpus,
    kept: MutableMapping[str, Any],
    encode: Encode | None,
) -> Sheet:
    """Every question in every letter order, for every group whose shares of it are known.

    A model that is not told who asks is asked every question once, and its answer stands for all groups. Anchors stand
    beside the model's predictions: they know what was trained on.
    """
    in_prompt = profile_in_prompt(recipe)
    questions = {question.id: question for question in askable(shares.questions)}
    table = shares.table[shares.table["question_id"].isin(list(questions))].reset_index(drop=True)
    if table.empty:
        raise BenchmarkError(f"{name}: no test question has at most {len(LETTERS)} options, one letter each.")
    steered = [
        row
        for group, question, profile in table[["group", "question_id", "profile"]].itertuples(index=False)
        for row in cell_rows(group, questions[question], partial(Profile.parse, profile), in_prompt)
        if steers(recipe)
    ]
    rows = steered + unsteered_rows(questions.values())
    left_out = len(shares.questions) - len(questions)

    def write(
        folder: Path, predicted: list[np.ndarray], routing: pd.DataFrame | None, protocol: Mapping[str, Any]
    ) -> None:
        keys = pd.DataFrame({name: [row[name] for row in rows] for name in ("group", "question_id")})
        alone = merge_orders(keys[len(steered) :], predicted[len(steered) :]).drop(columns="group")
        predictions = table.drop(columns="profile")
        if steered:
            cells = merge_orders(keys[: len(steered)], predicted[: len(steered)])
            predictions = predictions.merge(cells, on=["group", "question_id"], validate="one_to_one")
            unsteered = alone.set_index("question_id")["probabilities"]
            predictions["unsteered"] = predictions["question_id"].map(unsteered)
        else:
            predictions = predictions.merge(alone, on="question_id", validate="many_to_one")
        facts = {**protocol, "questions_with_too_many_options": left_out}
        asked = tuple(questions.values())
        scores = all_scores(predictions, name, asked, False, facts)
        training = corpus.training_shares()
        scores |= item_nearness(predictions, asked, () if training is None else training.questions, encode)
        if "anchors" not in kept:
            told = known_of_shares(name, training, corpus.training_shares("validation"), Shares(asked, table))
            kept["anchors"] = beside(_read(told, recipe), predictions, asked)
        _write_anchors(folder, kept["anchors"], scores)
        write_answers(folder, predictions, scores, routing, dict(zip(table["group"], table["seen"], strict=True)))

    return Sheet(name, rows, write, repeats=True)
