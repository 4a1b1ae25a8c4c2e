"""Averages of new items, and answers of one item laid on another's options."""

from __future__ import annotations

import numpy as np
import pytest

from cuma.evaluation.option_scales import LIKE, NONE, OWN, SAME, average, position, recut, same_for_all, scales
from helpers.anchored import known, people, question, table_of

SAID = {"a": [0.2, 0.8], "b": [0.1, 0.9], "three": [0.5, 0.3, 0.2], "five": [0.1, 0.1, 0.2, 0.2, 0.4]}
QUESTIONS = (
    question("a", "Yes No", ordinal=False),
    question("b", "no Yes", ordinal=False),  # the same options in another order and case
    question("three", "low middle high"),
    question("five", "1 2 3 4 5"),
    question("new", "Yes No", ordinal=False, role="test"),
    question("lone", "x y z", ordinal=False, role="test"),
    question("scale", "never sometimes always", role="test"),
    question("four", "p q r s", role="test"),
)


def world(pooled: bool = True):
    def shares(group: int, item: int) -> list[float]:
        said = SAID[QUESTIONS[item].id]
        return said[::-1] if group else said

    return known(QUESTIONS, people(3, 2), shares, lambda group, item: (300.0, 100.0)[group], pooled=pooled)


def test_the_average_is_of_the_item_or_of_items_with_the_same_options_or_every_option_alike() -> None:
    of, alike = world(), world(pooled=False)
    assert average(of, 0) == (pytest.approx([0.35, 0.65]), OWN)  # three quarters of the people are the first group's
    assert average(alike, 0) == (pytest.approx([0.5, 0.5]), OWN)  # groups alike, whatever their number of people
    b_yes = 0.75 * 0.9 + 0.25 * 0.1
    assert average(of, 4) == (pytest.approx([(0.35 + b_yes) / 2, (0.65 + 1 - b_yes) / 2]), SAME)
    assert average(of, 5) == (pytest.approx([1 / 3] * 3), NONE)
    assert average(of, 6)[1] == NONE


def test_a_new_scale_is_answered_by_position() -> None:
    of = world()
    three, five = average(of, 2)[0], average(of, 3)[0]
    assert position(of, 6) == (pytest.approx(three), LIKE)  # one scale has as many options
    assert position(of, 7) == (pytest.approx((recut(three, 4) + recut(five, 4)) / 2), LIKE)  # none has: all, cut anew
    assert position(of, 4) == (pytest.approx(average(of, 4)[0]), SAME)  # no scale
    assert position(of, 2)[1] == OWN


def test_a_scale_is_cut_anew_as_if_people_were_spread_evenly_on_it() -> None:
    assert recut(np.array([0.2, 0.8]), 4) == pytest.approx([0.1, 0.1, 0.4, 0.4])
    assert recut(np.array([0.2, 0.5, 0.3]), 2) == pytest.approx([0.45, 0.55])
    assert recut(np.array([0.2, 0.5, 0.3]), 3) == pytest.approx([0.2, 0.5, 0.3])


def test_everybody_is_told_the_same_and_sources_are_counted() -> None:
    of = world()
    said = same_for_all(of, average)
    assert said.items == {OWN: 4, SAME: 1, NONE: 3}
    table = table_of(of, said.shares)
    for group in ("g1", "g2"):
        assert all((table[group, item.id] == table["g0", item.id]).all() for item in QUESTIONS)


def test_reversed_scales_lie_word_on_word() -> None:
    items = (question("up", "bad fair good"), question("same", "bad fair good"), question("down", "good fair bad"))
    of = known(items, people(2, 2), lambda group, item: [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]][item])
    ((scale, asked),) = scales(of, of.training)
    roots, mean = scale.targets(3)
    assert np.square(mean) == pytest.approx([0.6, 0.3, 0.1])
    np.testing.assert_allclose(roots, 0, atol=1e-12)
    back = dict(scale.predictions(asked, lambda rows, roots: np.zeros((len(rows), 3))))
    assert table_of(of, [back[row] for row in range(len(back))])["g0", "down"] == pytest.approx([0.1, 0.3, 0.6])


def test_nominal_items_answer_for_others_with_the_same_words_only() -> None:
    of = world()
    kinds = {tuple(of.questions[k].id for k in np.unique(of.asked[1][asked])) for _, asked in scales(of, of.training)}
    assert kinds == {("a", "b", "new"), ("three", "five", "scale", "four")}
