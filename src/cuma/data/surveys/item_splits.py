"""Which items are trained on: whole items are held out, with all near-repeats of theirs, by seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cuma.data.surveys.item_families import item_families
from cuma.data.surveys.splits import lot
from cuma.data.surveys.survey import Question, Role

HELD_ITEMS = 0.1
"""Share of the items in the test, unless somebody says otherwise."""
VALIDATION_ITEMS = 0.1
"""Share of the items to choose by."""
_ROLES: dict[str, Role] = {"train": "seen", "validation": "validation", "test": "test"}


def split_questions(questions: Sequence[Question], share: float, seed: int) -> tuple[Question, ...]:
    """The questions with their roles: about `share` of them are test items, `VALIDATION_ITEMS` validation items.

    Near-repeats have one role: by `Question.family` where it is known, else by the wordings. A function of ids,
    wordings, options and the seed, never of the order of questions.
    """
    known = {question.id: f"known {question.family}" for question in questions if question.family}
    others = {question.id: (question.text, question.options) for question in questions if not question.family}
    family_of = known | (item_families(others)[0] if others else {})
    split_of = item_splits(family_of, share, seed)
    return tuple(replace(question, role=_ROLES[split_of[question.id]]) for question in questions)


def roles_sentence(items: Mapping[str, int]) -> str:
    """How many items are held out, for a person to read. items: the card's entry, of people's answers or of shares."""
    trained = items.get("seen", items.get("train", 0))
    held = items.get("test", 0), items.get("validation", 0)
    return (
        f"Questions: {trained:,} are trained on; held out whole are {held[0]:,} for the test and {held[1]:,} to choose "
        "by."
    )


def item_splits(family_of: Mapping[str, str], share: float, seed: int) -> dict[str, str]:
    """Item → "train", "validation" or "test": whole families by lot. One family alone trains.

    family_of: item → its family (`item_families`). share: of the items, in the test.
    """
    sizes = Counter(family_of.values())
    waiting = sorted(sizes, key=lambda family: (lot(family, seed, "items"), family))
    split_of: dict[str, str] = {}
    for split, part in (("test", share), ("validation", VALIDATION_ITEMS if share < 1 - VALIDATION_ITEMS else 0.0)):
        for family in _that_fit(waiting, sizes, part * len(family_of), most=len(waiting) - 1):
            split_of[family] = split
            waiting.remove(family)
    return {item: split_of.get(family, "train") for item, family in family_of.items()}


def _that_fit(waiting: Sequence[str], sizes: Mapping[str, int], target: float, most: int) -> list[str]:
    """Families in order, each that still fits, up to `target` items; the first of the smallest ones if none fits."""
    taken: list[str] = []
    room = round(target) or (1 if target else 0)
    for family in waiting:
        if sizes[family] <= room and len(taken) < most:
            taken.append(family)
            room -= sizes[family]
    if not taken and target >= 0.5 and most > 0:
        taken = [min(waiting, key=lambda family: sizes[family])]
    return taken
