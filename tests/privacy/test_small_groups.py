"""Nobody's answers are shown, or can be worked out, from a group of fewer than eleven people."""

from __future__ import annotations

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.reports.privacy import MIN_PEOPLE, hidden, hidden_cells, hidden_groups, people_text

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

SIZES = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 40), max_size=12)


@patient
@given(SIZES)
def test_what_stays_is_large_and_what_goes_cannot_be_subtracted(sizes: dict[str, int]) -> None:
    gone = hidden(sizes)
    assert all(sizes[key] >= MIN_PEOPLE for key in sizes.keys() - gone)
    if gone and gone != sizes.keys():
        assert len(gone) >= 2
        assert sum(sizes[key] for key in gone) >= MIN_PEOPLE


@patient
@given(SIZES)
def test_nothing_goes_when_every_group_is_large_enough(sizes: dict[str, int]) -> None:
    large = {key: size + MIN_PEOPLE for key, size in sizes.items()}
    assert hidden(large) == frozenset()


@patient
@given(SIZES, st.data())
def test_keys_hidden_elsewhere_are_hidden_here(sizes: dict[str, int], data: st.DataObject) -> None:
    already = data.draw(st.sets(st.sampled_from(sorted(sizes)))) if sizes else set()
    assert already <= hidden(sizes, already)


def answers(sizes: dict[str, dict[str, int]]) -> pd.DataFrame:
    """`sizes`: group → question → number of people who answered."""
    rows, start = [], 0
    for group, questions in sizes.items():
        rows += [(start + i, group, True, question, 0) for question, n in questions.items() for i in range(n)]
        start += 1000
    return pd.DataFrame(rows, columns=["person", "group", "seen", "question_id", "answer"])


def test_one_small_group_takes_the_next_smallest_with_it() -> None:
    people = answers({"a": {"q": 4}, "b": {"q": 30}, "c": {"q": 20}, "d": {"q": 50}})
    assert hidden_groups(people) == {"a", "c"}
    assert hidden_cells(people) == {("a", "q"), ("c", "q")}


def test_shares_of_few_people_are_hidden_where_their_number_is_known() -> None:
    rows = [("a", "q", 4.0), ("b", "q", 30.0), ("c", "q", 20.0), ("d", "q", float("nan"))]
    shares = pd.DataFrame(rows, columns=["group", "question_id", "n"]).assign(seen=True, shares=[(0.5, 0.5)] * 4)
    assert hidden_groups(shares) == {"a", "c"}
    assert hidden_cells(shares) == {("a", "q"), ("c", "q")}
    assert hidden_cells(shares.drop(columns="n")) == frozenset()


def test_a_question_that_few_of_a_large_group_answered_is_hidden_there_only() -> None:
    people = answers({"a": {"q": 30, "r": 5}, "b": {"q": 30, "r": 25}, "c": {"q": 30, "r": 30}})
    assert hidden_groups(people) == frozenset()
    assert hidden_cells(people) == {("a", "r"), ("b", "r")}


def test_small_totals_are_words() -> None:
    assert people_text(10) == "fewer than 11"
    assert people_text(1234) == "1,234"
