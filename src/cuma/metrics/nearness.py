"""Does a method read new items, or only repeat near ones? Its error on the half of the held-out items that are nearest
to an item of training, and on the other half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cuma.metrics.corners import CORNERS, ITEM_SEEN
from cuma.metrics.design import Design
from cuma.metrics.items import Questions
from cuma.metrics.scores import score_many

FEWEST = 4
"""Held-out items that can be halved: two on each side, so that intervals can be told."""
UNSEEN = tuple(corner for corner, (item_seen, _) in CORNERS.items() if not item_seen)
SHOWN = "soft_emd"


def halves(similarity: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """{"near": item ids, "far": …}, the nearest first; an odd one out is near. Nothing under `FEWEST` items."""
    ranked = sorted(similarity, key=lambda item: (-similarity[item], item))
    if len(ranked) < FEWEST:
        return {}
    half = (len(ranked) + 1) // 2
    return {"near": tuple(ranked[:half]), "far": tuple(ranked[half:])}


def errors_by_nearness(
    methods: Mapping[str, pd.DataFrame],
    questions: Questions,
    similarity: Mapping[str, float],
    *,
    draws: int = 1000,
    seed: int = 0,
    design: Design | None = None,
) -> dict[str, dict[str, Any]]:
    """Soft EMD of every method on either half of the held-out items, by corner; on the same draws.

    methods: tables that say which items are new. similarity: of each held-out item to its nearest item of training.

    Returns {"near": {"items": n, "from": least similarity, "to": largest, "methods": {method: {corner: {"n",
    "soft_emd"}}}}, "far": …}; nothing where there are too few.
    """
    found = {}
    for half, items in halves(similarity).items():
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
        found[half] = {"items": len(items), **ends, "methods": by_method}
    return found
