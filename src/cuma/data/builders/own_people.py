"""Who is who in somebody's file: one id, one person, one answer to a question, one weight.

Whoever may be one person is never in two splits; whoever may be several people is not lost in one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from cuma.data.builders.base import Ledger, Task
from cuma.data.builders.cell_text import cell_number
from cuma.data.builders.own_rows import DESIGN, PERSON, WEIGHT, RawRow
from cuma.errors import BenchmarkError
from cuma.people.absence import is_absent
from cuma.people.profiles import CODED, FIELDS, Profile, without_codes

NOT_KNOWN = "not known"
"""The group of whoever has neither a group nor a country."""
_ROUNDED = re.compile(r"\d(\.\d+)?[eE]\+\d+")
"""A long number as spreadsheets and pandas write it when they have lost its last digits."""
FROM_OTHERS = "row that says nothing of its person, whose other rows do: theirs is taken"
_THOUSANDS = re.compile(r"[1-9]\d{0,2},\d{3}")


@dataclass(frozen=True)
class Row:
    """One usable row of a file."""

    task: Task
    values: dict[str, Any]
    """The task's own columns."""
    profile: Profile
    person: str
    unit: str
    """The id in the file. Several people who have one stay in one split."""
    group: str
    weight: float | None
    design: tuple[str, ...] = ("", "")
    """The person's stratum and sampling unit; "" without one."""


def without_column_codes(rows: list[RawRow], ledger: Ledger) -> list[RawRow]:
    """The rows, without the codes that stand in front of labels in whole columns of the profile."""
    profiles, times = without_codes([row.profile for row in rows])
    for name, count in times.items():
        ledger.note(f"{name}: {CODED}", count)
    return [replace(row, profile=profile) for row, profile in zip(rows, profiles, strict=True)] if times else rows


def settle_people(rows: list[RawRow], ledger: Ledger) -> list[Row]:
    """The rows of all tasks with their people, groups and weights, less those that cannot be used.

    An id is one person as long as its rows agree on the group and on the profile's fields. The rows of a survey have
    all that is known of the person; those of conversations keep what each says, and one that says nothing of its
    person has what their other rows say.

    Raises:
        BenchmarkError: a whole column cannot be read: ids that have lost digits, weights of two meanings.
    """
    check_ids({row.person for row in rows}, PERSON)
    weights = weights_of({row.weight for row in rows})
    for row in rows:
        if reason := weights[row.weight][1]:
            ledger.drop(reason)
    rows = [row for row in rows if not weights[row.weight][1]]
    _note_absences(rows, ledger)
    names = {row.person for row in rows}
    units: dict[str, list[RawRow]] = {}
    for row in rows:
        units.setdefault(row.person or _free(f"row {row.number}", names), []).append(row)
    settled: dict[int, Row] = {}
    for unit, its in units.items():
        people = _apart(its)
        ledger.note("person_id whose rows differ in group or profile, taken for several people", len(people) > 1)
        for place, own in enumerate(people):
            person = _free(f"{unit} ({place + 1})", names) if place else unit
            profile, group = _together(own)
            for row in own:
                assert row.task is not None  # only people's files have rows without one
                known = profile if row.task == "survey" or not row.profile else row.profile
                ledger.note(FROM_OTHERS, row.task != "survey" and known != row.profile)
                settled[row.number] = Row(
                    row.task, row.values, known, person, unit, group, weights[row.weight][0], row.design
                )
    ordered = [settled[number] for number in sorted(settled)]
    answers = [row for row in ordered if row.task == "survey"]
    shares = [row for row in ordered if row.task == "distribution"]
    rest = [row for row in ordered if row.task not in ("survey", "distribution")]
    answers = _one_design(_one_weight(_first_answers(answers, ledger), ledger), ledger)
    return [*answers, *_first_shares(shares, ledger), *rest]


def check_ids(texts: Iterable[str], column: str) -> None:
    """Raise `BenchmarkError` for a column of ids that a spreadsheet has rounded."""
    if any(_ROUNDED.fullmatch(text) for text in texts):
        raise BenchmarkError(
            f"{column} holds numbers such as 1.2E+11, which have lost digits, so that different people share one. Save "
            "the column as text and try again."
        )


def check_commas(texts: Iterable[str], column: str) -> None:
    """Raise `BenchmarkError` for a column of numbers whose commas may mean two things."""
    commas = [text for text in texts if "," in text]
    if commas and all(_THOUSANDS.fullmatch(text) for text in commas):
        raise BenchmarkError(
            f"{column} holds numbers such as 1,234, whose comma may be a decimal one or mark thousands. Write them "
            "with a decimal point, or without the mark."
        )


def weights_of(texts: set[str], column: str = WEIGHT) -> dict[str, tuple[float | None, str]]:
    """Each text of the column as a weight, None where it is none; and why it cannot be used, or ""."""
    check_commas(texts, column)
    found: dict[str, tuple[float | None, str]] = {}
    for text in texts:
        number = cell_number(text)
        if number is not None:
            found[text] = number, "weight that is negative" if number < 0 else ""
        else:
            found[text] = None, "" if is_absent(text) else "weight that is no number"
    return found


def _note_absences(rows: list[RawRow], ledger: Ledger) -> None:
    ledger.note("row without person_id, taken for a person of its own", sum(not row.person for row in rows))
    if any(row.group for row in rows):
        without = sum(not row.group for row in rows)
        ledger.note("row without a group beside rows that have one: its person's, or its country", without)
    for task in {row.task for row in rows}:
        weights = [cell_number(row.weight) for row in rows if row.task == task]
        if any(weight is not None for weight in weights):
            ledger.note("row without a weight beside rows that have one, counts as 1", weights.count(None))


def _free(name: str, taken: set[str]) -> str:
    """A name that nobody has, from now on taken."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def _apart(rows: list[RawRow]) -> list[list[RawRow]]:
    """The rows of one id, person by person. Who comes first does not depend on the order of rows."""
    if len(rows) == 1:
        return [rows]
    differing = [name for name in FIELDS if len({getattr(row.profile, name) for row in rows} - {None}) > 1]
    several = len({row.group for row in rows} - {""}) > 1
    people: dict[tuple[str, ...], list[RawRow]] = {}
    for row in rows:
        key = (row.group if several else "", *(getattr(row.profile, name) or "" for name in differing))
        people.setdefault(key, []).append(row)
    return [people[key] for key in sorted(people)]


def _together(rows: list[RawRow]) -> tuple[Profile, str]:
    """All that one person's rows know of them, and the group."""
    if len(rows) == 1:
        profile, group = rows[0].profile, rows[0].group
    else:
        profile = Profile(**{name: value for row in rows for name, value in row.profile.fields.items()})
        group = next((row.group for row in rows if row.group), "")
    return profile, group or profile.country or NOT_KNOWN


def _first_answers(rows: list[Row], ledger: Ledger) -> list[Row]:
    """The first answer of each person to each question."""
    first: dict[tuple[str, str], int] = {}
    kept = []
    for row in rows:
        answer = row.values["answer"]
        counted = first.get((row.person, row.values["question_id"]))
        if counted is None:
            first[row.person, row.values["question_id"]] = answer
            kept.append(row)
        elif counted == answer:
            ledger.drop("answer that the person gave to the question before")
        else:
            ledger.drop("second answer of a person to a question, another one: the first counts")
    return kept


def _first_shares(rows: list[Row], ledger: Ledger) -> list[Row]:
    """The first distribution of each group for each question."""
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        if first.setdefault((row.group, row.values["question_id"]), row) is not row:
            ledger.drop("second distribution of a group for a question: the first counts")
    return list(first.values())


def _one_weight(rows: list[Row], ledger: Ledger) -> list[Row]:
    """Every row with its person's first weight."""
    first: dict[str, float] = {}
    for row in rows:
        if row.weight is not None and first.setdefault(row.person, row.weight) != row.weight:
            ledger.note("row with another weight than its person's first, which counts")
    return [replace(row, weight=first.get(row.person)) for row in rows]


def _one_design(rows: list[Row], ledger: Ledger) -> list[Row]:
    """Every row with its person's first stratum and sampling unit."""
    first: dict[str, tuple[str, ...]] = {}
    for row in rows:
        if any(row.design) and first.setdefault(row.person, row.design) != row.design:
            ledger.note("row with another stratum or unit than its person's first, which counts")
    if not first:
        return rows
    people = {row.person for row in rows}
    for place, what in enumerate(DESIGN):
        without = sum(not first.get(person, ("", ""))[place] for person in people)
        if without < len(people):
            ledger.note(f"person without a {what} beside people who have one: kept, and none in the design", without)
    return [replace(row, design=first.get(row.person, ("", ""))) for row in rows]


def in_common(rows: list[Row]) -> dict[str, dict[str, str]]:
    """Group → the profile fields that all its rows have with one value."""
    common: dict[str, dict[str, str]] = {}
    for row in rows:
        fields = row.profile.fields
        common[row.group] = dict(common.setdefault(row.group, fields).items() & fields.items())
    return common
