"""How near the held-out items are to items of training, and every method's error on each: does it read, or repeat?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from cuma.metrics.corners import ITEM_SEEN
from cuma.metrics.figures import estimate_text, number
from cuma.metrics.nearness import NEAR, UNSEEN, WAYS, errors_by_nearness, nearness_sentence, way_of
from cuma.metrics.scores import score_many
from cuma.reports.corner_table import items_by_groups, shown_corners
from cuma.reports.side_tables import Listing
from cuma.runs.evidence import Evidence

ITEMS_NOTE = (
    "Beside each unseen item the most alike one of training, the nearest first. By words: twice the words that two "
    "wordings share, over the words of both (Dice). By meaning: the cosine of the sentence encoder’s vectors of the "
    "wordings. 1: the same wording. Figures: soft EMD ↓, averaged over groups."
)
SIDES_NOTE = (
    "Soft EMD ↓. Near: a similarity of {} or more, {}. Where a method is no better than the average on far items, it "
    "repeats what it knows of near ones, and does not read."
)
LONGEST = 200


@lru_cache(maxsize=1)
def item_listings(evidence: Evidence) -> list[Listing]:
    """Every held-out item, and the near and the far ones; none where no item is held out."""
    if not evidence.held_out_items or not any(method.corners is not None for method in evidence.methods):
        return []
    sides = _near_and_far(evidence)
    return [_items(evidence), *([sides] if sides else [])]


def _items(evidence: Evidence) -> Listing:
    ways = [way for way in WAYS if way in evidence.held_out_items[0]]
    best = way_of(evidence.held_out_items)
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
    note = f"{nearness_sentence(evidence.held_out_items)} {ITEMS_NOTE}"
    return Listing("items", "How near each unseen item is", headings, tuple(rows), note)


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


def _near_and_far(evidence: Evidence) -> Listing | None:
    """Every method on the near and on the far unseen items; None where there are none of one kind."""
    way = way_of(evidence.held_out_items)
    similarity = {item["id"]: item[way]["similarity"] for item in evidence.held_out_items}
    tables = {name: table for name, table in evidence.tables.items() if ITEM_SEEN in table}
    found = errors_by_nearness(tables, evidence.questions, similarity, design=evidence.design)
    columns, rows = nearness_columns({side: {**part, **_largest(part["methods"])} for side, part in found.items()})
    if not columns:
        return None
    for method in evidence.methods:
        errors = {side: part["methods"].get(method.name, {}) for side, part in found.items()}
        texts = [estimate_text(errors[side].get(corner, {}).get("soft_emd")) for side, corner in columns]
        rows.append((method.label, *texts))
    note = SIDES_NOTE.format(NEAR, WAYS[way])
    return Listing("nearness", "Near and far unseen items", nearness_headings(columns), tuple(rows), note)


def nearness_columns(sides: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[tuple[str, ...]]]:
    """The (side, corner) pairs that may be shown, and the rows that say how large and how near they are.

    sides: {"near": {"items", "from", "to", CORNER: {"n", …}}, "far": …}, as in scores.json.
    """
    corners = {
        side: shown_corners({corner: part[corner] for corner in UNSEEN if corner in part})
        for side, part in sides.items()
    }
    columns = [(side, corner) for corner in UNSEEN for side in sides if corner in corners[side]]
    if not columns:
        return [], []
    near = [f"{number(sides[side]['from'], 2)} to {number(sides[side]['to'], 2)}" for side, _ in columns]
    return columns, [
        ("Similarity", *near),
        ("Items × groups", *(items_by_groups(sides[side][c]["n"]) for side, c in columns)),
    ]


def nearness_headings(columns: list[tuple[str, str]]) -> tuple[str, ...]:
    """ "Near · seen groups", … above `nearness_columns`."""
    return ("", *(f"{side.capitalize()} · {corner.partition(' · ')[2]}" for side, corner in columns))


def _largest(methods: Mapping[str, Any]) -> dict[str, Any]:
    """Each corner of the first method that has it."""
    return {corner: part for corners in reversed(list(methods.values())) for corner, part in corners.items()}


def cut(text: str) -> str:
    """At most `LONGEST` letters."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"
