"""agreement_reward: the person's own answer is worth most, and only an answer is worth anything."""

from __future__ import annotations

import pytest

from cuma.training.rewards import agreement_reward


def reward(reply: str, own: int, options: int, scale: list[int]) -> float:
    said = [{"role": "assistant", "content": reply}]
    return agreement_reward([said], answer=[own], options=[options], scale=[scale], profile=[None], prompts=[""])[0]


def test_names_are_right_or_wrong() -> None:
    assert [reward(letter, 1, 3, []) for letter in "ABC"] == [0, 1, 0]


def test_a_scale_counts_steps_between_options_and_not_between_letters() -> None:
    order = [2, 3, 0, 1]  # the letters A, B, C, D show the third, fourth, first and second step
    assert [reward(letter, 2, 4, order) for letter in "ABCD"] == pytest.approx([1 / 3, 0, 1, 2 / 3])


@pytest.mark.parametrize("scale", [[], list(range(10)), list(range(9, -1, -1))])
@pytest.mark.parametrize("own", [0, 4, 8])
@pytest.mark.parametrize(
    "reply",
    ["I would rather not say", "I cannot answer that.", "I, as an AI, have no opinions.", "A person like me …",
     "As an AI I have no opinions", "E' una domanda difficile", "I'm sorry", ""],
)  # fmt: skip
def test_a_refusal_earns_nothing_whoever_is_asked(reply: str, own: int, scale: list[int]) -> None:
    assert reward(reply, own, 10, scale) == 0


def test_no_answer_is_worth_nothing_and_text_will_do() -> None:
    assert reward("I would rather not say", 0, 2, [0, 1]) == 0
    assert agreement_reward(["A", "B"], answer=[0, 0], options=[2, 2], scale=[[], []]) == [1, 0]
