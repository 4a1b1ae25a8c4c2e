"""The learning curve: how well a model answers validation people while it trains. The test is never looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import Materials, profile_in_prompt
from cuma.data.corpus import Shares
from cuma.data.surveys.cells import askable, share_cells
from cuma.data.surveys.survey import Survey
from cuma.evaluation.asking import asking_of, cells_of
from cuma.evaluation.predict import for_people, predict_cells
from cuma.metrics import score
from cuma.metrics.corners import ITEM_SEEN
from cuma.recipes.schema import Recipe

VALIDATION_ROLES = ("seen", "validation")
"""Groups and items whose validation answers choices are made by, and learning curves made of."""
CURVE_CELLS = 400
"""So many cells at most make the learning curve, as many of each corner as there are."""


def curve_point(
    recipe: Recipe, materials: Materials, cells: int | None = CURVE_CELLS
) -> Callable[[Any], dict[str, Any]] | None:
    """A measure for the learning curve: EMD and spread on validation answers, one order of the options per cell.

    These are validation people, of seen groups and of validation groups, on seen and validation items; or, where only
    shares of groups are known, the cells kept for validation. The test is never looked at, so that rates, steps and
    methods may be chosen by the curve.

    cells: at most so many, drawn with the recipe's seed, evenly over the corners; None: all. Returns None where nothing
    is kept for validation.
    """
    survey = materials.survey
    if survey.questions:
        if not any(counts.sum() for counts in survey.counts("validation", VALIDATION_ROLES)["counts"]):
            return None
        return partial(_survey_point, recipe, materials, _curve_cells(recipe, survey, cells))
    shares = None if materials.corpus is None else materials.corpus.training_shares("validation")
    if shares is None:
        return None
    questions = tuple(askable(shares.questions))
    table = shares.table[shares.table["question_id"].isin([question.id for question in questions])]
    drawn = table.iloc[_even(table, cells, recipe.seed)].reset_index(drop=True)
    return partial(_shares_point, recipe, materials, Shares(questions, drawn))


def _curve_cells(recipe: Recipe, survey: Survey, most: int | None) -> Any:
    """The cells that make a survey's curve, each in all its orders."""
    whole = cells_of(recipe, survey, "validation", VALIDATION_ROLES)
    keys = whole.to_pandas()[["group", "question_id"]]
    each = keys.drop_duplicates()
    seen = {group.id: group.role == "seen" for group in survey.groups}
    items = {question.id: question.role == "seen" for question in survey.questions}
    table = each.assign(**{"seen": each["group"].map(seen), ITEM_SEEN: each["question_id"].map(items)})
    drawn = table.iloc[_even(table, most, recipe.seed)]
    taken = keys.merge(drawn, how="left", on=["group", "question_id"])["seen"].notna()
    return whole.select(np.flatnonzero(taken.to_numpy()))


def _even(table: pd.DataFrame, most: int | None, seed: int) -> list[int]:
    """Rows of a table of cells: at most so many, as many of each corner as it has, in their order."""
    lots = np.random.default_rng([seed, 4]).permutation(len(table))
    sides = [name for name in ("seen", ITEM_SEEN) if name in table]
    turn = table.assign(lot=lots).groupby(sides)["lot"].rank()
    return sorted(np.lexsort((lots, turn))[:most].tolist())


def _survey_point(recipe: Recipe, materials: Materials, cells: Any, model: Any) -> dict[str, Any]:
    """One point of the curve on people's answers."""
    asking = asking_of(model, recipe, materials, materials.survey)
    with materials.kept_trunk(recipe, model):
        predicted, _ = predict_cells(asking, cells, every_order=False)
    survey = materials.survey
    people = for_people(predicted, survey, "validation")
    return _point(score(people, survey.questions, draws=0, design=survey.design))


def _shares_point(recipe: Recipe, materials: Materials, shares: Shares, model: Any) -> dict[str, Any]:
    """One point of the curve on groups' shares."""
    rows = share_cells(shares, profile_in_prompt=profile_in_prompt(recipe), counts=False)
    asking = asking_of(model, recipe, materials, materials.survey)
    if asking.table is not None:
        asking = replace(asking, table=asking.table.covering(rows["profile"]))
    with materials.kept_trunk(recipe, model):
        cells, _ = predict_cells(asking, rows, every_order=False)
    table = shares.table.drop(columns="profile").merge(cells, on=["group", "question_id"], validate="one_to_one")
    return _point(score(table, shares.questions, draws=0))


def _point(scores: dict[str, Any]) -> dict[str, Any]:
    """What the log keeps of the scores."""

    def values(part: dict[str, Any]) -> dict[str, Any]:
        return {metric: part[metric]["value"] for metric in ("soft_emd", "spread")}

    point: dict[str, Any] = {side: values(scores[side]) for side in ("seen", "unseen") if side in scores}
    if "corners" in scores:
        point["corners"] = {corner: values(part) for corner, part in scores["corners"].items()}
    return point
