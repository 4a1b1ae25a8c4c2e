"""Near and far held-out items: by a threshold, and scored as their rows alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cuma.metrics import score
from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.nearness import NEAR, errors_by_nearness, near_and_far, nearness_sentence, way_of
from helpers.worlds import items

CORNER = "unseen items · unseen groups"


def table() -> pd.DataFrame:
    """Six items, of which one is seen, and eight new groups."""
    rng = np.random.default_rng(0)
    rows = []
    for q, g in np.ndindex(6, 8):
        yes, said = rng.uniform(0.2, 0.8, size=2)
        cell = {"question_id": f"q{q}", "group": f"g{g}", "shares": [yes, 1 - yes], "probabilities": [said, 1 - said]}
        rows.append({**cell, "seen": False, ITEM_SEEN: q == 5, "option_mass": 1.0})
    return pd.DataFrame(rows)


def test_items_alike_stand_on_one_side() -> None:
    similarity = {"a": NEAR, "b": NEAR, "c": NEAR, "d": NEAR - 0.01, "e": 0.9}
    assert near_and_far(similarity) == {"near": ("e", "a", "b", "c"), "far": ("d",)}
    assert near_and_far({"a": 0.1}) == {"far": ("a",)}


def test_either_side_is_scored_as_its_rows_alone() -> None:
    similarity = {"q0": 0.9, "q1": 0.75, "q2": 0.7, "q3": 0.69, "q4": 0.1}
    found = errors_by_nearness({"m": table()}, items(6), similarity, draws=60)
    assert [(found[side]["items"], found[side]["from"], found[side]["to"]) for side in ("near", "far")] == [
        (3, 0.7, 0.9), (2, 0.1, 0.69),
    ]  # fmt: skip
    for side, ids in (("near", ["q0", "q1", "q2"]), ("far", ["q3", "q4"])):
        rows = table()[table()["question_id"].isin(ids)]
        alone = score(rows, items(6), draws=60)["corners"][CORNER]
        assert found[side]["methods"]["m"][CORNER] == {"n": alone["n"], "soft_emd": alone["soft_emd"]}
    assert found["near"]["methods"]["m"][CORNER]["n"]["cells"] == 24


def test_where_all_are_near_the_corners_say_it() -> None:
    assert errors_by_nearness({"m": table()}, items(6), dict.fromkeys((f"q{q}" for q in range(5)), 0.8)) == {}


def test_meaning_decides_where_it_is_known() -> None:
    words = [{"id": "a", "words": {"similarity": 0.9}}, {"id": "b", "words": {"similarity": 0.2}}]
    both = [{**item, "meaning": {"similarity": 0.5}} for item in words]
    assert (way_of(words), way_of(both)) == ("words", "meaning")
    assert nearness_sentence(words).startswith(
        "Of 2 unseen items 1 is near to an item of training: a similarity of 0.7"
    )
    assert nearness_sentence(both).startswith("Of 2 unseen items 0 are near")
    assert nearness_sentence(both).endswith("by meaning.")


@pytest.mark.parametrize("similarity", [{}, {"q0": 0.9}])
def test_a_lone_side_has_no_table(similarity: dict[str, float]) -> None:
    assert errors_by_nearness({"m": table()}, items(6), similarity) == {}
