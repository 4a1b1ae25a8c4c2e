"""What anchors may read: training answers and those to choose by, of people and of shares; never what a test asks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cuma.data.corpus import Shares
from cuma.data.surveys.survey import Survey
from cuma.errors import BenchmarkError, ProfileError
from cuma.evaluation.anchor_choice import best
from cuma.evaluation.anchor_data import Cells, Known, by_lot, known_of_shares, known_of_survey
from helpers.anchored import known, people, question

ITEMS = (
    question("old", "Yes No"),
    question("val", "Yes No", role="validation"),
    question("new", "Yes No", role="test"),
)


def survey() -> Survey:
    """Six groups of 8 people: four seen, one to choose by, one to test. Person k of a group says Yes where k is below
    the group's number."""
    roles = ["seen"] * 4 + ["validation", "test"]
    groups = tuple(replace(g, role=role) for g, role in zip(people(6, 6), roles, strict=True))
    parts = {"seen": ["train"] * 4 + ["validation"] * 2 + ["test"] * 2, "validation": ["validation"] * 8}
    rows = [
        {"group": g.id, "part": parts.get(g.role, ["test"] * 8)[k], **{q.id: int(k >= place) for q in ITEMS}}
        for place, g in enumerate(groups)
        for k in range(8)
    ]
    table = pd.DataFrame(rows)
    table.insert(0, "person", np.arange(len(table)))
    return Survey("made", ITEMS, groups, table, card={})


def pairs(cells: Cells, of: Known) -> set[tuple[str, str]]:
    return {(of.groups[g].id, of.questions[q].id) for g, q in zip(cells.group, cells.question, strict=True)}


def test_training_is_of_seen_groups_and_items_and_choosing_of_no_test() -> None:
    of = known_of_survey(survey())
    assert pairs(of.training, of) == {(f"g{k}", "old") for k in range(4)}
    assert [list(counts) for counts in of.training.counts] == [[0, 4], [1, 3], [2, 2], [3, 1]]
    assert pairs(of.choosing, of) == {(f"g{k}", item) for k in range(5) for item in ("old", "val")}
    assert {of.groups[g].id for g in of.asked[0]} == {"g0", "g1", "g2", "g3", "g5"}
    assert {of.questions[q].id for q in of.asked[1]} == {"old", "new"}


def test_test_answers_are_nowhere_in_it() -> None:
    before, other = survey(), survey()
    test = other.people["part"] == "test"
    other.people.loc[test, ["old", "val", "new"]] = 1 - other.people.loc[test, ["old", "val", "new"]]
    other.people.loc[:, "new"] = 0
    one, two = known_of_survey(before), known_of_survey(other)
    for cells, same in ((one.training, two.training), (one.choosing, two.choosing)):
        assert np.array_equal(np.stack(cells.counts), np.stack(same.counts))


def shares(rows: list[tuple[str, str, list[float]]], **columns: object) -> Shares:
    table = [
        {"group": g, "seen": True, "question_id": q, "shares": np.array(s), "profile": {"country": g}}
        for g, q, s in rows
    ]
    names = {q for _, q, _ in rows}
    return Shares(tuple(one for one in ITEMS if one.id in names), pd.DataFrame(table).assign(**columns))


def test_shares_are_counts_where_every_number_of_people_is_known() -> None:
    rows = [("Peru", "old", [0.25, 0.75]), ("Kenya", "old", [0.5, 0.5])]
    asked = shares([("Peru", "new", [0.9, 0.1]), ("Chile", "old", [0.9, 0.1])])
    with_n = known_of_shares("made", shares(rows, n=[40, 10]), None, asked)
    assert with_n.counted
    assert {tuple(counts) for counts in with_n.training.counts} == {(10, 30), (5, 5)}
    without = known_of_shares("made", shares(rows, n=[40, np.nan]), None, asked)
    assert not without.counted
    assert without.training.n == pytest.approx([1, 1])
    assert {one.id: one.role for one in with_n.questions} == {"old": "seen", "new": "test"}
    assert {one.id: one.role for one in with_n.groups} == {"Peru": "seen", "Kenya": "seen", "Chile": "test"}
    nothing = known_of_shares("made", None, None, asked)
    assert len(nothing.training) == len(nothing.choosing) == 0


def test_what_is_chosen_by_is_what_the_data_keep_or_a_fifth_of_what_is_trained_on() -> None:
    of = known_of_survey(survey())
    trial, cells = of.trial()
    assert pairs(cells, of) == pairs(of.choosing, of)
    assert trial.training is of.training
    assert pairs(of.trial(of_groups=True)[1], of) == {("g4", "old")}  # a new group, a trained item
    none = replace(of, choosing=of.choosing.where(np.zeros(len(of.choosing), dtype=bool)))
    for of_groups in (False, True):
        trial, cells = none.trial(of_groups)
        assert len(cells) == 1
        assert not pairs(cells, of) & pairs(trial.training, of)
        assert pairs(cells, of) | pairs(trial.training, of) == pairs(of.training, of)


def test_a_lot_is_the_same_for_every_order_of_names() -> None:
    names = [f"name {k}" for k in range(50)]
    chosen = {name for name, one in zip(names, by_lot(names, 0.2, "x"), strict=True) if one}
    again = {name for name, one in zip(names[::-1], by_lot(names[::-1], 0.2, "x"), strict=True) if one}
    assert chosen == again
    assert len(chosen) == 10


def test_the_best_choice_is_the_first_with_the_least_error_and_silence_does_not_count() -> None:
    of = known((question("q", "a b"),), people(3, 2), lambda g, q: [0.5, 0.5], choosing=[(2, 0)])

    def fit(trial: Known, share: float) -> list[np.ndarray]:
        return [np.array([share, 1 - share]) for _ in trial.asked[0]]

    assert best(of, (0.1, 0.4, 0.6, 0.9), fit) == 0.4
    assert best(of, (np.nan, 0.4), lambda trial, share: fit(trial, 0.4)) is np.nan  # both say the same: the first
    alone = replace(
        of, training=of.training.where(np.array([True, False])), choosing=of.choosing.where(np.array([False]))
    )
    with pytest.raises(BenchmarkError, match="made: 1 training and 0 validation cells are too few"):
        best(alone, (0.1, 0.4), fit)
    with pytest.raises(BenchmarkError, match="too few"):
        best(of, (0.1, 0.4), lambda trial, share: fit(trial, np.nan))


def test_embeddings_that_do_not_fit_are_named() -> None:
    of = known((question("q", "a b"),), people(3, 2), lambda g, q: [0.5, 0.5])
    with pytest.raises(ProfileError, match=r"\[3, D\].*got shape \(2, 4\)"):
        replace(of, profile_embeds=np.zeros((2, 4)))
