"""Which groups and cells a report may show: none with fewer than eleven people, nor one that gives such a cell away."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

import pandas as pd

from cuma.metrics.shares import N, is_shares
from cuma.privacy.small_groups import MIN_PEOPLE

Key = TypeVar("Key", bound=Hashable)


def hidden(
    sizes: Mapping[Key, float], already: Collection[Key] = frozenset(), minimum: int = MIN_PEOPLE
) -> frozenset[Key]:
    """The keys to leave out of a list whose total may be known; those in `already` are left out in any case.

    Cells below `minimum` go. One such cell alone could be found by subtracting the others from the total, so the next
    smallest go with it until at least two are hidden and together hold at least `minimum` people.
    """
    small = {key for key, size in sizes.items() if size < minimum or key in already}
    if not small:
        return frozenset()
    rest = sorted((size, str(key), key) for key, size in sizes.items() if key not in small)
    people = sum(sizes[key] for key in small)
    for size, _, key in rest:
        if len(small) >= 2 and people >= minimum:
            break
        small.add(key)
        people += size
    return frozenset(small)


def hidden_groups(people: pd.DataFrame) -> frozenset[str]:
    """Groups left out of every picture. `people`: one row per person × question with person, group, seen; or shares,
    one row per group × question, with n where the number of people is known. Where it is not, nothing is left out."""
    found: set[str] = set()
    for _, side in people.groupby("seen"):
        found |= hidden(_sizes(side))
    return frozenset(found)


def hidden_cells(people: pd.DataFrame) -> frozenset[tuple[str, str]]:
    """(group, question_id) pairs left out: those of hidden groups, and cells that too few people answered."""
    groups = hidden_groups(people)
    found: set[tuple[str, str]] = set()
    for (_, question), cell in people.groupby(["seen", "question_id"]):
        found |= {(group, question) for group in hidden(_sizes(cell), groups)}
    return frozenset(found)


def too_few(people: pd.DataFrame) -> bool:
    """Whether the people of a whole side are so few that its figures would be those of a small group; not if there is
    nobody, or it is not known how many. `people`: as `hidden_groups`."""
    return 0 < sum(_sizes(people).values()) < MIN_PEOPLE


def _sizes(people: pd.DataFrame) -> dict[str, float]:
    """Group → people; of shares the most that answered a question, infinite where that is not known."""
    if not is_shares(people):
        return {str(group): int(size) for group, size in people.groupby("group")["person"].nunique().items()}
    n = people[N].fillna(math.inf) if N in people else pd.Series(math.inf, index=people.index)
    return {str(group): float(size) for group, size in n.groupby(people["group"]).max().items()}


def people_text(number: int) -> str:
    """A total of people, in words when it is itself too small to print."""
    return f"{number:,}" if number >= MIN_PEOPLE else f"fewer than {MIN_PEOPLE}"
