"""Shares of groups, split by items and groups: nothing of the test was trained on, in any corner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuma.data.builders.base import Ledger, Options
from cuma.data.builders.person_splits import UNSEEN
from cuma.data.builders.share_splits import CORNERS, HELD_CELLS, VALIDATION_CELLS, ShareSplit, split_shares
from cuma.data.surveys.item_families import item_families
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

TOPICS = ("trains", "schools", "taxes", "rivers", "bread", "music", "winter", "doctors", "letters", "horses")
ENDS = ("do you like", "should there be more", "were better long ago", "cost too much here", "matter to your family")
SCALES = (("Yes", "No"), ("Good", "Fair", "Bad"))


def split(items: int, groups: int, options: Options, ledger: Ledger | None = None, skip: int = 7) -> ShareSplit:
    asked = {f"q{n}": (f"{TOPICS[n % 10]} {ENDS[n % 5]} {n // 10}?", SCALES[n % 2]) for n in range(items)}
    profiles = {f"g{n}": [Profile(country=f"Country {n}")] for n in range(groups)}
    cells = [(item, group) for p, item in enumerate(asked) for q, group in enumerate(profiles) if (p + q + 1) % skip]
    made = split_shares(cells, asked, profiles, options, ledger or Ledger())
    object.__setattr__(made, "cells", cells)
    object.__setattr__(made, "asked", asked)
    return made


def test_every_corner_has_cells_and_the_card_counts_them() -> None:
    made = split(60, 20, Options(holdout_items=0.2, holdout_share=0.25))
    facts = made.facts
    assert list(facts[CORNERS]) == sorted(
        ["seen items · seen groups", "seen items · unseen groups", "unseen items · seen groups",
         "unseen items · unseen groups"]
    )  # fmt: skip
    assert facts["items"]["test"] == pytest.approx(0.2 * 60, abs=1)
    assert facts["holdout_items"] == 0.2
    unseen = {group for (_, group), where in zip(made.cells, made.splits, strict=True) if where == UNSEEN}
    assert len(unseen) == 5
    trained = sum(where == "train" for where in made.splits)
    held = facts[CORNERS]["seen items · seen groups"]
    chosen_by = sum(
        where == "validation" and made.item_split[item] == "train"
        for (item, _), where in zip(made.cells, made.splits, strict=True)
    )
    assert held == pytest.approx(HELD_CELLS * (trained + held + chosen_by), abs=1)
    assert chosen_by == pytest.approx(VALIDATION_CELLS * (trained + held + chosen_by), abs=1)


def test_named_groups_are_held_out_and_a_misspelt_one_is_told() -> None:
    made = split(20, 5, Options(holdout=(("country", "country 3"),)))
    assert {g for (_, g), where in zip(made.cells, made.splits, strict=True) if where == UNSEEN} == {"g3"}
    with pytest.raises(BenchmarkError, match="nobody has that value"):
        split(20, 5, Options(holdout=(("country", "Countri 3"),)))
    with pytest.raises(BenchmarkError, match="all 2 groups"):
        split(20, 2, Options(holdout=(("country", "country 0"), ("country", "country 1"))))


def test_no_items_are_held_out_where_none_are_wanted_or_all_are_repeats() -> None:
    made = split(20, 5, Options(holdout_items=0.0))
    assert "test" not in made.item_split.values()
    assert "seen items · seen groups" in made.facts[CORNERS]
    ledger = Ledger()
    same = {f"q{n}": ("Is this so?", ("Yes", "No")) for n in range(4)}
    cells = [(item, group) for item in same for group in ("a", "b", "c")]
    profiles = {name: [Profile(country=name)] for name in "abc"}
    alone = split_shares(cells, same, profiles, Options(), ledger)
    assert set(alone.item_split.values()) == {"train"}
    assert ledger.noted["question that cannot be held out, for all are near-repeats of one another"] == 4


@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.1, 0.3, 0.8]),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.integers(0, 5),
    st.integers(2, 9),
)
def test_nothing_of_the_test_leaks(items: int, groups: int, share: float, held: float, seed: int, skip: int) -> None:
    if groups == 1:
        held = 0.0
    options = Options(seed=seed, holdout_items=share, holdout_share=held)
    made = split(items, groups, options, skip=skip)
    where = dict(zip(made.cells, made.splits, strict=True))
    trained = {cell for cell, name in where.items() if name == "train"}
    seen_items, seen_groups = {item for item, _ in trained}, {group for _, group in trained}
    family, _ = item_families({item: made.asked[item] for item in made.item_split})
    for item in made.item_split:
        assert len({made.item_split[other] for other in made.item_split if family[other] == family[item]}) == 1
    for (item, group), name in where.items():
        part = made.item_split[item]
        assert name in (part, UNSEEN) or (name, part) in (("test", "train"), ("validation", "train"))
        if name in ("test", "validation") and part == "train":
            assert item in seen_items
            assert group in seen_groups
        if part != "train":
            assert item not in seen_items
        if name == UNSEEN:
            assert group not in seen_groups
    again = split_shares(
        list(reversed(made.cells)), made.asked, {f"g{n}": [Profile(country=f"Country {n}")] for n in range(groups)},
        options, Ledger(),
    )  # fmt: skip
    assert dict(zip(reversed(made.cells), again.splits, strict=True)) == where
