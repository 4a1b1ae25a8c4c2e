"""How a recipe's model is asked on this machine: which prompts, which embeddings, which weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
from accelerate import PartialState
from peft import PeftModel

from cuma.answering.adapter_files import taken_off_after
from cuma.answering.letters import SurveyTokens
from cuma.answering.loading import put_on
from cuma.answering.materials import Materials, profile_in_prompt
from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.exemplars import Exemplars
from cuma.data.surveys.survey import Survey
from cuma.evaluation.predict import LocalModel, predict_cells
from cuma.evaluation.subject import Subject
from cuma.people.encoder import ProfileEncoder
from cuma.people.profile_table import ProfileTable
from cuma.people.profiles import Profile
from cuma.recipes.schema import Recipe

TEST_ROLES = ("seen", "test")
"""Groups whose test people are predicted: those trained on, and those held out whole."""


@contextmanager
def load_model(subject: Subject, materials: Materials) -> Iterator[Any]:
    """The subject's model: the shared backbone, with the adapter if it has one, on the accelerator if there is one.

    After the context it is the very backbone again, for the next run.
    """
    base = materials.backbone.model
    if subject.recipe.backbone.quantization is None:  # bitsandbytes places what it quantises
        base.to(PartialState().device)
    with taken_off_after(put_on(base, subject.source)) as model:
        yield model


def steers(recipe: Recipe) -> bool:
    """Whether the model is told anything about who asks."""
    return recipe.data.profile_in != "nowhere" or recipe.data.exemplars > 0


def predict(
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
    """Cells and routing, as `predict_cells` gives them, of one part of a survey (None: the benchmark's own)."""
    survey = survey or materials.survey
    asking = asking_of(model, recipe, materials, survey)
    cells = cells_of(recipe, survey, part, roles)
    with materials.kept_trunk(recipe, model):
        return predict_cells(asking, cells, every_order=every_order, progress=progress)


def cells_of(recipe: Recipe, survey: Survey, part: str, roles: tuple[str, ...]) -> Any:
    """The cells that a recipe asks about."""
    exemplars = None
    if recipe.data.exemplars:
        exemplars = Exemplars(survey, recipe.data.exemplars, recipe.seed)
        roles = tuple(role for role in roles if role == "seen")  # held-out groups have nobody to take them from
    return survey_cells(survey, part, roles, profile_in_prompt=profile_in_prompt(recipe), exemplars=exemplars)


def asking_of(model: Any, recipe: Recipe, materials: Materials, survey: Survey) -> LocalModel:
    """The model with its tokens and, for a router that reads profiles, its people's embeddings."""
    tokens = SurveyTokens(materials.backbone.tokenizer, recipe.evaluation.padding_side)
    table = _table(model, recipe, materials)
    if table is not None:
        table = table.covering([*(group.profile for group in survey.groups), Profile()])
    return LocalModel(model, tokens, table, recipe.evaluation.batch_size)


def _table(model: Any, recipe: Recipe, materials: Materials) -> ProfileTable | None:
    """The embeddings that the router reads. An adapter that was trained on other people keeps their field values."""
    table = materials.table_for(recipe)
    if table is None or not isinstance(model, PeftModel):
        return table
    spec = model.active_peft_config.profile_encoder
    if not spec or spec.get("fields") == table.encoder.spec.get("fields"):
        return table
    return ProfileTable(ProfileEncoder.from_spec(spec), [group.profile for group in materials.survey.groups])
