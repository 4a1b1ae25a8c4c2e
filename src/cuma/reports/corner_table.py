"""The four corners as one table and one picture: soft EMD by whether the item, the group, both or neither was new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cuma.metrics.corners import CORNERS
from cuma.metrics.figures import MISSING, estimate_text, p_text
from cuma.privacy.small_groups import MIN_PEOPLE, people_text
from cuma.reports.side_tables import Listing
from cuma.reports.tables import compared_scores
from cuma.reports.verdict import AVERAGE
from cuma.runs.evidence import Evidence

CAPTION = "Soft EMD ↓ in the four corners"
SEEN, NEW, KNOWN, UNSEEN = CORNERS
WORDS = {
    SEEN: "The question was trained on, and so was the group: {}.",
    NEW: "A new question, put to groups whose answers to other questions were trained on.",
    KNOWN: "A question that was trained on, put to new groups: no answer of theirs was trained on.",
    UNSEEN: "A new question, put to new groups: nothing was trained on of either.",
}
OWN = {
    True: "only the group’s answers to this very question were kept back",
    False: "other people of the same group answered it there",
}
"""What was kept back of seen items and seen groups: of published shares, and of people's answers."""
NOTE = (
    "An item is a question; a cell is one group’s answers to one item. Brackets: 95 % intervals, which count that "
    "other items and other groups might have been drawn; with one item or one group there is none."
)
FLOOR = "The noise floor is what a perfect model would still show, because so few people were asked."
COMPARED = (
    "The rows with a minus are differences on the same cells: above 0 the method is worse; p: of no difference, after "
    "Holm’s correction."
)
ANCHOR = "Anchor: "
DRAWS = 1000
SIZES = (("questions", "item"), ("groups", "group"))


def corner_sentences(shown: Sequence[str], of_shares: bool) -> list[tuple[str, str]]:
    """Each corner's name, and one plain sentence about it."""
    return [(corner.capitalize(), WORDS[corner].format(OWN[of_shares])) for corner in shown]


def shown_corners(parts: Mapping[str, Any]) -> list[str]:
    """Those with cells, in order; none of under 11 people. parts: as "corners" in scores.json."""
    return [corner for corner in CORNERS if corner in parts and not small(parts[corner]["n"])]


def small(sizes: Mapping[str, Any]) -> bool:
    """Whether a corner's people, where their number is known, are so few that its figures would be a small group's."""
    return bool(sizes.get("people", MIN_PEOPLE) < MIN_PEOPLE)


def _corners(evidence: Evidence) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Method → corner → figures; every rival's differences; the corners that are shown. Nothing where it is not known
    which items are new."""
    if not any(method.corners is not None for method in evidence.methods):
        return {}, {}, []
    found = compared_scores(evidence, DRAWS, 0)
    parts = {name: scores.get("corners", {}) for name, scores in found["scores"].items()}
    gaps = {name: sides.get("corners", {}) for name, sides in found["differences"].items()}
    largest = {corner: part for corners in parts.values() for corner, part in corners.items()}
    return parts, gaps, shown_corners(largest)


def corner_listing(evidence: Evidence) -> Listing | None:
    """A row for each method, anchors last, and where there is a reference, each method's difference from it; None where
    it is not known which items are new."""
    parts, gaps, shown = _corners(evidence)
    if not shown:
        return None
    labels = {method.name: method.label for method in evidence.methods}
    sizes = {corner: next(part[corner] for part in parts.values() if corner in part) for corner in shown}
    rows = [*size_rows(sizes), *floor_row(sizes)]
    for name, corners in parts.items():
        rows.append((labels[name], *(estimate_text(corners.get(corner, {}).get("soft_emd")) for corner in shown)))
    for name, corners in gaps.items():
        reference = evidence.reference.label if evidence.reference else ""
        entries = [corners.get(corner, {}).get("soft_emd") for corner in shown]
        rows.append((f"{labels[name]} − {reference}", *map(difference_text, entries)))
    note = f"{NOTE} {COMPARED}" if gaps else NOTE
    headings = ("", *(corner.capitalize() for corner in shown))
    return Listing("corners", CAPTION, headings, tuple(rows), note)


def difference_text(entry: Mapping[str, Any] | None) -> str:
    """ "+0.026 [+0.015, +0.040], p <0.001"."""
    text = estimate_text(entry, sign=True)
    p = (entry or {}).get("p_holm")
    return text if p is None else f"{text}, p {p_text(p)}"


def corner_payload(evidence: Evidence) -> list[dict[str, Any]]:
    """A panel of the picture for each corner: every method's figure and interval, the floor and the average."""
    parts, _, shown = _corners(evidence)
    panels = []
    for corner in shown:
        rows = [
            {"method": place, "text": estimate_text(entry), **_rounded(entry)}
            for place, method in enumerate(evidence.methods)
            if (entry := parts.get(method.name, {}).get(corner, {}).get("soft_emd"))
        ]
        first = next(part[corner] for part in parts.values() if corner in part)
        floor, average = _value(first, "noise_floor"), _value(parts.get(AVERAGE, {}).get(corner, {}), "soft_emd")
        title, words = corner_sentences([corner], evidence.of_shares)[0]
        lines = {"floor": floor, "average": average}
        panels.append({"title": title, "words": words, "size": size_text(first["n"]), "rows": rows, **lines})
    return panels


def _rounded(entry: Mapping[str, Any]) -> dict[str, float | None]:
    return {end: None if entry[end] is None else round(entry[end], 4) for end in ("value", "low", "high")}


def corner_rows_of(scores: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Headings and rows of the corners in one scores.json, for a card or a terminal; nothing without corners."""
    parts = scores.get("corners", {})
    shown = shown_corners(parts)
    if not shown:
        return (), ()
    sizes = {corner: parts[corner] for corner in shown}
    figures = ("Soft EMD ↓", *(estimate_text(parts[corner]["soft_emd"]) for corner in shown))
    rows = [*size_rows(sizes), *floor_row(sizes), figures]
    for anchor in told_anchors(scores):
        texts = (estimate_text(anchor["corners"].get(corner, {}).get("soft_emd")) for corner in shown)
        rows.append((f"{ANCHOR}{anchor['label']}", *texts))
    return ("", *(corner.capitalize() for corner in shown)), tuple(rows)


def told_anchors(scores: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The anchors of one scores.json that say something."""
    return [anchor for anchor in scores.get("anchors", {}).values() if "absent" not in anchor]


def size_rows(parts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """How large each corner is: its items and groups, its cells, and its people where their number is known."""
    sizes = [part["n"] for part in parts.values()]
    rows = [("Items × groups", *map(items_by_groups, sizes))]
    rows += [("Cells", *(f"{n['cells']:,}" for n in sizes))] if all("cells" in n for n in sizes) else []
    return rows + (
        [("People", *(people_text(n["people"]) for n in sizes))] if all("people" in n for n in sizes) else []
    )


def floor_row(parts: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What a perfect model would have; nothing where that is not known."""
    floors = tuple(estimate_text({"value": _value(part, "noise_floor")}) for part in parts.values())
    return [] if set(floors) == {MISSING} else [("Noise floor", *floors)]


def items_by_groups(n: Mapping[str, Any]) -> str:
    """ "9 × 44"."""
    return f"{n.get('questions', MISSING)} × {n['groups']}"


def size_text(n: Mapping[str, Any]) -> str:
    """ "9 items × 44 groups: 394 cells, 5,472 people"; people where their number is known."""
    sizes = " × ".join(f"{n[key]:,} {word}{'' if n[key] == 1 else 's'}" for key, word in SIZES if key in n)
    more = [f"{n['cells']:,} cell{'' if n['cells'] == 1 else 's'}"] if "cells" in n else []
    more += [f"{people_text(n['people'])} people"] if "people" in n else []
    return f"{sizes}: {', '.join(more)}" if more else sizes


def _value(part: Mapping[str, Any] | None, metric: str) -> float | None:
    return None if part is None else part.get(metric, {}).get("value")
