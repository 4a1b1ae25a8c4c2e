"""Which experts serve which side of which item, and how much the two have to do with each other.

An untrained router separates groups as well, because it reads who asks, and who asks goes with how they answer. So no
figure here says anything by itself: the same before training stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import Materials
from cuma.data.surveys.survey import Survey
from cuma.evaluation.asking import asking_of, cells_of
from cuma.metrics.pointwise import Floats
from cuma.privacy.small_groups import MIN_PEOPLE
from cuma.recipes.schema import Recipe

PERMUTATIONS, SEED = 1000, 0
PEOPLE = 20
"""A group takes part in an item that so many of its training people answered."""
FEWEST = 3
"""An item takes part if so many groups are on each side."""
OTHER = -1


def sides_point(model: Any, recipe: Recipe, materials: Materials) -> dict[str, Any]:
    """Of a mixture, as it is: {"items": …, "information": …}, as `describe_sides` gives them."""
    sides = sides_of(materials.survey)
    gates = gate_table(model, recipe, materials, list(sides.index))
    return describe_sides(gates, sides, materials.survey)


def gate_table(model: Any, recipe: Recipe, materials: Materials, groups: Sequence[str]) -> pd.DataFrame:
    """Columns group, question_id, layer, expert, gate (mean over real tokens and letter orders), of these groups."""
    cells = cells_of(recipe, materials.survey, "train", ("seen",))
    rows = [row for row in cells.to_list() if row["group"] in set(groups)]
    first = pd.DataFrame(rows)[["group", "question_id"]].drop_duplicates().index  # one letter order of each cell
    asked = [rows[place] for place in first]
    with materials.kept_trunk(recipe, model):
        _, gates = asking_of(model, recipe, materials, materials.survey).answer(asked)
    keys = pd.DataFrame(asked)[["group", "question_id"]]
    table = pd.concat(gates, ignore_index=True).join(keys, on="row")
    return table.groupby(["group", "question_id", "layer", "expert"], as_index=False)["gate"].mean()


def sides_of(survey: Survey) -> pd.DataFrame:
    """Group × item → the option that most of its training people say, if that is one of the two that most groups say;
    `OTHER` else. Groups with enough people, items with enough groups on both sides."""
    counts = survey.counts("train", ("seen",))
    counts = counts[counts["counts"].map(sum) >= max(PEOPLE, MIN_PEOPLE)]
    table = counts.assign(side=counts["counts"].map(np.argmax)).pivot(
        index="group", columns="question_id", values="side"
    )
    kept = {}
    for item, column in table.items():
        top = column.value_counts().head(2)
        if len(top) == 2 and top.iloc[1] >= FEWEST:
            kept[item] = column.where(column.isin(top.index), OTHER).fillna(OTHER).astype(int)
    return pd.DataFrame(kept, index=table.index)


def describe_sides(gates: pd.DataFrame, sides: pd.DataFrame, survey: Survey) -> dict[str, Any]:
    """Gate mass by side, and the mutual information between expert and side given the item.

    Returns:
        items: item → its two options, how many groups mostly say each, and the experts' gates ([L, E], mean over the
            groups of the side, layers sorted by name) for each.
        information: {"value", "null", "high", "p"} in nats, mean over items and layers: I(expert; side | item), groups
            counting alike; its mean and 95 % quantile when sides are dealt out to other groups (all of a group's sides
            together); and the share of deals with at least as much.
        one_sided: the items on which (almost) all groups are on one side.
    """
    wide = gates.pivot_table(index="group", columns=["question_id", "layer", "expert"], values="gate")
    wide = wide.reindex(sides.index).dropna()  # groups that were asked everything
    sides = sides.loc[wide.index]
    names = {question.id: question for question in survey.with_roles(("seen",))}
    items, cubes, marks = {}, [], []
    for item in sides.columns:
        layers = sorted(wide[item].columns.get_level_values("layer").unique())
        cube = np.stack([wide[item][layer].to_numpy() for layer in layers], axis=1)  # [G, L, E]
        mark = sides[item].to_numpy()
        options = sorted(set(mark) - {OTHER})
        items[item] = {
            "options": [names[item].options[option] for option in options],
            "groups": [int((mark == option).sum()) for option in options],
            "gates": [cube[mark == option].mean(axis=0).round(4).tolist() for option in options],
        }
        cubes.append(cube)
        marks.append(np.where(mark == options[0], 0, np.where(mark == options[1], 1, OTHER)))
    rng = np.random.default_rng(SEED)
    value = information(cubes, marks)
    deals = [rng.permutation(len(sides)) for _ in range(PERMUTATIONS)]
    null = np.array([information(cubes, [mark[deal] for mark in marks]) for deal in deals])
    found = {
        "value": value,
        "null": float(null.mean()),
        "high": float(np.quantile(null, 0.95)),
        "p": float((1 + (null >= value).sum()) / (1 + len(null))),
    }
    return {
        "items": items,
        "information": found,
        "groups": len(sides),
        "one_sided": sorted(names.keys() - items.keys()),
    }


def information(cubes: Sequence[Floats], marks: Sequence[Any]) -> float:
    """Mean over items and layers of Σ_s p(s) Σ_e p(e|s) log(p(e|s) / p(e)), nats.

    Args:
        cubes: [G, L, E] gates of every group, of each item.
        marks: [G] side 0 or 1 of every group, or `OTHER`.
    """
    values = []
    for cube, mark in zip(cubes, marks, strict=True):
        shares = np.array([(mark == side).sum() for side in (0, 1)], dtype=np.float64)
        shares /= shares.sum()
        means = np.stack([cube[mark == side].mean(axis=0) for side in (0, 1)])  # [2, L, E]
        together = np.einsum("s,sle->le", shares, means)
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(means > 0, means * np.log(means / together), 0.0)
        values.append(np.einsum("s,sle->l", shares, terms))
    return float(np.mean(values))
