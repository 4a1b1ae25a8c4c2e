"""One row of somebody's own data: what it says in a task's form, and of whom, or why it cannot be used."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from cuma.data.builders.base import ANSWER_CODES, Ledger, Task, message
from cuma.data.builders.cell_text import cell_number, cell_text, cell_truth
from cuma.errors import BenchmarkError, ProfileError
from cuma.people.absence import is_absent, read_value
from cuma.people.code_labels import label_of
from cuma.people.literals import NotPlain, structure
from cuma.people.profiles import CODED, FIELDS, Profile

PERSON, GROUP, WEIGHT = "person_id", "group", "weight"
DESIGN = ("stratum", "unit")
"""Optional columns of a survey's answers: the design of its sample."""
PEOPLE = "n"
"""Optional column beside a distribution: how many people it is of."""
NO_PROFILE = "profile that is neither an object of texts and numbers nor a sentence"
_ROLE = re.compile(r"['\"](role|content|from|value)\\?['\"]\s*:")
"""What a conversation that was written out has in it, even where it was cut off."""
_SUM = 0.02
"""How far from 1 a distribution may sum to, and still be taken for rounded."""


@dataclass(frozen=True)
class RawRow:
    """One row that can be read alone. What its columns mean as a whole is decided later."""

    values: dict[str, Any]
    """The task's own columns."""
    profile: Profile
    absent: tuple[tuple[str, str], ...]
    """(profile field, why its cell says nothing)."""
    person: str
    """"" without an id."""
    group: str
    """"" without one."""
    weight: str
    """As it stands in the file."""
    number: int
    """Of the row in its file."""
    design: tuple[str, ...] = ("", "")
    """Its stratum and sampling unit, by `DESIGN`; "" without one."""
    task: Task | None = None
    """None: it only says who somebody is."""


class _Unusable(Exception):
    """Why a row cannot be used."""


def read_row(task: Task | None, row: dict[str, Any], number: int, ledger: Ledger) -> RawRow | None:
    """A row as one of a task; None if it cannot be used, which the ledger then counts by reason.

    task: None: the row only says who somebody is. row: its columns under our names. number: of the row in its file.
    """
    try:
        values = _READ[task](row) if task else {}
        profile, absent = _profile(row, ledger)
        person, group = _name(row, PERSON), _name(row, GROUP)
        texts = {column: _text(row.get(column)) for column in (PERSON, GROUP, WEIGHT)}
        design = tuple(_name(row, column) for column in DESIGN) if task == "survey" else ("", "")
    except _Unusable as reason:
        ledger.drop(str(reason))
        return None
    for name, why in absent:
        if why != "empty":
            ledger.note(why if name in why else f"{name}: {why}")
    for column, text in texts.items():
        if text and is_absent(text) and (column != WEIGHT or cell_number(text) is None):
            ledger.note(f"{column} that is a word or code for missing, taken for none")
    return RawRow(values, profile, absent, person, group, texts[WEIGHT], number, design, task)


def read_question(row: dict[str, Any]) -> dict[str, Any]:
    """question_id, question, options, ordinal (None: not said) and answer_codes of a row.

    Raises:
        BenchmarkError: why it is no question.
    """
    try:
        return _question(row)
    except _Unusable as reason:
        raise BenchmarkError(str(reason)) from None


def _name(row: dict[str, Any], column: str) -> str:
    """An id or a label; "" where its text means that there is none."""
    text = _text(_written(row.get(column), column))
    return "" if is_absent(text) else text


def _profile(row: dict[str, Any], ledger: Ledger) -> tuple[Profile, tuple[tuple[str, str], ...]]:
    """A row's profile, from an object or a sentence and from columns, and why fields that were given are absent."""
    given = _written(row.get("profile"), "profile")
    if isinstance(given, Mapping):
        if any(name not in FIELDS for name in given):
            ledger.note("profile with fields that cuma does not know, left out")
        cells = [(name, given[name]) for name in FIELDS if name in given]
    elif given is None or isinstance(given, str) or (isinstance(given, float) and math.isnan(given)):
        cells = [("description", given)] if "profile" in row else []
    else:
        raise _Unusable(NO_PROFILE)
    for name in FIELDS:
        column = f"profile.{name}" if f"profile.{name}" in row or "profile" in row else name
        if column in row:
            cells.append((name, row[column]))
    texts, absent = {}, {}
    for name, cell in cells:
        text, why = _field(name, cell, ledger)
        if text is not None:
            texts[name] = text
        elif why is not None:
            absent[name] = why
    return Profile(**texts), tuple((name, why) for name, why in absent.items() if name not in texts)


def _field(name: str, cell: Any, ledger: Ledger) -> tuple[str | None, str | None]:
    if isinstance(cell, bool | Decimal):
        cell = cell_text(cell)
    if isinstance(cell, str) and cell.strip().casefold() in ("true", "false"):
        return None, "only true or false"
    if name.endswith("country") and isinstance(cell, str) and cell.strip() == "NA":
        ledger.note('country "NA", read as Namibia')
    try:
        text, why = read_value(name, cell)
    except ProfileError:
        raise _Unusable(NO_PROFILE) from None
    if isinstance(cell, str) and text is not None and label_of(" ".join(cell.split()))[0] is not None:
        ledger.note(f"{name}: {CODED}", text != " ".join(cell.split()))
    return text, why


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
    return cell_text(value)


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
    question, codes = _text(_written(row.get("question"), "question")), _name(row, "answer_codes")
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
    if codes and codes not in ANSWER_CODES:
        raise _Unusable(f"answer_codes is none of {', '.join(ANSWER_CODES)}")
    return {
        "question_id": _name(row, "question_id") or question,
        "question": question,
        "options": options,
        "ordinal": _flag(row.get("ordinal")),
        "answer_codes": codes,
    }


def _flag(value: Any) -> bool | None:
    """Whether a cell says true or 1, false or 0; None where it says nothing."""
    text = _text(value)
    number = cell_number(text)
    flag = cell_truth(text) if number is None else {1.0: True, 0.0: False}.get(number)
    if flag is None and not is_absent(text):
        raise _Unusable("ordinal is neither true nor false")
    return flag


def _survey(row: dict[str, Any]) -> dict[str, Any]:
    return {**_question(row), "answer": _text(row.get("answer"))}


def _distribution(row: dict[str, Any]) -> dict[str, Any]:
    asked, shares = _question(row), _written(row.get("distribution"), "distribution")
    if isinstance(shares, str):
        shares = shares.split("|")
    numbers = [cell_number(_text(share)) for share in shares] if isinstance(shares, list) else [None]
    if None in numbers:
        raise _Unusable("distribution is no list of numbers")
    if len(numbers) != len(asked["options"]):
        raise _Unusable("distribution and options differ in length")
    known = [number for number in numbers if number is not None]
    total = sum(known)
    if not all(share >= 0 and math.isfinite(share) for share in known) or abs(total - 1) > _SUM:
        raise _Unusable("distribution has a negative share, or does not sum to 1")
    found = {**asked, "distribution": [share / total for share in known]}
    n = _name(row, PEOPLE)
    if not n:
        return found
    people = cell_number(n)
    if people is None or people < 1 or people != int(people):
        raise _Unusable("n, the number of people, is no whole number above 0")
    return {**found, PEOPLE: int(people)}


def _grpo(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": _messages(row.get("prompt"), "user", "prompt")}


_READ: dict[Task, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "sft": _sft,
    "dpo": _dpo,
    "survey": _survey,
    "distribution": _distribution,
    "grpo": _grpo,
}
