"""How near the held-out items are to items of training, and every method's error on each: does it read, or repeat?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.figures import MISSING, estimate_text, number
from cuma.metrics.nearness import UNSEEN, errors_by_nearness
from cuma.metrics.scores import score_many
from cuma.reports.corner_table import shown_corners
from cuma.reports.side_tables import Listing
from cuma.runs.evidence import Evidence

WAYS = {"words": "by words", "meaning": "by meaning"}
WHAT = (
    "Nearness by words: twice the words that two wordings share, over the words of both (Dice). By meaning: the cosine "
    "of the sentence encoder’s vectors of the wordings. 1: the same wording."
)
ITEMS_NOTE = (
    f"The most alike item of training stands beside each held-out one, the nearest first. {WHAT} Figures: soft EMD ↓, "
    "averaged over groups. A method that is no better than the average has learnt nothing for that item."
)
HALVES_NOTE = (
    "Soft EMD ↓ of unseen items, halved by how near they are to an item of training. Where the far half is no better "
    "than the average, the method repeats what it knows of near items, and does not read. Brackets: 95 % intervals, "
    "items and groups drawn."
)
LONGEST = 60


@lru_cache(maxsize=1)
def item_listings(evidence: Evidence) -> list[Listing]:
    """Every held-out item, and their near and far halves; none where no item is held out."""
    if not evidence.held_out_items or not any(method.corners is not None for method in evidence.methods):
        return []
    halves = [_halves(evidence, way) for way in WAYS if way in evidence.held_out_items[0]]
    return [_items(evidence), *(listing for listing in halves if listing is not None)]


def _items(evidence: Evidence) -> Listing:
    ways = [way for way in WAYS if way in evidence.held_out_items[0]]
    best = ways[-1]
    texts = {question["id"]: question["text"] for question in evidence.questions}
    rows = []
    for item in sorted(evidence.held_out_items, key=lambda item: (-item[best]["similarity"], item["id"])):
        errors = _errors(evidence, item["id"])
        shown = [errors.get(method.name) for method in evidence.methods]
        rows.append(
            (
                cut(texts.get(item["id"], item["id"])),
                cut(item[best]["nearest"]),
                *(number(item[way]["similarity"], 2) for way in ways),
                *map(number, shown),
            )
        )
    labels = (method.label for method in evidence.methods)
    headings = ("Unseen item", "Nearest item of training", *(WAYS[way].capitalize() for way in ways), *labels)
    return Listing("items", "How near each unseen item is, and the error on it", headings, tuple(rows), ITEMS_NOTE)


def _errors(evidence: Evidence, item: str) -> dict[str, float]:
    """Every method's soft EMD on one new item, over all groups that may be shown."""
    tables = {name: table[table["question_id"] == item] for name, table in evidence.tables.items()}
    question = [question for question in evidence.questions if question["id"] == item]
    scores = score_many(tables, question, draws=0)["scores"]
    errors = {}
    for name, each in scores.items():
        parts = [each["corners"][corner] for corner in shown_corners(each.get("corners", {}))]
        if parts:
            groups = [part["n"]["groups"] for part in parts]
            errors[name] = float(np.average([part["soft_emd"]["value"] for part in parts], weights=groups))
    return errors


def _halves(evidence: Evidence, way: str) -> Listing | None:
    """Every method on the nearer and on the farther half of the unseen items."""
    similarity = {item["id"]: item[way]["similarity"] for item in evidence.held_out_items}
    tables = {name: table for name, table in evidence.tables.items() if ITEM_SEEN in table}
    found = errors_by_nearness(tables, evidence.questions, similarity, design=evidence.design)
    labels = {method.name: method.label for method in evidence.methods}
    columns, rows = half_columns({half: {**part, **_largest(part["methods"])} for half, part in found.items()})
    if not columns:
        return None
    for name, label in labels.items():
        texts = [
            estimate_text(found[half]["methods"].get(name, {}).get(corner, {}).get("soft_emd"))
            for half, corner in columns
        ]
        rows.append((label, *texts))
    headings = ("", *(f"{half.capitalize()} · {corner.partition(' · ')[2]}" for half, corner in columns))
    return Listing(f"nearness-{way}", f"Near and far unseen items, {WAYS[way]}", headings, tuple(rows), HALVES_NOTE)


def half_columns(halves: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, ...]]]:
    """The (half, corner) pairs that may be shown, and the rows that say how large and how near they are.

    halves: {"near": {"items", "from", "to", CORNER: {"n", …}}, "far": …}, as in scores.json.
    """
    corners = {
        half: shown_corners({corner: part[corner] for corner in UNSEEN if corner in part})
        for half, part in halves.items()
    }
    columns = [(half, corner) for corner in UNSEEN for half in halves if corner in corners[half]]
    if not columns:
        return [], []
    near = [f"{number(halves[half]['from'], 2)} to {number(halves[half]['to'], 2)}" for half, _ in columns]
    cells = [_cells(halves[half][corner]["n"]) for half, corner in columns]
    return columns, [("Nearness", *near), ("Items and groups", *cells)]


def _cells(n: Mapping[str, Any]) -> str:
    return f"{n.get('questions', MISSING)} × {n['groups']}"


def _largest(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Each corner of the first method that has it."""
    return {corner: part for corners in reversed(list(methods.values())) for corner, part in corners.items()}


def cut(text: str) -> str:
    """At most `LONGEST` letters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"
