"""Who is trained on, who is tuned on, who is tested on: a seeded split of groups into roles and of people into parts.

A split is a function of the seed and of *who is there*, never of the order of rows in a file. Nobody is in two parts,
and a held-out group is held out whole, so "unseen" means that no member of the group was ever looked at in training.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from cuma.data.surveys.survey import ROLES, Part, Role, check_names
from cuma.errors import BenchmarkError

SHARES: dict[Part, float] = {"train": 0.4, "validation": 0.1, "test": 0.5}
"""The people of a seen group. Half of them are kept for the test: a distribution needs many answers to be measured."""


def split_groups(labels: Iterable[str], sizes: Mapping[Role, int], seed: int) -> dict[str, Role]:
    """A role for every group: `sizes[role]` groups drawn for each role, the same for the same seed and set of labels.

    Raises `BenchmarkError` if a label repeats or the sizes do not add up to the number of groups.
    """
    names = sorted(labels)
    if len(set(names)) != len(names):
        raise BenchmarkError("A group's label occurs twice. Give every group a label of its own.")
    check_names("role", sizes, ROLES)
    if sum(sizes.values()) != len(names):
        raise BenchmarkError(
            f"Got {len(names)} groups, expected {sum(sizes.values())}: the role sizes {dict(sizes)} must add up."
        )
    drawn = np.random.default_rng([seed, 0]).permutation(len(names))
    roles = [role for role in ROLES for _ in range(sizes.get(role, 0))]
    role_of = {names[place]: role for place, role in zip(drawn, roles, strict=True)}
    return {name: role_of[name] for name in names}


def split_people(
    people: pd.DataFrame, roles: Mapping[str, Role], seed: int, shares: Mapping[Part, float] = SHARES
) -> pd.Series:
    """A part for every row of `people` (columns `person`, `group`), as a Series on its index.

    Seen groups are divided by `shares`; everybody in a held-out group gets the part of the group's role. Each group
    draws from its own random stream, so adding or removing a group leaves the others' split as it was.
    """
    parts = pd.Series("", index=people.index, dtype=object, name="part")
    for label, members in people.groupby("group", sort=True)["person"]:
        role = roles[str(label)]
        if role != "seen":
            parts[members.index] = role
            continue
        ordered = members.sort_values().index
        drawn = group_stream(str(label), seed).permutation(len(ordered))
        train = round(shares["train"] * len(ordered))
        tuned = train + round(shares["validation"] * len(ordered))
        for part, places in (("train", drawn[:train]), ("validation", drawn[train:tuned]), ("test", drawn[tuned:])):
            parts[ordered[places]] = part
    return parts


def beyond_cap(people: pd.DataFrame, cap: int, seed: int) -> pd.Series:
    """Which rows of `people` (columns `person`, `group`, `part`) are training people beyond `cap` in their group.

    Returns a Series of bool on the index of `people`. Those who stay are drawn at random, from each group's own stream.
    """
    beyond = pd.Series(False, index=people.index)
    for label, members in people[people["part"] == "train"].groupby("group", sort=True)["person"]:
        ordered = members.sort_values().index
        drawn = group_stream(f"cap of {label}", seed).permutation(len(ordered))
        beyond[ordered[drawn[cap:]]] = True
    return beyond


def group_stream(label: str, seed: int) -> np.random.Generator:
    """A random stream that belongs to one label and one seed, on every machine and in every process."""
    return np.random.default_rng([seed, 1, zlib.crc32(label.encode())])


def lot(name: str, seed: int, purpose: str = "split") -> float:
    """A number in [0, 1) that belongs to a name, a seed and a purpose, on every machine."""
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
