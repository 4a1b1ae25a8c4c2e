"""`--holdout-items` for people's answers: which items are held out whole, and from which splits their answers go.

The people stay where they are. Only answers to seen items are in "train"; "validation" has those to validation items
too, by which one chooses; "test" and "unseen" keep all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuma.data.builders.base import Ledger, Options
from cuma.data.surveys.item_splits import roles_sentence, split_questions
from cuma.data.surveys.survey import ITEM_ROLES, ROLES, Question, Role
from cuma.errors import BenchmarkError

_KEPT: dict[str, tuple[Role, ...]] = {"train": ("seen",), "validation": ("seen", "validation")}
"""Split → roles of the items whose answers it has; others have all."""
_LEFT_OUT = "to a question that is held out, left out of training or validation"
OF_ROW, OF_PERSON = f"answer {_LEFT_OUT}", f"answer: {_LEFT_OUT}"
"""Reasons of a ledger whose rows are answers, or people."""


def with_roles(questions: Sequence[Question], options: Options, ledger: Ledger) -> tuple[Question, ...]:
    """The questions with the roles that `--holdout-items` gives them, or as they are without it.

    The ledger notes it where nothing can be held out. Raises `BenchmarkError` where nobody is to train at all.
    """
    if not options.holdout_items:
        return tuple(questions)
    if options.all_test:
        raise BenchmarkError("--all-test keeps everybody out of training already. Leave --holdout-items out.")
    asked = split_questions(questions, options.holdout_items, options.seed)
    beyond = sum(question.role == "test" for question in asked) - max(1, round(options.holdout_items * len(asked)))
    ledger.note("question held out beyond the share, for its near-repeats stay together", max(0, beyond))
    if all(question.role == "seen" for question in asked):
        ledger.note("question that cannot be held out, for all are near-repeats of one another", len(asked))
    return asked


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


def held_lines(questions: Sequence[Question], options: Options) -> list[str]:
    """For a terminal: how many of the questions a build with these options would hold out, and which."""
    asked = with_roles(questions, options, Ledger())
    sizes = {str(role): times for role, times in Counter(question.role for question in asked).items()}
    of: dict[Role, str] = {"test": "for the test", "validation": "to choose by"}
    named = {role: [question.id for question in asked if question.role == role] for role in of}
    return [roles_sentence(sizes), *(f"  {of[role]}: {', '.join(ids)}" for role, ids in named.items() if ids)]
