"""Whose answers may be shown: no small group's, and none that gives a small group's away."""

from __future__ import annotations

import pandas as pd

from cuma.runs.group_answers import hidden_cells, hidden_groups


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
