"""Who is in which split: a function of the seed and of each name alone, never of the order of rows in a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from cuma.data.builders.cell_text import cell_number
from cuma.data.surveys.splits import lot
from cuma.errors import BenchmarkError, suggestion
from cuma.people.profiles import FIELDS, Profile

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""Of the people of every group."""
UNSEEN = "unseen"
Row = TypeVar("Row")


def assign(people: Mapping[str, str], seed: int, shares: Mapping[str, float] = SHARES) -> dict[str, str]:
    """A split for every person, stratified by group: each group is divided by `shares` as exactly as its size allows.

    people: person → group. Within a group people are ordered by lot; where a group's share is not whole, the group's
    own lot decides, so that many small groups together have the shares too.
    """
    members: dict[str, list[str]] = {}
    for person, group in people.items():
        members.setdefault(group, []).append(person)
    result = {}
    for group, names in members.items():
        names.sort(key=lambda name: (lot(name, seed), name))
        offset = lot(group, seed, "group") - 0.5
        edge, edges = 0.0, []
        for share in shares.values():
            edge += share * len(names)
            edges.append(edge)
        for place, name in enumerate(names):
            at = place + 0.5 + offset * (1 - 1e-9)
            split = next((s for s, e in zip(shares, edges, strict=True) if at < e), list(shares)[-1])
            result[name] = split
    return {person: result[person] for person in people}


def draw(units: Mapping[str, str], size: int | None, seed: int) -> set[str]:
    """At most `size` units (people, conversations), the same share of every group as far as sizes allow.

    units: unit → group. None: all. Every group gets its quota by largest remainder; ties go by lot.
    """
    if size is None or size >= len(units):
        return set(units)
    members: dict[str, list[str]] = {}
    for unit, group in units.items():
        members.setdefault(group, []).append(unit)
    exact = {group: size * len(names) / len(units) for group, names in members.items()}
    quota = {group: int(share) for group, share in exact.items()}
    left = size - sum(quota.values())
    by_remainder = sorted(exact, key=lambda group: (quota[group] - exact[group], lot(group, seed, "quota"), group))
    for group in by_remainder[:left]:
        quota[group] += 1
    return {
        unit
        for group, names in members.items()
        for unit in sorted(names, key=lambda name: (lot(name, seed, "sample"), name))[: quota[group]]
    }


def parse_holdout(texts: Iterable[str]) -> tuple[tuple[tuple[str, str], ...], float]:
    """`country=Japan` → ("country", "Japan"); `0.1` → a share of the groups, 0 where none is given.

    Raises `BenchmarkError`; the text names the field, never the value.
    """
    pairs, share = [], 0.0
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals and (number := cell_number(name)) is not None:
            if share or not 0 < number < 1:
                raise BenchmarkError("--holdout-groups takes one share between 0 and 1, such as 0.1.")
            share = number
            continue
        if not equals or not value.strip():
            raise BenchmarkError("--holdout-groups takes FIELD=VALUE, such as country=Japan, or a share such as 0.1.")
        if name not in FIELDS:
            raise BenchmarkError(f"--holdout-groups: unknown profile field {name!r}. {suggestion(name, FIELDS)}")
        pairs.append((name, value.strip()))
    return tuple(pairs), share


def held_out(profile: Profile, holdout: Sequence[tuple[str, str]]) -> bool:
    """Whether the person has one of the values that are kept out for zero-shot tests."""
    return any((getattr(profile, name) or "").casefold() == value.casefold() for name, value in holdout)


def check_holdout(holdout: Sequence[tuple[str, str]], profiles: Iterable[Profile]) -> None:
    """Raise `BenchmarkError` if nobody has a value that should be held out: a misspelt one would hold out nothing."""
    people = list(profiles)
    for name, value in holdout:
        if not any(held_out(profile, [(name, value)]) for profile in people):
            raise BenchmarkError(
                f"--holdout-groups: nobody has that value of {name!r}. Check its spelling in the data."
            )


def without_shared_prompts(
    splits: Mapping[str, list[Row]], prompt_of: Mapping[str, list[str]]
) -> tuple[dict[str, list[Row]], dict[str, int]]:
    """Training rows (and validation rows) less those whose prompt an evaluation split has too.

    splits: split → rows; prompt_of: split → each row's prompt, in the same order. The test sets stay whole.

    Returns:
        The rows that stay, and how many were left out, by split.
    """
    taken: set[str] = set()
    kept: dict[str, list[Row]] = {}
    left_out: dict[str, int] = {}
    for split in (UNSEEN, "test", "validation", "train"):
        if split not in splits:
            continue
        rows, prompts = splits[split], prompt_of[split]
        shared = taken if split in ("validation", "train") else set()
        kept[split] = [row for row, prompt in zip(rows, prompts, strict=True) if prompt not in shared]
        left_out[split] = len(rows) - len(kept[split])
        taken |= set(prompts)
    return {split: kept[split] for split in splits}, left_out
