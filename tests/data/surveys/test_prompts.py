"""Prompts: every option once under every letter, and nothing about the person unless it is asked for."""

from __future__ import annotations

import pytest

from cuma.data.catalog import PACKAGED, load_benchmark
from cuma.data.surveys import LETTERS, Question, letter_orders, survey_messages
from cuma.data.surveys.prompts import told_who_asks
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

QUESTION = Question("q", "Which one?", ("red", "green", "blue"), ordinal=False)
ASKED = [{"role": "user", "content": "May one lie?"}]


@pytest.mark.parametrize("n_options", range(2, len(LETTERS) + 1))
def test_orders_show_every_option_once_at_every_position(n_options: int) -> None:
    orders = letter_orders(n_options)
    assert orders[0] == tuple(range(n_options))
    assert len(orders) == n_options
    for line in [*orders, *zip(*orders, strict=True)]:
        assert sorted(line) == list(range(n_options))


@pytest.mark.parametrize("n_options", [0, 1, len(LETTERS) + 1])
def test_a_question_needs_a_letter_for_every_option(n_options: int) -> None:
    with pytest.raises(BenchmarkError, match=f"{n_options} options"):
        letter_orders(n_options)


def test_letters_stand_before_the_options_in_the_given_order() -> None:
    system, user = survey_messages(QUESTION, (2, 0, 1))
    assert user["content"].splitlines()[:4] == ["Which one?", "A. blue", "B. red", "C. green"]
    assert [system["role"], user["role"]] == ["system", "user"]


@pytest.mark.parametrize("order", [(0, 1), (0, 1, 1), (1, 2, 3)])
def test_an_order_that_is_no_permutation_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(BenchmarkError, match="not a permutation"):
        survey_messages(QUESTION, order)


@pytest.mark.parametrize(
    ("persona", "system"),
    [
        ("A man living in Peru", "You are a man living in Peru."),
        ("An 80-year-old man", "You are an 80-year-old man."),
        ("A man. Sings.", "You are a man. Sings."),
        ("Lives in Peru", "Answer as this person. Lives in Peru"),
    ],
)
def test_a_persona_is_the_system_message_and_leaves_the_question_alone(persona: str, system: str) -> None:
    order = letter_orders(3)[1]
    messages = survey_messages(QUESTION, order, persona)
    assert messages[0]["content"] == system
    assert messages[1:] == survey_messages(QUESTION, order)[1:]


def test_no_persona_still_sets_the_system_message() -> None:
    # SmolLM2's chat template would otherwise introduce itself.
    order = letter_orders(3)[0]
    assert survey_messages(QUESTION, order, "") == survey_messages(QUESTION, order, None)
    assert survey_messages(QUESTION, order)[0]["content"]


@pytest.mark.parametrize("name", PACKAGED)
def test_every_benchmark_can_be_asked_briefly(name: str) -> None:
    for question in load_benchmark(name).questions:
        for order in letter_orders(len(question.options)):
            messages = survey_messages(question, order)
            assert sum(len(message["content"].split()) for message in messages) <= 60


def test_a_persona_is_added_once_and_only_where_something_is_known() -> None:
    person = Profile(country="Peru")
    told = told_who_asks(ASKED, person.sentence)
    assert told[0] == {"role": "system", "content": "You are a person living in Peru."}
    assert told_who_asks(told, Profile(country="Kenya").sentence) == told
    assert told_who_asks(ASKED, "") == ASKED


def test_the_system_message_that_names_nobody_gives_way_to_a_persona() -> None:
    asked = survey_messages(Question("q", "Which?", ("red", "green"), ordinal=False), (0, 1))
    person = Profile(country="Peru")
    assert told_who_asks(asked, person.sentence) == [*told_who_asks([], person.sentence), *asked[1:]]
    assert told_who_asks(asked, "") == asked
