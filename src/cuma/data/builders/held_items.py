"""`--holdout-items` for people's answers: which items are held out whole, and from which splits their answers go.

The people stay where they are. Only answers to seen items are in "train"; "validation" has those to validation items
too, by which one chooses; "test" and "unseen" keep all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuma.data.builders.base import Ledger, Options
from cuma.data.surveys.item_splits import split_questions
from cuma.data.surveys.survey import ITEM_ROLES, ROLES, Question, Role
from cuma.errors import BenchmarkError

_KEPT: dict[str, tuple[Role, ...]] = {"train": ("seen",), "validation": ("seen", "validation")}
"""Split → roles of the items whose answers it has; others have all."""
_LEFT_OUT = "to a question that is held out, left out of training or validation"
OF_ROW, OF_PERSON = f"answer {_LEFT_OUT}", f"answer: {_LEFT_OUT}"
"""Reasons of a ledger whose rows are answers, or people."""


def with_roles(questions: Sequence[Question], options: Options) -> tuple[Question, ...]:
    """The questions with the roles that `--holdout-items` gives them, or as they are without it.

    Raises `BenchmarkError` where nobody is to train at all.
    """
    if options.holdout_items is None:
        return tuple(questions)
    if options.all_test:
        raise BenchmarkError("--all-test keeps everybody out of training already. Leave --holdout-items out.")
    return split_questions(questions, options.holdout_items, options.seed)


def is_kept(question: Question, split: str) -> bool:
    """Whether a split has the answers to a question."""
    return question.role in _KEPT.get(split, ROLES)


def without_held(
    answers: NDArray[Any], split: NDArray[np.object_], questions: Sequence[Question], missing: int
) -> tuple[NDArray[Any], int]:
    """The answers [N, Q] of people who are in `split` [N], with `missing` where a split has none, and how many went."""
    kept = {name: np.array([is_kept(question, name) for question in questions]) for name in set(split.tolist())}
    stays = np.stack([kept[name] for name in split.tolist()]) if len(split) else np.ones(answers.shape, dtype=bool)
    lost = ~stays & (answers != missing)
    return np.where(lost, np.asarray(missing, dtype=answers.dtype), answers), int(lost.sum())


def role_facts(questions: Iterable[Question], options: Options) -> dict[str, Any]:
    """For the card: how many items have each role, and which; nothing where none is held out."""
    roles = {question.id: question.role for question in questions}
    if not set(roles.values()) - {"seen"}:
        return {}
    sizes = Counter(roles.values())
    share = {} if options.holdout_items is None else {"holdout_items": options.holdout_items}
    return {**share, "items": {role: sizes[role] for role in ROLES}, ITEM_ROLES: roles}


def note_near_repeats(questions: Sequence[Question], ledger: Ledger) -> None:
    """Note it where nothing could be held out, because all questions are near-repeats of one another."""
    if all(question.role == "seen" for question in questions):
        ledger.note("question that cannot be held out, for all are near-repeats of one another", len(questions))


def roles_sentence(items: Mapping[str, int]) -> str:
    """For a terminal: "50 questions: 35 are trained on, 5 are held out to choose by, 10 for the test"."""
    return (
        f"{sum(items.values()):,} questions: {items['seen']:,} are trained on, {items['validation']:,} are held out to "
        f"choose by, {items['test']:,} for the test"
    )
