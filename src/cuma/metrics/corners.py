"""The four corners: whether a test cell's item, its group, both or neither took part in training.

An item is seen if training had other groups' answers to it, a group if training had its answers to other items. What is
here holds for groups' shares and for people's answers alike: it chooses rows of a table of predictions.
"""

from __future__ import annotations

import pandas as pd

ITEM_SEEN = "item_seen"
"""Optional column of predictions.parquet: whether the item took part in training. Without it there are no corners."""
CORNERS: dict[str, tuple[bool, bool]] = {
    f"{items} items · {groups} groups": (items == "seen", groups == "seen")
    for groups in ("seen", "unseen")
    for items in ("seen", "unseen")
}
"""Name → (item seen, group seen), in the order of tables."""


def corner_of(item_seen: bool, group_seen: bool) -> str:
    """A cell's corner by name."""
    return next(name for name, seen in CORNERS.items() if seen == (item_seen, group_seen))


def corner_rows(predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each corner that has any; none where it is not known which items are new."""
    if ITEM_SEEN not in predictions:
        return {}
    parts = {
        name: predictions[(predictions[ITEM_SEEN] == item) & (predictions["seen"] == group)]
        for name, (item, group) in CORNERS.items()
    }
    return {name: rows for name, rows in parts.items() if len(rows)}


def has_new_items(predictions: pd.DataFrame) -> bool:
    """Whether it is known which items are new, and some are."""
    return ITEM_SEEN in predictions and not predictions[ITEM_SEEN].astype(bool).all()


def side_rows(predictions: pd.DataFrame, new_items: bool | None = None) -> pd.DataFrame:
    """The rows that the sides "seen" and "unseen" groups compare: of new items, so that the sides differ in their
    groups and in nothing else. Without new items, or where it is not known which ones are, all rows.

    new_items: whether there are any; None: as the table itself says. Beside others a table may say nothing of them.
    """
    if ITEM_SEEN not in predictions:
        return predictions
    new_only = has_new_items(predictions) if new_items is None else new_items
    kept = predictions[~predictions[ITEM_SEEN].astype(bool)] if new_only else predictions
    return kept.drop(columns=ITEM_SEEN)
