"""The rule for small groups: no figure of fewer than eleven people, nor one that gives such a figure away."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

MIN_PEOPLE = 11
"""The fewest people whose answers are shown together. A smaller group could be recognised; nor can it be called the
worst served, for its EMD is mostly noise."""

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


def people_text(number: int) -> str:
    """A total of people, in words when it is itself too small to print."""
    return f"{number:,}" if number >= MIN_PEOPLE else f"fewer than {MIN_PEOPLE}"
