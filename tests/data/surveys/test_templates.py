"""Models whose chat template is missing, or knows no system message, are asked all the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cuma.answering.letters import PLAIN_TEMPLATE, SurveyTokens
from cuma.data.surveys import Question, survey_messages
from cuma.data.surveys.prompts import told_who_asks
from cuma.errors import BenchmarkError
from cuma.models.backbones import load_backbone
from cuma.people.profiles import Profile

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
)
ASKED = [{"role": "system", "content": "You are a judge."}, {"role": "user", "content": "May one lie?"}]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return copy.deepcopy(load_backbone("smollm2-135m").tokenizer)


def test_where_no_system_message_is_known_it_opens_the_first_one(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_SYSTEM
    tokens = SurveyTokens(tokenizer)
    assert not tokens.takes_system
    assert tokenizer.decode(tokens.prompt(ASKED)) == "<user>You are a judge.\n\nMay one lie?"
    assert tokenizer.decode(tokens.prompt(ASKED[1:])) == "<user>May one lie?"


def test_without_a_template_paragraphs_end_where_the_answer_goes(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    with pytest.raises(BenchmarkError, match="chat template"):
        SurveyTokens(tokenizer)
    tokenizer.chat_template = PLAIN_TEMPLATE
    tokens = SurveyTokens(tokenizer)
    assert tokenizer.decode(tokens.prompt(ASKED)) == "You are a judge.\n\nMay one lie?\n\nAnswer:\n"
    assert tokens.takes_system


def test_a_persona_is_added_once_and_only_where_something_is_known() -> None:
    person = Profile(country="Peru")
    told = told_who_asks(ASKED[1:], person.sentence)
    assert told[0] == {"role": "system", "content": "You are a person living in Peru."}
    assert told_who_asks(told, Profile(country="Kenya").sentence) == told
    assert told_who_asks(ASKED[1:], "") == ASKED[1:]


def test_the_system_message_that_names_nobody_gives_way_to_a_persona() -> None:
    asked = survey_messages(Question("q", "Which?", ("red", "green"), ordinal=False), (0, 1))
    person = Profile(country="Peru")
    assert told_who_asks(asked, person.sentence) == [*told_who_asks([], person.sentence), *asked[1:]]
    assert told_who_asks(asked, "") == asked
