"""Templates that lack something, as published models have them: all that is said is there, in its order."""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cuma.answering.letters import SurveyTokens
from cuma.errors import ConversationError
from cuma.models.backbones import NOT_ALOUD, load_backbone
from cuma.models.chat_template import PLAIN_TEMPLATE, complete_template, conversation_tokens, is_plain
from helpers.folders import base_folder

ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}" + ALTERNATE + "<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
SILENT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<user>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}<assistant>{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
"""Leaves system messages out without a word (Phi-3's)."""
FIRST = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] + '|' %}"
    "{%- set messages = messages[1:] %}{%- endif %}{%- for m in messages %}"
    + ALTERNATE
    + "<{{ m['role'] }}>{% if loop.first and system is defined %}{{ system }}{% endif %}{{ m['content'] }}{%- endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
"""Takes one system message, in front, and lets user and assistant speak in turn (Llama 2's, Mistral's, Gemma 3's)."""
LACKING = {"gemma": GEMMA, "silent": SILENT, "first": FIRST}


@pytest.fixture
def tokenizer() -> Any:
    return copy.deepcopy(load_backbone("smollm2-135m").tokenizer)


def said(tokenizer: Any, *roles: str, template: str | None = None, **how: bool) -> str:
    if template is not None:
        tokenizer.chat_template = template
    messages = [{"role": role, "content": f"{place}."} for place, role in enumerate(roles)]
    return tokenizer.decode(conversation_tokens(tokenizer, messages, **how))


@pytest.mark.parametrize(
    ("template", "roles", "expected"),
    [
        (GEMMA, "system user", "<user>0.\n\n1.<model>"),
        (GEMMA, "user", "<user>0.<model>"),
        (GEMMA, "user user assistant assistant user", "<user>0.\n\n1.<assistant>2.\n\n3.<user>4.<model>"),
        (GEMMA, "system", "<user>0.<model>"),
        (GEMMA, "system user assistant system user", "<user>0.\n\n1.<assistant>2.<user>3.\n\n4.<model>"),
        (SILENT, "system user assistant user", "<user>0.\n\n1.<assistant>2.<user>3.<model>"),
        (FIRST, "system user assistant user", "<user>0.|1.<assistant>2.<user>3.<model>"),
        (FIRST, "system user assistant system user", "<user>0.|1.<assistant>2.<user>3.\n\n4.<model>"),
        (FIRST, "system", "<user>0.<model>"),
        (FIRST, "user user", "<user>0.\n\n1.<model>"),
    ],
)
def test_what_a_template_lacks_is_put_otherwise(template: str, roles: str, expected: str, tokenizer: Any) -> None:
    assert said(tokenizer, *roles.split(), template=template) == expected


@pytest.mark.parametrize("name", LACKING)
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_nothing_is_left_out_of_any_conversation(name: str, length: int, tokenizer: Any) -> None:
    """All orders of three roles: said in their order, or refused by name, if the assistant begins."""
    for roles in product(("system", "user", "assistant"), repeat=length):
        system_stays = name == "first" and roles[0] == "system"
        if name != "silent" and "assistant" in roles[: 2 if system_stays else 1]:
            with pytest.raises(ConversationError, match=", ".join(roles)):
                said(tokenizer, *roles, template=LACKING[name])
            continue
        text = said(tokenizer, *roles, template=LACKING[name])
        places = [text.find(f"{place}.") for place in range(length)]
        assert min(places) >= 0, (roles, text)
        assert places == sorted(places), (roles, text)


def test_a_template_that_lacks_nothing_stays_as_it_is(tokenizer: Any) -> None:
    assert complete_template(tokenizer) == tokenizer.chat_template
    for template in (GEMMA, SILENT, FIRST):
        tokenizer.chat_template = template
        once = complete_template(tokenizer)
        assert once.endswith(template)
        assert once != template
        tokenizer.chat_template = once
        assert complete_template(tokenizer) == once


def test_without_a_template_paragraphs_end_where_the_answer_goes(tokenizer: Any) -> None:
    tokenizer.chat_template = None
    assert is_plain(tokenizer)
    assert said(tokenizer, "system", "user") == "0.\n\n1.\n\nAnswer:\n"
    assert said(tokenizer, "user", "assistant", "user") == "0.\n\nAnswer:\n1.\n\n2.\n\nAnswer:\n"
    whole = said(tokenizer, "user", "assistant", open_reply=False)
    assert whole == f"0.\n\nAnswer:\n1.{tokenizer.eos_token}", "so that a model that is trained on it learns to end"
    assert whole.startswith(said(tokenizer, "user"))
    assert SurveyTokens(tokenizer).prompt([{"role": "user", "content": "0."}]) == conversation_tokens(
        tokenizer, [{"role": "user", "content": "0."}]
    )


def test_where_texts_begin_with_a_token_of_their_own_plain_paragraphs_do_too(tokenizer: Any, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer.chat_template, tokenizer.bos_token = None, "<|im_start|>"
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    assert said(tokenizer, "user") == "<|im_start|>0.\n\nAnswer:\n"
    assert is_plain(tokenizer)


def test_of_several_templates_the_default_one_is_taken(tokenizer: Any) -> None:
    tokenizer.chat_template = {"default": GEMMA, "tool_use": "{{ raise_exception('no') }}"}
    assert said(tokenizer, "system", "user") == "<user>0.\n\n1.<model>"
    tokenizer.chat_template = {"tool_use": "{{ raise_exception('no') }}"}
    assert is_plain(tokenizer)


@pytest.mark.parametrize("template", ["{% for m in messages %}", "{{ raise_exception('never') }}"])
def test_a_broken_template_says_so_where_it_is_used(template: str, tokenizer: Any) -> None:
    with pytest.raises(ConversationError, match=r"does not take this order of roles: user\..*backbone.chat_template"):
        said(tokenizer, "user", template=template)


def test_what_was_said_is_in_no_error(tokenizer: Any) -> None:
    tokenizer.chat_template = GEMMA
    with pytest.raises(ConversationError) as caught:
        conversation_tokens(tokenizer, [{"role": "assistant", "content": "secret"}] * 9)
    assert "secret" not in str(caught.value)
    assert "assistant, …" in str(caught.value)


def test_a_loaded_models_tokenizer_has_it_for_whoever_renders(tmp_path: Path) -> None:
    folder = base_folder(tmp_path / "base")
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    brought = load_backbone(str(folder), chat_template=GEMMA).tokenizer
    assert brought.apply_chat_template(asked, tokenize=False) == "<user>S\n\nU"
    aloud = "{% if enable_thinking %}<think>{% endif %}" + GEMMA
    thinking = load_backbone(str(folder), chat_template=aloud).tokenizer
    assert thinking.apply_chat_template(asked, tokenize=False) == "<user>S\n\nU"
    assert NOT_ALOUD in thinking.chat_template
    (folder / "chat_template.jinja").unlink()
    assert load_backbone(str(folder)).tokenizer.chat_template == PLAIN_TEMPLATE
