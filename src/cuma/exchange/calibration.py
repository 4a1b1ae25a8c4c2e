"""Prompts on which gates are averaged, and on which what that costs is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cuma.answering.answerer import Answerer
from cuma.answering.letters import SurveyTokens
from cuma.data.surveys.prompts import letter_orders, question_orders, survey_messages
from cuma.data.surveys.survey import Question
from cuma.errors import ConversationError, ExportError
from cuma.models.chat_template import conversation_tokens
from cuma.people.literals import NotPlain, is_written, plain_json
from cuma.people.profiles import Profile

FORMS = (
    '{"messages": [...]}, {"prompt": "…", "completion": "…"} or {"question": "…", "options": [...], "ordinal": true}'
)


@dataclass(frozen=True)
class Task:
    """Something that may be asked, before it is known who asks: a conversation, or a survey question."""

    messages: tuple[dict[str, str], ...] = ()
    question: Question | None = None


@dataclass(frozen=True)
class TaskTokens:
    """A task as tokens, for one person."""

    task: int
    """Number of its task: rows of one task are never on both sides of a cross-check."""
    tokens: tuple[int, ...]
    scored: int
    """So many positions at the end are compared: those that predict the reply, or the answer's letter."""
    order: tuple[int, ...] = ()
    """The option under each letter; empty for conversations."""
    ordinal: bool = False


def tasks_of(answerer: Answerer, file: Path | None) -> list[Task]:
    """The calibration set: a JSONL file's, or the questions that the run was trained on.

    Raises:
        ExportError: there is none, or a line of the file is not understood.
    """
    if file is not None:
        return _read(file)
    known = answerer.source.card.get("questions", [])
    if not known:
        raise ExportError(
            f"{answerer.source.folder} records no questions, so there is nothing to average its gates over. Give "
            f"--calibration FILE, a JSONL file with lines such as {FORMS}."
        )
    return [
        Task(question=Question(each["id"], each["text"], tuple(each["options"]), bool(each["ordinal"])))
        for each in known
    ]


def rows_of(answerer: Answerer, tasks: Sequence[Task], profile: Profile) -> list[TaskTokens]:
    """All tasks as this person's prompts; a question in all its letter orders.

    Raises:
        ExportError: the model's chat template refuses a conversation.
    """
    tokens = SurveyTokens(answerer.tokenizer)
    rows: list[TaskTokens] = []
    for number, task in enumerate(tasks):
        if task.question is None:
            rows.append(_conversation(answerer, number, task, profile))
            continue
        persona = profile.sentence if answerer.profile_in_prompt else None
        question = replace(task.question, option_orders=answerer.source.option_orders)
        for order in question_orders(question):
            prompt = tokens.prompt(survey_messages(question, order, persona))
            rows.append(TaskTokens(number, tuple(prompt), 1, order, task.question.ordinal))
    return rows


def _conversation(answerer: Answerer, number: int, task: Task, profile: Profile) -> TaskTokens:
    messages = answerer.messages(task.messages, profile)
    replied = messages[-1]["role"] == "assistant"
    try:
        prompt = conversation_tokens(answerer.tokenizer, messages[:-1] if replied else messages)
        whole = conversation_tokens(answerer.tokenizer, messages, open_reply=False) if replied else prompt
    except ConversationError as error:
        raise ExportError(f"Conversation {number + 1} of the calibration set: {error}") from error
    if not replied:
        return TaskTokens(number, tuple(prompt), 1)
    return TaskTokens(number, tuple(whole[:-1]), len(whole) - len(prompt))


def _read(file: Path) -> list[Task]:
    try:
        text = file.read_text(encoding="utf-8-sig")  # a line ends with "\\n" only: texts may hold U+2028 and its like
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"Cannot read {file} ({type(error).__name__}). Give a JSONL file in UTF-8.") from error
    if not text.strip():
        raise ExportError(f"{file} is empty. Its lines should look like {FORMS}.")
    lines = enumerate(text.split("\n"), 1)
    return [_task(line, f"line {number} of {file}") for number, line in lines if line.strip()]


def _task(line: str, where: str) -> Task:
    """One line. Errors say which, and what was expected; they never repeat the line."""
    try:
        row = plain_json(line)
        if "question" in row:
            options = tuple(map(_text, row["options"]))
            letter_orders(len(options))  # 2 to 10
            return Task(
                question=Question("calibration", _text(row["question"]), options, bool(row.get("ordinal", False)))
            )
        if "messages" in row:
            messages = tuple({"role": _text(m["role"]), "content": _text(m["content"])} for m in row["messages"])
        else:
            said = [("user", row["prompt"]), ("assistant", row.get("completion"))]
            messages = tuple({"role": role, "content": _text(text)} for role, text in said if text is not None)
        if not messages:
            raise ValueError
    except (NotPlain, ValueError, KeyError, TypeError) as error:
        raise ExportError(f"{where} is not understood. Expected {FORMS}.") from error
    return Task(messages)


def _text(value: Any) -> str:
    """A text, or a number as one; a list or an object is none, nor is a conversation that was written out."""
    if value is None or isinstance(value, list | dict):
        raise NotPlain
    text = str(value)
    if text.lstrip().startswith("[") and is_written(text):
        raise NotPlain
    return text
