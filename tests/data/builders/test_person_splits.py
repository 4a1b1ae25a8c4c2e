"""Splits and samples: by lot, by group, and nobody twice."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma.data.builders.person_splits import (
    SHARES,
    assign,
    check_holdout,
    draw,
    held_out,
    parse_holdout,
    without_shared_prompts,
)
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

PEOPLE = {f"person {i}": f"group {i % 7}" for i in range(1400)}


def test_every_group_is_divided_by_the_shares() -> None:
    split_of = assign(PEOPLE, seed=0)
    for group in set(PEOPLE.values()):
        sizes = Counter(split_of[person] for person in PEOPLE if PEOPLE[person] == group)
        assert all(abs(sizes[split] - share * 200) <= 1 for split, share in SHARES.items())


def test_many_small_groups_together_have_the_shares() -> None:
    sizes = Counter(assign({f"p{i}": f"g{i // 2}" for i in range(4000)}, seed=0).values())
    assert all(abs(sizes[split] - share * 4000) < 150 for split, share in SHARES.items())


def test_the_order_of_rows_means_nothing_and_the_seed_does() -> None:
    turned = list(PEOPLE.items())
    random.Random(1).shuffle(turned)
    assert assign(dict(turned), seed=0) == assign(PEOPLE, seed=0)
    assert assign(PEOPLE, seed=1) != assign(PEOPLE, seed=0)
    assert draw(dict(turned), 100, seed=0) == draw(PEOPLE, 100, seed=0)
    assert draw(PEOPLE, 100, seed=1) != draw(PEOPLE, 100, seed=0)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8), size=st.integers(0, 250), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_sample_has_its_size_and_each_groups_share(sizes: list[int], size: int, seed: int) -> None:
    units = {f"{group}-{i}": str(group) for group, n in enumerate(sizes) for i in range(n)}
    chosen = draw(units, size, seed)
    assert len(chosen) == min(size, len(units))
    for group, n in enumerate(sizes):
        exact = min(size, len(units)) * n / len(units)
        assert abs(sum(units[unit] == str(group) for unit in chosen) - exact) < 1


def test_a_larger_sample_of_a_single_group_holds_the_smaller() -> None:
    units = {f"u{i}": "all" for i in range(50)}
    assert draw(units, 10, 0) < draw(units, 20, 0)


def test_hold_outs_are_parsed_and_never_repeated_in_errors() -> None:
    pairs = (("country", "Japan"), ("religion", "Zoroastrian"))
    assert parse_holdout(["country=Japan", "religion = Zoroastrian "]) == (pairs, 0)
    assert parse_holdout(["country=Japan", "0.2", "religion = Zoroastrian "]) == (pairs, 0.2)
    for texts in (["1"], ["0"], ["2.5"], ["0.1", "0.2"]):
        with pytest.raises(BenchmarkError, match="one share between 0 and 1"):
            parse_holdout(texts)
    for text in ("Zoroastrian", "faith=Zoroastrian", "country="):
        with pytest.raises(BenchmarkError) as error:
            parse_holdout([text])
        assert "Zoroastrian" not in str(error.value)
    with pytest.raises(BenchmarkError) as error:
        check_holdout([("religion", "Zoroastrian")], [Profile(religion="Buddhist")])
    assert "Zoroastrian" not in str(error.value)


def test_a_person_is_held_out_by_any_of_the_values() -> None:
    holdout = (("country", "japan"), ("religion", "Buddhist"))
    assert held_out(Profile(country="Japan"), holdout)
    assert held_out(Profile(country="Peru", religion="Buddhist"), holdout)
    assert not held_out(Profile(country="Peru"), holdout)
    assert not held_out(Profile(), holdout)


def test_training_loses_the_prompts_that_evaluation_has() -> None:
    splits = {"train": [1, 2, 3], "validation": [4, 5], "test": [6], "unseen": [7]}
    prompts = {"train": ["a", "b", "c"], "validation": ["b", "d"], "test": ["d"], "unseen": ["c"]}
    kept, left_out = without_shared_prompts(splits, prompts)
    assert kept == {"train": [1], "validation": [4], "test": [6], "unseen": [7]}
    assert left_out == {"train": 2, "validation": 1, "test": 0, "unseen": 0}
