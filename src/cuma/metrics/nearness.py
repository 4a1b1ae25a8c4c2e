"""Does a method read new items, or only repeat near ones? Its error on the held-out items that are near to an item of
training, and on those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cuma.metrics.corners import CORNERS, ITEM_SEEN
from cuma.metrics.design import Design
from cuma.metrics.items import Questions
from cuma.metrics.scores import score_many

NEAR = 0.7
"""Items at least so similar to one of training are near; the others are far."""
WAYS = {"words": "by words", "meaning": "by meaning"}
"""How similarity is measured: words in common (Dice), and the sentence encoder (cosine). The last one known decides."""
UNSEEN = tuple(corner for corner, (item_seen, _) in CORNERS.items() if not item_seen)
SHOWN = "soft_emd"


def way_of(items: Any) -> str:
    """The way that decides. items: entries of "held_out_items" in scores.json, at least one."""
    return [way for way in WAYS if way in items[0]][-1]


def near_and_far(similarity: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """{"near": item ids, "far": …}, the nearest first; without the one that has no items."""
    ranked = sorted(similarity, key=lambda item: (-similarity[item], item))
    sides = {
        "near": tuple(item for item in ranked if similarity[item] >= NEAR),
        "far": tuple(item for item in ranked if similarity[item] < NEAR),
    }
    return {side: items for side, items in sides.items() if items}


def nearness_sentence(items: Any) -> str:
    """How many held-out items are near. items: entries of "held_out_items" in scores.json, at least one."""
    way = way_of(items)
    near = sum(item[way]["similarity"] >= NEAR for item in items)
    return (
        f"Of {len(items)} unseen items {near} {'is' if near == 1 else 'are'} near to an item of training: a similarity "
        f"of {NEAR} or more, {WAYS[way]}."
    )


def errors_by_nearness(
    methods: Mapping[str, pd.DataFrame],
    questions: Questions,
    similarity: Mapping[str, float],
    *,
    draws: int = 1000,
    seed: int = 0,
    design: Design | None = None,
) -> dict[str, dict[str, Any]]:
    """Soft EMD of every method on the near and on the far held-out items, by corner; on the same draws.

    methods: tables that say which items are new. similarity: of each held-out item to its nearest item of training.

    Returns {"near": {"items": n, "from": least similarity, "to": largest, "methods": {method: {corner: {"n",
    "soft_emd"}}}}, "far": …}; nothing where all are near, or all far: the corners say that.
    """
    sides, found = near_and_far(similarity), {}
    for side, items in sides.items() if len(sides) > 1 else ():
        tables = {
            name: table[~table[ITEM_SEEN].astype(bool) & table["question_id"].isin(items)]
            for name, table in methods.items()
        }
        scores = score_many(tables, questions, draws=draws, seed=seed, design=design)["scores"]
        by_method = {
            name: {corner: {key: part[key] for key in ("n", SHOWN)} for corner, part in each["corners"].items()}
            for name, each in scores.items()
            if "corners" in each
        }
        ends = {"from": similarity[items[-1]], "to": similarity[items[0]]}
        found[side] = {"items": len(items), **ends, "methods": by_method}
    return found
