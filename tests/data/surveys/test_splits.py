"""Splits: nobody in two parts, no group in two roles, a function of the seed and of nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.data.surveys.splits import beyond_cap, split_groups, split_people
from cuma.errors import BenchmarkError

LABELS = [f"group {number}" for number in range(12)]
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
"""A busy machine is no failure."""

SIZES = {"seen": 7, "validation": 2, "test": 3}


def people_of(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"person": np.arange(900), "group": rng.choice(LABELS, 900)})


def split(people: pd.DataFrame, seed: int, labels: list[str] = LABELS) -> pd.DataFrame:
    return people.assign(part=split_people(people, split_groups(labels, SIZES, seed), seed))


@patient
@given(st.integers(0, 50))
def test_roles_have_their_sizes_and_share_no_group(seed: int) -> None:
    roles = split_groups(LABELS, SIZES, seed)
    assert set(roles) == set(LABELS)
    assert {role: list(roles.values()).count(role) for role in SIZES} == SIZES
    assert roles == split_groups(LABELS[::-1], SIZES, seed)


def test_the_seed_decides() -> None:
    assert len({tuple(split_groups(LABELS, SIZES, seed).items()) for seed in range(10)}) == 10
    people = people_of(0)
    assert split(people, 1).equals(split(people, 1))
    assert not split(people, 1).equals(split(people, 2))


@patient
@given(st.integers(0, 20))
def test_parts_follow_roles_and_shares(seed: int) -> None:
    people, roles = people_of(seed), split_groups(LABELS, SIZES, seed)
    parts = split(people, seed)
    for label, members in parts.groupby("group"):
        if roles[str(label)] == "seen":
            count = members["part"].value_counts()
            assert count["train"] == round(0.4 * len(members))
            assert count["validation"] == round(0.1 * len(members))
            assert count["test"] == len(members) - count["train"] - count["validation"]
        else:
            assert set(members["part"]) == {roles[str(label)]}


@patient
@given(st.integers(0, 20))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    people = people_of(1)
    shuffled = people.sample(frac=1, random_state=seed)
    cap = beyond_cap(split(people, 3), 20, 3)
    assert split(shuffled, 3).sort_index().equals(split(people, 3))
    assert beyond_cap(split(shuffled, 3), 20, 3).sort_index().equals(cap)


def test_a_group_more_or_less_leaves_the_others_alone() -> None:
    people, roles = people_of(1), split_groups(LABELS, SIZES, 3)
    fewer = people[people["group"] != LABELS[0]]
    assert split_people(fewer, roles, 3).equals(split_people(people, roles, 3)[fewer.index])


def test_the_cap_keeps_so_many_training_people_and_everybody_else() -> None:
    parts = split(people_of(1), 3)
    kept = parts[~beyond_cap(parts, 20, 3)]
    before, after = parts["part"].value_counts(), kept["part"].value_counts()
    assert kept[kept["part"] == "train"].groupby("group").size().eq(20).all()
    assert after["test"] == before["test"]
    assert after["validation"] == before["validation"]


def test_sizes_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(BenchmarkError, match="12 groups, expected 11"):
        split_groups(LABELS, SIZES | {"seen": 6}, 0)
    with pytest.raises(BenchmarkError, match="twice"):
        split_groups([*LABELS[:11], LABELS[0]], SIZES, 0)
