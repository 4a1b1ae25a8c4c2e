"""A population of strata and sampling units whose truth is known: units are alike inside, and span all groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cuma.metrics.design import Design
from cuma.metrics.items import Item
from helpers.worlds import answer_shares


@dataclass(frozen=True)
class Plan:
    """How people are drawn."""

    strata: int = 25
    units: int = 2
    """In each stratum; with `lonely`, the last strata have one."""
    people: int = 40
    """In each unit on average."""
    between: float = 0.35
    """Standard deviation of units around their stratum, of a scatter of 1 within."""
    weights: float = 0.4
    """Standard deviation of the weights' logarithm."""
    lonely: int = 0
    own: bool = False
    """Whether a unit's people are all of one group; else groups are spread over all units."""


def draw_design_world(
    seed: int, questions: tuple[Item, ...], places: np.ndarray, plan: Plan, shrink: float = 0.7
) -> tuple[pd.DataFrame, Design]:
    """A predictions table of a model that knows the groups' true shares up to `shrink`, with its design.

    places: [G] where the groups stand. Strata differ, in the same way in every world.
    """
    rng = np.random.default_rng(seed)
    per = np.where(np.arange(plan.strata) < plan.strata - plan.lonely, plan.units, 1)
    stratum = np.repeat(np.arange(plan.strata), per)
    unit = np.repeat(np.arange(len(stratum)), rng.poisson(plan.people, size=len(stratum)))
    group = unit % len(places) if plan.own else rng.integers(len(places), size=len(unit))
    level = np.linspace(-0.5, 0.5, plan.strata)[stratum[unit]]
    weight = np.exp(plan.weights * rng.normal(size=len(unit)))
    tables = []
    for item in questions:
        options = len(item.options)
        moved = level + plan.between * rng.normal(size=len(stratum))[unit]
        answer = np.searchsorted(np.linspace(-1, 1, options - 1), places[group] + moved + rng.normal(size=len(unit)))
        shares = answer_shares(shrink * places, options)
        table = {"person": np.arange(len(unit)), "group": [f"group {g:03d}" for g in group], "seen": True}
        table |= {"question_id": item.id, "answer": answer, "weight": weight}
        tables.append(pd.DataFrame(table).assign(probabilities=list(shares[group]), option_mass=1.0))
    return pd.concat(tables, ignore_index=True), Design.of(np.arange(len(unit)), stratum[unit], unit)
