"""The four corners as one table: soft EMD of every method by whether the item, the group, both or neither was new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cuma.metrics.corners import CORNERS
from cuma.metrics.figures import MISSING, estimate_text
from cuma.metrics.scores import score_many
from cuma.reports.side_tables import Listing
from cuma.runs.evidence import Evidence

CAPTION = "Soft EMD ↓ by what was new: the four corners"
NOTES = {
    True: "An item (question) is seen if training had other groups’ answers to it, and a group is seen if training had "
    "its answers to other items. No cell of this table was trained on, not even of seen items and seen groups. A cell "
    "is one group’s answers to one item. Brackets: 95 % intervals; items and groups are drawn, independently.",
    False: "An item (question) or a group is seen if training had answers to it, or of it. Nobody in this table was "
    "trained on; of seen items and seen groups training had other people’s answers. Brackets: 95 % intervals; groups "
    "are drawn, each with its people.",
}
"""What stands below the table, of shares and of people's answers."""
COMPARED = "The rows with a minus are differences on the same draws: above 0 the method is worse."


def corner_listing(evidence: Evidence) -> Listing | None:
    """A row for each method and, where there is a reference, each method's difference from it; None where it is not
    known which items are new."""
    tables = {method.name: method.corners for method in evidence.methods if method.corners is not None}
    if not tables:
        return None
    labels = {method.name: method.label for method in evidence.methods}
    reference = evidence.reference.name if evidence.reference and evidence.reference.name in tables else None
    found = score_many(tables, evidence.questions, reference, design=evidence.design, parts=list(CORNERS))
    parts = {name: scores.get("corners", {}) for name, scores in found["scores"].items()}
    first = next(iter(parts.values()))
    shown = [corner for corner in CORNERS if any(corner in corners for corners in parts.values())]
    rows = [("Cells", *(_size(first.get(corner)) for corner in shown))]
    floors = tuple(estimate_text({"value": _value(first.get(corner), "noise_floor")}) for corner in shown)
    if set(floors) != {MISSING}:
        rows.append(("Noise floor: a perfect model", *floors))
    for name, corners in parts.items():
        rows.append((labels[name], *(estimate_text(corners.get(corner, {}).get("soft_emd")) for corner in shown)))
    for name, sides in found["differences"].items():
        apart = sides.get("corners", {})
        text = f"{labels[name]} − {labels[str(reference)]}"
        rows.append((text, *(estimate_text(apart.get(corner, {}).get("soft_emd"), sign=True) for corner in shown)))
    about = "new items" if any(not CORNERS[corner][0] for corner in shown) else "the same cells"
    note = f"{NOTES[evidence.of_shares]} The tables that follow are of {about}."
    note += f" {COMPARED}" if found["differences"] else ""
    headings = ("", *(corner.capitalize() for corner in shown))
    return Listing("corners", CAPTION, headings, tuple(rows), note)


def corner_rows_of(scores: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Headings and rows of the corners in one scores.json, for a card or a terminal; nothing without corners."""
    parts = scores.get("corners", {})
    shown = [corner for corner in CORNERS if corner in parts]
    if not shown:
        return (), ()
    rows = [("Cells", *(_size(parts[corner]) for corner in shown))]
    rows.append(("Soft EMD ↓", *(estimate_text(parts[corner]["soft_emd"]) for corner in shown)))
    floors = tuple(estimate_text({"value": _value(parts[corner], "noise_floor")}) for corner in shown)
    if set(floors) != {MISSING}:
        rows.append(("Noise floor", *floors))
    for anchor in told_anchors(scores):
        texts = (estimate_text(anchor["corners"].get(corner, {}).get("soft_emd")) for corner in shown)
        rows.append((f"Soft EMD of the anchor “{anchor['label']}”", *texts))
    return ("", *(corner.capitalize() for corner in shown)), tuple(rows)


def told_anchors(scores: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The anchors of one scores.json that say something."""
    return [anchor for anchor in scores.get("anchors", {}).values() if "absent" not in anchor]


def _size(part: Mapping[str, Any] | None) -> str:
    """ "702 (97 groups, 569 items)"; of people, "1,204 people (12 groups)"."""
    if part is None:
        return MISSING
    n = part["n"]
    if "cells" in n:
        return f"{n['cells']:,} ({n['groups']:,} groups, {n['questions']:,} items)"
    return f"{n['people']:,} people ({n['groups']:,} groups)"


def _value(part: Mapping[str, Any] | None, metric: str) -> float | None:
    return None if part is None else part.get(metric, {}).get("value")
