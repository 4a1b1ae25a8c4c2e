"""agreement_reward: the person's own answer is worth most, and only an answer is worth anything."""

from __future__ import annotations

import pytest

from cuma.data.surveys.prompts import parse_letter
from cuma.training.rewards import agreement_reward


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", 1),
        (" B", 1),
        ("B.", 1),
        ("(B)", 1),
        ("B) No", 1),
        ("A. Yes", 0),
        ("\nC", 2),
        ("", None),
        ("Because", None),
        ("Aye", None),
        ("b", None),
        ("The answer is B", None),
        ("D", None),
        ("É", None),
        ("1", None),
    ],
)
def test_what_counts_as_an_answer(reply: str, letter: int | None) -> None:
    assert parse_letter(reply, options=3) == letter


def reward(reply: str, own: int, options: int, scale: list[int]) -> float:
    said = [{"role": "assistant", "content": reply}]
    return agreement_reward([said], answer=[own], options=[options], scale=[scale], profile=[None], prompts=[""])[0]


def test_names_are_right_or_wrong() -> None:
    assert [reward(letter, 1, 3, []) for letter in "ABC"] == [0, 1, 0]


def test_a_scale_counts_steps_between_options_and_not_between_letters() -> None:
    order = [2, 3, 0, 1]  # the letters A, B, C, D show the third, fourth, first and second step
    assert [reward(letter, 2, 4, order) for letter in "ABCD"] == pytest.approx([1 / 3, 0, 1, 2 / 3])


def test_no_answer_is_worth_nothing_and_text_will_do() -> None:
    assert reward("I would rather not say", 0, 2, [0, 1]) == 0
    assert agreement_reward(["A", "B"], answer=[0, 0], options=[2, 2], scale=[[], []]) == [1, 0]
