"""Shares of groups, split so that the table can say what was new: the item, the group, both, or neither.

Whole items go into train, validation or test, with all near-repeats of theirs (`item_families`). Whole groups are kept
out of training ("unseen"), those that a user names or a share of them by lot. Of what is left, some single cells are
kept out as well: a seen item of a seen group, whose shares nobody was trained on. Every split is a function of names
and the seed, never of the order of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cuma.data.builders.base import Ledger, Options
from cuma.data.builders.person_splits import UNSEEN, check_holdout, held_out
from cuma.data.surveys.item_families import item_families
from cuma.data.surveys.item_splits import HELD_ITEMS, item_splits
from cuma.data.surveys.splits import lot
from cuma.errors import BenchmarkError
from cuma.metrics.corners import corner_of
from cuma.people.profiles import Profile

HELD_CELLS = 0.1
"""Share of the cells of seen items and seen groups that are kept out of training for the test."""
VALIDATION_CELLS = 0.05
"""Share of them that are kept out to choose by."""
QUESTION_SPLIT = "question_split"
"""The column that says where an item is, whichever split its row is in."""
CORNERS = "corners"
"""The card's entry: how many cells each corner has. A folder built before there were corners lacks it."""
Cell = tuple[str, str]
"""(question id, group)"""


@dataclass(frozen=True)
class ShareSplit:
    """Where everything went."""

    splits: tuple[str, ...]
    """Of each cell, in the order in which they came."""
    item_split: Mapping[str, str]
    """Item → "train", "validation" or "test"."""
    facts: dict[str, Any]
    """For the card."""


def split_shares(
    cells: Sequence[Cell],
    items: Mapping[str, tuple[str, Sequence[str]]],
    profiles: Mapping[str, Iterable[Profile]],
    options: Options,
    ledger: Ledger,
) -> ShareSplit:
    """Split cells by items and groups.

    cells: each once. items: id → (wording, options). profiles: group → what its rows say of it. Raises
    `BenchmarkError` where nobody has a value that is to be held out.
    """
    share = HELD_ITEMS if options.holdout_items is None else options.holdout_items
    asked = {question: items[question] for question, _ in cells}
    family_of, divided = item_families(asked)
    item_split = item_splits(family_of, share, options.seed)
    unseen = _held_out_groups(profiles, options)
    trained = [cell for cell in cells if item_split[cell[0]] == "train" and cell[1] not in unseen]
    kept_out = _held_out_cells(trained, options.seed)
    splits = tuple(UNSEEN if cell[1] in unseen else kept_out.get(cell, item_split[cell[0]]) for cell in cells)
    sizes = Counter(family_of.values())
    near = sum(size for size in sizes.values() if size > 1)
    ledger.note("question with near-repeats, kept in one split with them", near)
    ledger.note("question of a battery of more than half of all questions, which is divided", divided)
    if share and "test" not in item_split.values():
        ledger.note("question that cannot be held out, for all are near-repeats of one another", len(item_split))
    corners = Counter(
        corner_of(item_split[question] == "train", group not in unseen)
        for (question, group), split in zip(cells, splits, strict=True)
        if split in ("test", UNSEEN) and item_split[question] != "validation"
    )
    facts = {
        "split_by": "question (near-repeats together); some cells of seen questions and groups; unseen: group",
        "holdout_items": share,
        "items": {**Counter(item_split.values()), "families": len(sizes), "with_near_repeats": near},
        CORNERS: dict(sorted(corners.items())),
    }
    return ShareSplit(splits, item_split, facts)


def _held_out_groups(profiles: Mapping[str, Iterable[Profile]], options: Options) -> set[str]:
    """The groups that a user's values name, or the share of them with the lowest lots."""
    known = {group: list(theirs) for group, theirs in profiles.items()}
    check_holdout(options.holdout, [profile for theirs in known.values() for profile in theirs])
    held = {group for group, theirs in known.items() if any(held_out(one, options.holdout) for one in theirs)}
    if options.holdout_share:
        by_lot = sorted(known, key=lambda group: (lot(group, options.seed, "held-out group"), group))
        held |= set(by_lot[: max(1, round(options.holdout_share * len(known)))])
    if len(held) == len(known):
        raise BenchmarkError(
            f"--holdout-groups keeps out all {len(known)} groups, so that nothing is left to train on. Hold out fewer."
        )
    return held


def _held_out_cells(trained: Collection[Cell], seed: int) -> dict[Cell, str]:
    """Cells by lot → "test" or "validation", never the last of an item or of a group: both must stay seen."""
    items = Counter(question for question, _ in trained)
    groups = Counter(group for _, group in trained)
    test, held = round(HELD_CELLS * len(trained)), dict[Cell, str]()
    wanted = test + round(VALIDATION_CELLS * len(trained))
    for question, group in sorted(trained, key=lambda cell: (lot("\0".join(cell), seed, "cell"), cell)):
        if len(held) == wanted:
            break
        if items[question] > 1 and groups[group] > 1:
            held[question, group] = "test" if len(held) < test else "validation"
            items[question] -= 1
            groups[group] -= 1
    return held
