"""Four corners: each is its own rows, the sides stay what they were, and intervals draw items and groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from cuma.metrics import break_down, compare, score, score_many
from cuma.metrics.corners import CORNERS, ITEM_SEEN, corner_of, corner_rows, side_rows
from cuma.metrics.items import Item
from helpers.worlds import draw_world, items, predictions


def world(shares: bool) -> tuple[tuple[Item, ...], pd.DataFrame]:
    """Six questions, of which four are seen, and fifteen groups, of which ten are."""
    questions = items(6, options=3)
    drawn = draw_world(5, questions, groups=15, people=30)
    table = predictions(drawn, drawn.model)
    table["seen"] = table["group"] < "group 010"
    if shares:
        rows = []
        for (group, question), cell in table.groupby(["group", "question_id"]):
            counts = np.bincount(cell["answer"], minlength=3)
            first = {name: cell[name].iloc[0] for name in ("seen", "probabilities", "option_mass")}
            told = {"group": group, "question_id": question, "shares": counts / counts.sum(), "n": int(counts.sum())}
            rows.append({**told, **first})
        table = pd.DataFrame(rows)
    table[ITEM_SEEN] = table["question_id"] < "q4"
    return questions, table


@pytest.mark.parametrize("shares", [True, False])
def test_a_corner_is_scored_as_its_rows_alone_and_the_sides_are_of_new_items(shares: bool) -> None:
    questions, table = world(shares)
    found = score(table, questions, draws=60)
    assert list(found["corners"]) == list(CORNERS)
    for corner, (item, group) in CORNERS.items():
        rows = table[(table[ITEM_SEEN] == item) & (table["seen"] == group)].drop(columns=ITEM_SEEN)
        side = "seen" if group else "unseen"
        alone = score(rows, questions, draws=60)
        assert found["corners"][corner] == {"n": alone["n"][side], **alone[side]}
    new = score(table[~table[ITEM_SEEN]].drop(columns=ITEM_SEEN), questions, draws=60)
    assert {side: found[side] for side in ("seen", "unseen")} == {side: new[side] for side in ("seen", "unseen")}
    assert found["n"] == new["n"]
    assert "noise_floor" in found["corners"]["seen items · unseen groups"]
    parts = break_down(table, questions, draws=20)
    assert set(parts["by_question"]["seen"]) == {f"q{n}" for n in range(6)}
    assert parts["by_group"] == break_down(side_rows(table), questions, draws=20)["by_group"]


def test_without_new_items_the_sides_are_of_all_and_without_the_column_there_are_no_corners() -> None:
    questions, table = world(True)
    old = table[table[ITEM_SEEN]]
    found = score(old, questions, draws=0)
    assert list(found["corners"]) == ["seen items · seen groups", "seen items · unseen groups"]
    assert found["seen"] == score(old.drop(columns=ITEM_SEEN), questions, draws=0)["seen"]
    assert corner_rows(table.drop(columns=ITEM_SEEN)) == {}
    assert "corners" not in score(table.drop(columns=ITEM_SEEN), questions, draws=0)
    assert [corner_of(*seen) for seen in CORNERS.values()] == list(CORNERS)


def test_differences_have_corners_with_their_own_correction() -> None:
    questions, table = world(True)
    even = table.assign(probabilities=[np.full(3, 1 / 3)] * len(table))
    perfect = table.assign(probabilities=table["shares"])
    found = score_many({"a": table, "even": even, "perfect": perfect}, questions, reference="a", draws=200)
    corner = "unseen items · unseen groups"
    entry = found["differences"]["even"]["corners"][corner]["soft_emd"]
    figures = [found["scores"][name]["corners"][corner]["soft_emd"]["value"] for name in ("even", "a")]
    assert entry["value"] == pytest.approx(figures[0] - figures[1])
    assert entry["p"] <= entry["p_holm"] <= 1
    assert found["differences"]["perfect"]["corners"][corner]["soft_emd"]["value"] < 0
    assert compare(even, table, questions, draws=200)["corners"][corner]["soft_emd"]["value"] == entry["value"]


@pytest.mark.parametrize(("item_effect", "group_effect"), [(0.05, 0.0), (0.0, 0.05), (0.05, 0.05)])
def test_intervals_of_crossed_effects_are_those_of_the_formula(item_effect: float, group_effect: float) -> None:
    """A cell's error is an item's effect plus a group's, so that its mean has the variance s²/items + s²/groups."""
    rng = np.random.default_rng(2)
    n_items, n_groups = 30, 45
    effects = [size * rng.uniform(-1, 1, number) for size, number in ((item_effect, n_items), (group_effect, n_groups))]
    questions = items(n_items)
    rows = [
        {"group": f"g{g}", "seen": True, ITEM_SEEN: True, "question_id": f"q{q}", "option_mass": 1.0,
         "shares": [0.4, 0.6], "probabilities": [0.6 + a + b, 0.4 - a - b]}
        for q, a in enumerate(effects[0])
        for g, b in enumerate(effects[1])
    ]  # fmt: skip
    found = score(pd.DataFrame(rows), questions, draws=3000)["corners"]["seen items · seen groups"]
    assert found["n"] == {"groups": n_groups, "questions": n_items, "cells": n_items * n_groups}
    emd = found["soft_emd"]
    assert emd["value"] == pytest.approx(0.2 + effects[0].mean() + effects[1].mean())
    scatter = np.sqrt(effects[0].var() / n_items + effects[1].var() / n_groups)
    half = np.sqrt(n_items / (n_items - 1)) * t.ppf(0.975, n_items - 1) * scatter
    assert (emd["high"] - emd["low"]) / 2 == pytest.approx(half, rel=0.08)
