"""What builders of published shares have in common: items with their groups become rows of the task `distribution`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Dataset, Features, Value

from cuma.data.builders.base import TASKS, WHO, Built, Ledger, Options, who
from cuma.data.builders.own_rows import PEOPLE
from cuma.data.builders.scales import is_no_answer, is_ordinal
from cuma.data.builders.share_splits import QUESTION_SPLIT, split_shares
from cuma.data.surveys.survey import Question
from cuma.people.profiles import Profile

TOLERANCE = 0.02
"""A distribution whose sum is further from 1 is wrong, not rounded."""
_COLUMNS = {name: value for name, value in TASKS["distribution"].items() if name not in WHO}


@dataclass(frozen=True, eq=False)
class PublishedItem:
    """A question, and how groups answered it."""

    question: Question
    source: str
    """Which survey or wave it is of; "" where that is not known."""
    shares: Mapping[str, Sequence[float]]
    """Group → shares of the options, which sum to 1."""
    people: Mapping[str, int]
    """Group → how many people that is; empty where it is not known."""


def share_rows(
    items: Sequence[PublishedItem], profiles: Mapping[str, Profile], options: Options, ledger: Ledger
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Split → rows, one for every item and group; and what the card says of the split. Raises as `split_shares`."""
    split = split_shares(
        [(item.question.id, group) for item in items for group in item.shares],
        {item.question.id: (item.question.text, item.question.options) for item in items},
        {group: [profile] for group, profile in profiles.items()},
        options,
        ledger,
    )
    rows: dict[str, list[dict[str, Any]]] = {}
    where = iter(split.splits)
    for item in items:
        for group, shares in item.shares.items():
            row = {
                "question_id": item.question.id,
                "question": item.question.text,
                "options": list(item.question.options),
                "distribution": list(shares),
                "ordinal": item.question.ordinal,
                "source": item.source,
                QUESTION_SPLIT: split.item_split[item.question.id],
                **({PEOPLE: item.people[group]} if item.people else {}),
                **who(profiles[group], None, group),
            }
            rows.setdefault(next(where), []).append(row)
    questions = {name: len({row["question_id"] for row in entries}) for name, entries in sorted(rows.items())}
    return rows, {"questions": questions, **split.facts}


def share_sets(rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, Dataset]:
    """The rows as data sets; with the column n if a row has it."""
    counted = any(PEOPLE in row for entries in rows.values() for row in entries)
    n = {PEOPLE: Value("int64")} if counted else {}
    features = Features({**n, **_COLUMNS, QUESTION_SPLIT: Value("string"), **WHO})
    empty = dict.fromkeys(n)
    return {
        split: Dataset.from_list([{**empty, **row} for row in entries], features=features)
        for split, entries in rows.items()
    }


def built_of(name: str, rows: Mapping[str, list[dict[str, Any]]], ledger: Ledger, **about: Any) -> Built:
    """A benchmark of shares alone. about: the other fields of `Built`."""
    return Built(name, {"distribution": share_sets(rows)}, ledger, **about)


def without_no_answers(
    values: Sequence[float], options: Sequence[str], ledger: Ledger, what: str
) -> tuple[float, ...] | None:
    """The shares of the options that are an answer, made to sum to 1; None, and counted, where they are no shares.

    values: of all options. what: whose shares they are, as the ledger begins its reasons ("country").
    """
    if not all(math.isfinite(value) and value >= 0 for value in values):
        ledger.drop(f"{what}: share that is negative or not a number")
        return None
    total = math.fsum(values)
    if abs(total - 1) > TOLERANCE + 1e-9:
        ledger.drop(f"{what}: distribution that does not sum to 1")
        return None
    rest = [value for value, option in zip(values, options, strict=True) if not is_no_answer(option)]
    mass = math.fsum(rest)
    if mass <= 1e-9:
        ledger.drop(f"{what}: nobody gave an answer")
        return None
    if abs(total - 1) > 1e-6:
        ledger.note(f"{what}: distribution that sums to 1 only within 2 %, renormalised")
    if total - mass > 1e-9:
        ledger.note(f"{what}: share without an answer left out, rest renormalised")
    return tuple(value / mass for value in rest)


def on_a_scale(options: Sequence[str], places: Any) -> tuple[tuple[str, ...], bool]:
    """The options in the order of a scale, and whether there is one.

    places: where each option stands, as OpinionQA and SubPOP write it ([1.0, 2.0, 1.5]: the last is between the
    others); all the same, or none of it, says nothing, and known scales are taken for scales.
    """
    known = isinstance(places, list) and len(places) == len(options)
    if known and all(isinstance(place, int | float) for place in places) and len(set(places)) == len(options) > 2:
        return tuple(option for _, option in sorted(zip(places, options, strict=True))), True
    return tuple(options), is_ordinal(options)
