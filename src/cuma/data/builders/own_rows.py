"""One row of somebody's own data: what it says in a task's form, and of whom, or why it cannot be used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cuma.data.builders.base import Ledger, Task, message
from cuma.errors import ProfileError
from cuma.people.literals import NotPlain, structure
from cuma.people.profiles import FIELDS, Profile

PERSON, GROUP, WEIGHT = "person_id", "group", "weight"
PEOPLE = "n"
"""Optional column beside a distribution: how many people it is of."""
NOT_KNOWN = "not known"
"""The group of whoever has neither a group nor a country."""
_ROLE = re.compile(r"['\"](role|content|from|value)\\?['\"]\s*:")
"""What a conversation that was written out has in it, even where it was cut off."""
_SUM = 0.02
"""How far from 1 a distribution may sum to, and still be taken for rounded."""


@dataclass(frozen=True)
class Row:
    """One usable row."""

    values: dict[str, Any]
    """The task's own columns."""
    profile: Profile
    person: str
    group: str
    weight: float | None


class _Unusable(Exception):
    """Why a row cannot be used."""


def read_row(task: Task, row: dict[str, Any], number: int, ledger: Ledger) -> Row | None:
    """A raw row as one of a task; None if it cannot be used, which the ledger then counts by reason.

    row: its columns under our names. number: of the row in its file, for people without an id.
    """
    try:
        values = _READ[task](row)
        profile = _profile(row, ledger)
        weight = _weight(row.get(WEIGHT))
        person, group = (_text(_written(row.get(name), name)) for name in (PERSON, GROUP))
    except _Unusable as reason:
        ledger.drop(str(reason))
        return None
    if not person:
        ledger.note("row without person_id, taken for a person of its own")
        person = f"row {number}"
    return Row(values, profile, person, group or profile.country or NOT_KNOWN, weight)


def _profile(row: dict[str, Any], ledger: Ledger) -> Profile:
    given = _written(row.get("profile"), "profile")
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in FIELDS]
        if unknown:
            ledger.note("profile with fields that cuma does not know, left out")
        given = {name: value for name, value in given.items() if name in FIELDS}
    fields = {
        name: value
        for name in FIELDS
        if (value := row.get(f"profile.{name}", row.get(name) if "profile" not in row else None)) is not None
    }
    try:
        profile = Profile.parse(given)
        return Profile(**{**profile.fields, **Profile(**fields).fields}) if fields else profile
    except ProfileError:
        raise _Unusable("profile that is neither an object of texts and numbers nor a sentence") from None


def _weight(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        weight = float(value)
    except (TypeError, ValueError):
        raise _Unusable("weight that is no number") from None
    if not math.isfinite(weight) or weight < 0:
        raise _Unusable("weight that is negative or not finite")
    return weight


def _written(value: Any, what: str) -> Any:
    """CSV has texts only: a list or an object that one writes out, as JSON or as Python prints it, is read as such."""
    if not isinstance(value, str):
        return value
    try:
        found = structure(value)
    except NotPlain:
        raise _Unusable(f"{what} is a list or object written as text, which cannot be read whole") from None
    return value if found is None else found


def _text(value: Any) -> str:
    if isinstance(value, list | Mapping | bytes):
        raise _Unusable("list, object or bytes where a text was expected")
    if isinstance(value, str):
        return value.strip()
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)


def _messages(value: Any, role: str, what: str) -> list[dict[str, str]]:
    """A conversation, or a text that becomes one message of `role`."""
    if isinstance(value, str):
        try:
            value = value if (found := structure(value)) is None else found
        except NotPlain:
            if _ROLE.search(value):
                raise _Unusable(f"{what} is a conversation written as text, which cannot be read whole") from None
    if isinstance(value, Mapping) and "role" in value:
        value = [value]
    if isinstance(value, str) and value.strip():
        return [message(role, value)]
    if not isinstance(value, list | Mapping) or not value:
        raise _Unusable(f"{what} is missing or empty")
    conversation = []
    for entry in value:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("role"), str):
            raise _Unusable(f"{what} is no list of messages with role and content")
        if not isinstance(entry.get("content"), str) or not entry["content"].strip():
            raise _Unusable(f"{what} has a message without content")
        conversation.append(message(entry["role"], entry["content"]))
    return conversation


def _sft(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("messages") is not None:
        conversation = _messages(row["messages"], "user", "messages")
        if len(conversation) < 2 or conversation[-1]["role"] != "assistant":
            raise _Unusable("messages do not end with the assistant's")
        return {"prompt": conversation[:-1], "completion": conversation[-1:]}
    completion = _messages(row.get("completion"), "assistant", "completion")
    return {"prompt": _messages(row.get("prompt"), "user", "prompt"), "completion": completion}


def _dpo(row: dict[str, Any]) -> dict[str, Any]:
    prompt = _messages(row.get("prompt"), "user", "prompt")
    chosen, rejected = (_messages(row.get(name), "assistant", name) for name in ("chosen", "rejected"))
    if len(chosen) > len(prompt) and chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]  # TRL's form with the prompt in both
    if chosen == rejected:
        raise _Unusable("chosen and rejected are the same")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _question(row: dict[str, Any]) -> dict[str, Any]:
    question = _text(_written(row.get("question"), "question"))
    if not question:
        raise _Unusable("question is missing or empty")
    options = _written(row.get("options"), "options")
    if isinstance(options, str):
        options = options.split("|")
    if not isinstance(options, list):
        raise _Unusable("options are no list")
    options = [_text(option) for option in options]
    if len(options) < 2 or not all(options) or len(set(options)) != len(options):
        raise _Unusable("options are fewer than two, empty or not distinct")
    return {
        "question_id": _text(row.get("question_id")) or question,
        "question": question,
        "options": options,
        "ordinal": _flag(row.get("ordinal")),
    }


def _flag(value: Any) -> bool:
    flag = {"": False, "false": False, "0": False, "no": False, "true": True, "1": True, "yes": True}.get(
        _text(value).casefold()
    )
    if flag is None:
        raise _Unusable("ordinal is neither true nor false")
    return flag


def _survey(row: dict[str, Any]) -> dict[str, Any]:
    asked, answer = _question(row), row.get("answer")
    options = asked["options"]
    if isinstance(answer, str) and answer.strip() in options:
        index = options.index(answer.strip())
    else:
        try:
            number = float(answer)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise _Unusable("answer is missing, or none of the options") from None
        if not number.is_integer() or not 0 <= number < len(options):
            raise _Unusable("answer is no index into the options")
        index = int(number)
    return {**asked, "answer": index}


def _distribution(row: dict[str, Any]) -> dict[str, Any]:
    asked, shares = _question(row), _written(row.get("distribution"), "distribution")
    try:
        numbers = [float(share) for share in shares]
    except (TypeError, ValueError):
        raise _Unusable("distribution is no list of numbers") from None
    if len(numbers) != len(asked["options"]):
        raise _Unusable("distribution and options differ in length")
    total = sum(numbers)
    if not all(share >= 0 and math.isfinite(share) for share in numbers) or abs(total - 1) > _SUM:
        raise _Unusable("distribution has a negative share, or does not sum to 1")
    found = {**asked, "distribution": [share / total for share in numbers]}
    n = _text(row.get(PEOPLE))
    if not n:
        return found
    if not n.removesuffix(".0").isdecimal() or float(n) < 1:
        raise _Unusable("n, the number of people, is no whole number above 0")
    return {**found, PEOPLE: int(float(n))}


def _grpo(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": _messages(row.get("prompt"), "user", "prompt")}


_READ: dict[Task, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sft": _sft,
    "dpo": _dpo,
    "survey": _survey,
    "distribution": _distribution,
    "grpo": _grpo,
}
