"""Whom a poll asks: people, or the cells of a population, with their weights; and margins that weights shall meet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuma.data.builders.base import Ledger
from cuma.data.builders.cell_text import cell_text
from cuma.data.builders.own_people import weights_of
from cuma.data.builders.own_rows import PERSON, WEIGHT, RawRow, read_row
from cuma.data.builders.poll_questions import Table, not_read, read_table
from cuma.errors import BenchmarkError, ProfileError, suggestion
from cuma.metrics.raking import CLOSE, rake
from cuma.people.profiles import FIELDS, Profile

SIZES = ("count", "share")
MARGIN = ("field", "value")
MOST_CELLS = 100_000
"""Cells that margins without cells may make."""
_ROUNDED = 0.02
"""How far from 1 the shares of a margin may sum to, and still be taken for rounded."""
Margins = Mapping[str, Mapping[str, float]]
"""Field → value → share; the shares of a field sum to 1."""


@dataclass(frozen=True, eq=False)
class PollPeople:
    """Whom a poll asks."""

    profiles: tuple[Profile, ...]
    weights: NDArray[np.float64]
    """[P], which sum to 1."""
    ids: tuple[str, ...]
    """As the file has them, or running numbers from 1."""
    known: bool
    """True: cells whose shares are known. False: people, who stand for more of their kind."""
    noted: tuple[str, ...] = ()
    """What a user should know of how the file was read."""
    named: bool = False
    """Whether the ids are the file's own, so that others' files may name the same people."""

    def values(self, field: str) -> list[str]:
        """Each one's value of a field; "" where it is absent. Raises BenchmarkError for a field that nobody has."""
        there = sorted({name for profile in self.profiles for name in profile.fields})
        if field not in there:
            raise BenchmarkError(f"Nobody who is asked has a field {field!r}. {suggestion(field, there)}")
        return [profile.fields.get(field, "") for profile in self.profiles]


def read_people(path: str | Path) -> PollPeople:
    """People with their profiles, a row each: fields of `cuma.Profile`, or `profile`; optionally person_id and weight.

    Raises:
        BenchmarkError: no such file, no column says anything of a person, or a row cannot be read. Never a value.
    """
    table = read_table(path)
    rows, noted = _who(table, (PERSON, WEIGHT))
    ids = [row.person for row in rows]
    if any(ids):
        if not all(ids):
            raise BenchmarkError(f"{table.path}: {ids.count('')} rows have no {PERSON}. Give all, or leave it out.")
        if len(set(ids)) < len(ids):
            raise BenchmarkError(f"{table.path}: {len(ids) - len(set(ids))} rows repeat a {PERSON}. Give a row each.")
    sizes, absent = _sizes(table, [row.weight for row in rows], WEIGHT)
    if WEIGHT in table.names and absent:
        noted = (*noted, f"row without a weight beside rows that have one, counts as 1: {absent}")
    named = any(ids)
    return PollPeople(
        _profiles(rows), sizes / sizes.sum(), tuple(ids) if named else _numbers(rows), False, noted, named
    )


def read_population(path: str | Path) -> PollPeople:
    """A population's cells: profile fields, and `count` or `share`. Or its margins: field, value, and `count` or
    `share`; fields are then taken for independent of each other, which is said.

    Raises:
        BenchmarkError: as `read_people`, or the shares are none.
    """
    table = read_table(path)
    if set(MARGIN) <= set(table.names):
        return _independent(_margins(table))
    size = _size_column(table, "cells: profile fields with count or share; or margins: field, value, share")
    rows, noted = _who(table, SIZES)
    sizes, absent = _sizes(table, [cell_text(row.get(size)) for row in table.rows], size)
    if absent:
        raise BenchmarkError(f"{table.path}: {absent} cells have no {size}. Write 0 for a cell without people.")
    return PollPeople(_profiles(rows), sizes / sizes.sum(), _numbers(rows), True, noted)


def read_margins(path: str | Path) -> Margins:
    """The shares of values, field by field. Raises BenchmarkError."""
    table = read_table(path)
    table.require(*MARGIN)
    return _margins(table)


def raked(people: PollPeople, margins: Margins) -> PollPeople:
    """The same people, or cells, with weights that meet the margins. Who lacks a field keeps their part of it.

    Raises:
        BenchmarkError: somebody has a value that the margin does not know, or the other way round; or the margins
            cannot be met together.
    """
    targets = [(_codes(people, field, shares), field) for field, shares in margins.items()]
    weights, off = rake(people.weights, [target for target, _ in targets])
    if off.max(initial=0.0) > CLOSE:
        worst = targets[int(off.argmax())][1]
        raise BenchmarkError(
            f"The margins cannot be met together: the shares of {worst} stay {off.max():.3f} off. They disagree, or "
            "the combinations that they need have nobody."
        )
    return replace(people, weights=weights, noted=(*people.noted, f"weights raked to {', '.join(margins)}"))


def _codes(
    people: PollPeople, field: str, shares: Mapping[str, float]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """([P] each one's value by number, [V] the shares of the values), whoever lacks the field being a value."""
    values = people.values(field)
    order = [*shares, ""]
    strange = sum(value not in shares and value != "" for value in values)
    missing = [value for value, share in shares.items() if share > 0 and value not in values]
    if strange or missing:
        what = f"{strange} of them have a value of {field} that the margins lack" if strange else ""
        lack = f"nobody has the value {missing[0]!r} of {field}" if missing else ""
        raise BenchmarkError(f"{'; '.join(filter(None, (lack, what)))}. Spell values alike in both files.")
    number = np.array([order.index(value) for value in values])
    without = float(people.weights[number == len(shares)].sum())
    return number, np.array([*(share * (1 - without) for share in shares.values()), without])


def _who(table: Table, beside: tuple[str, ...]) -> tuple[list[RawRow], tuple[str, ...]]:
    """Who each row is, and what is to be said of the reading."""
    fields = ("profile", *FIELDS, *(f"profile.{name}" for name in FIELDS))
    if not set(fields) & set(table.names):
        told = suggestion(next(iter(table.names)), FIELDS)
        raise BenchmarkError(f"{table.path} has no column that says who somebody is. {told}")
    ledger, rows = Ledger(), []
    for number, row in enumerate(table.rows, 1):
        read = read_row(None, row, number, ledger)
        if read is None:
            raise BenchmarkError(f"{table.path}, row {number}: {next(iter(ledger.dropped))}. Mend that row.")
        rows.append(read)
    noted = [f"{what}: {times}" for what, times in (table.noted + ledger.noted).items()]
    absent = sum(not row.profile for row in rows)
    noted += [f"rows that say nothing of the person, asked as nobody in particular: {absent}"] if absent else []
    return rows, (*noted, *not_read(table.names, (*fields, *beside)))


def _profiles(rows: list[RawRow]) -> tuple[Profile, ...]:
    return tuple(row.profile for row in rows)


def _numbers(rows: list[Any]) -> tuple[str, ...]:
    return tuple(str(number) for number in range(1, len(rows) + 1))


def _size_column(table: Table, expected: str) -> str:
    there = [name for name in SIZES if name in table.names]
    if len(there) != 1:
        what = "has both count and share: keep one" if there else "has neither count nor share"
        raise BenchmarkError(f"{table.path} {what}. Expected {expected}. {suggestion('count', table.names)}")
    return there[0]


def _sizes(table: Table, texts: list[str], column: str) -> tuple[NDArray[np.float64], int]:
    """([P] the numbers of a column, an absent one as 1; how many are absent). Raises BenchmarkError."""
    meaning = weights_of(set(texts), column)
    for number, text in enumerate(texts, 1):
        if reason := meaning[text][1]:
            raise BenchmarkError(f"{table.path}, row {number}: {reason.replace(WEIGHT, column)}.")
    numbers = [meaning[text][0] for text in texts]
    sizes = np.array([1.0 if number is None else number for number in numbers])
    if not sizes.any():
        raise BenchmarkError(f"{table.path}: every {column} is 0.")
    return sizes, numbers.count(None)


def _margins(table: Table) -> Margins:
    size = _size_column(table, "margins: field, value, and count or share")
    sizes, absent = _sizes(table, [cell_text(row.get(size)) for row in table.rows], size)
    if absent:
        raise BenchmarkError(f"{table.path}: {absent} rows have no {size}.")
    found: dict[str, dict[str, float]] = {}
    for number, (row, given) in enumerate(zip(table.rows, sizes, strict=True), 1):
        field = cell_text(row.get("field"))
        try:
            value = Profile(**{field: row.get("value")}).fields.get(field)
        except ProfileError as error:
            raise BenchmarkError(f"{table.path}, row {number}: {error}") from error
        if value is None:
            raise BenchmarkError(f"{table.path}, row {number}: the value of {field} is missing.")
        if value in found.setdefault(field, {}):
            raise BenchmarkError(f"{table.path}, row {number}: this value of {field} stands there twice.")
        found[field][value] = float(given)
    return {field: _to_one(table, field, shares, size) for field, shares in found.items()}


def _to_one(table: Table, field: str, shares: Mapping[str, float], size: str) -> dict[str, float]:
    """A field's numbers as shares. Raises BenchmarkError where numbers called shares sum neither to 1 nor to 100."""
    total = math.fsum(shares.values())
    if total <= 0:
        raise BenchmarkError(f"{table.path}: every {size} of {field} is 0.")
    if size == "share" and min(abs(total - 1), abs(total / 100 - 1)) > _ROUNDED:
        raise BenchmarkError(f"{table.path}: the shares of {field} sum to {total:g}, not to 1 (or 100).")
    return {value: share / total for value, share in shares.items()}


def _independent(margins: Margins) -> PollPeople:
    """Every combination of the margins' values, with the product of their shares."""
    cells = math.prod(len(shares) for shares in margins.values())
    if cells > MOST_CELLS:
        raise BenchmarkError(f"The margins make {cells:,} cells, more than {MOST_CELLS:,}. Give joint cells instead.")
    combined = list(itertools.product(*(shares.items() for shares in margins.values())))
    profiles = [Profile(**dict(zip(margins, (value for value, _ in cell), strict=True))) for cell in combined]
    weights = np.array([math.prod(share for _, share in cell) for cell in combined])
    said = f"{' × '.join(margins)}: {cells} cells made of margins alone, as if the fields were independent"
    return PollPeople(
        tuple(profiles), weights / weights.sum(), _numbers(combined), True, (said,) if len(margins) > 1 else ()
    )
