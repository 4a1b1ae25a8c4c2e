"""One way to put a conversation to a model, whatever its chat template lacks.

What a template refuses, or leaves out without a word, is put differently in the template itself, so that training,
TRL's trainers among it, evaluation, chat, server, export and lm-evaluation-harness all put the same:
no template at all: plain paragraphs; no system messages: what they say opens the user's next message; no two messages
of one role in a row: they are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cuma.errors import ConversationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}Answer:\n{% endif %}{{ message['content'] }}"
    "{% if loop.last and message['role'] == 'assistant' and not add_generation_prompt %}{{ eos_token }}"
    "{% else %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:\n{% endif %}"
)
"""For models that come without a chat template: what is said, paragraph by paragraph, then "Answer:"."""

_JOINED = (
    "{%- set joined = namespace(turns=[]) %}{% for message in messages %}"
    "{% set role = 'user' if message['role'] == 'system' and not (SYSTEM) else message['role'] %}"
    "{% set before = joined.turns | last %}"
    "{% if before and before['role'] == role and before['content'] is string and message['content'] is string %}"
    "{% set both = before['content'] ~ '\\n\\n' ~ message['content'] %}"
    "{% set joined.turns = joined.turns[:-1] + [dict(before, content=both)] %}"
    "{% else %}{% set joined.turns = joined.turns + [dict(message, role=role)] %}{% endif %}"
    "{% endfor %}{% set messages = joined.turns %}\n"
)
"""Stands before a template that lacks something. SYSTEM: which system messages it takes."""


def conversation_tokens(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], *, open_reply: bool = True
) -> list[int]:
    """Token ids of a conversation.

    Args:
        tokenizer: the model's.
        messages: role and content of each.
        open_reply: up to where the reply's first token goes; False: the conversation as it ends.

    Raises:
        ConversationError: the template does not take it.
    """
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(
            list(messages), chat_template=complete_template(tokenizer), add_generation_prompt=open_reply,
            tokenize=True, return_dict=False,
        )  # fmt: skip
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages[:6]) + (", …" if len(messages) > 6 else "")
        raise ConversationError(
            f"The model's chat template does not take this order of roles: {roles}. Most begin with a system message "
            "or a user, and let user and assistant speak in turn. backbone.chat_template=FILE brings another template."
        ) from error


def complete_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The tokenizer's chat template, itself if it takes every order of roles, or with what it lacks put in front."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if template is None:
        begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        return "{{ bos_token }}" + PLAIN_TEMPLATE if begins else PLAIN_TEMPLATE
    if template not in _COMPLETED:
        _COMPLETED[template] = _completed(tokenizer, template)
    return _COMPLETED[template]


def is_plain(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether conversations are put in plain paragraphs, for want of a template."""
    return complete_template(tokenizer).endswith(PLAIN_TEMPLATE)


_COMPLETED: dict[str, str] = {}
"""Templates that were tried, and what became of them."""


def _completed(tokenizer: PreTrainedTokenizerBase, template: str) -> str:
    def takes(*roles: str) -> bool:
        return _takes(tokenizer, template, roles)

    if not takes("user", "assistant", "user"):
        return template  # wrong in another way: it says so where it is used
    first, later = takes("system", "user"), takes("system", "user", "assistant", "system", "user")
    if first and later and takes("user", "user") and takes("user", "assistant", "assistant"):
        return template
    return (
        _JOINED.replace("SYSTEM", "true" if first and later else "loop.first and not loop.last" if first else "false")
        + template
    )


def _takes(tokenizer: PreTrainedTokenizerBase, template: str, roles: Sequence[str]) -> bool:
    """Whether a conversation of such roles is not refused and all of it is said, in its order."""
    from jinja2 import TemplateError

    messages = [{"role": role, "content": f"Words {place}."} for place, role in enumerate(roles)]
    try:
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, tokenize=False
        )
    except TemplateError:
        return False
    places = [text.find(message["content"]) for message in messages]
    return min(places) >= 0 and places == sorted(places)
