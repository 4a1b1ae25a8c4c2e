"""What a questionnaire may not say: two things of one column, a role that two columns have, a code in two places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path

from cuma.data.builders.questionnaire import KINDS, SINGLE, ColumnEntry, Questionnaire, worded
from cuma.data.surveys.prompts import LETTERS
from cuma.errors import BenchmarkError, suggestion
from cuma.people.profiles import FIELDS

_KEYS: dict[str, tuple[str, ...]] = {
    "item": ("text", "id", "options", "no_answer", "ordinal", "bins"),
    "profile": ("field", "source", "options", "no_answer", "bins", "text"),
    "wave": ("options", "text"),
    "language": ("options", "text"),
}
"""What columns of a role may say beside `role` and `guessed`; others only `text`. Ignored ones may say everything."""


def check_rules(questionnaire: Questionnaire, source: str) -> None:
    """Raise `BenchmarkError` for what contradicts itself."""
    for name, column in questionnaire.columns.items():
        problem = _problem(name, column)
        if problem:
            raise BenchmarkError(f"{source}: columns.{name}: {problem}")
    for role in SINGLE:
        names = list(questionnaire.of(role))
        if len(names) > 1:
            raise BenchmarkError(
                f"{source}: {names[0]} and {names[1]} both have the role {role}. Give one of them another: ignored."
            )
    told = Counter([column.field for column in questionnaire.of("profile").values()] + list(questionnaire.everyone))
    for name, times in told.items():
        if name not in FIELDS:
            raise BenchmarkError(f"{source}: everyone: unknown profile field {name!r}. {suggestion(name, FIELDS)}")
        if times > 1:
            raise BenchmarkError(f"{source}: the profile field {name} is given {times} times. Keep one.")
    ids = Counter(column.id or name for name, column in questionnaire.of("item").items())
    twice = [name for name, times in ids.items() if times > 1]
    if twice:
        raise BenchmarkError(f"{source}: two items are called {twice[0]!r}. Give one another `id`.")
    _check_groups(questionnaire, told, source)
    _check_languages(questionnaire, source)
    if questionnaire.of("replicate") and (questionnaire.replicates is None or questionnaire.replicates.kind is None):
        raise BenchmarkError(
            f"{source}: replicates.kind says nothing. How were the replicate weights made? One of {', '.join(KINDS)}."
        )


def _check_groups(questionnaire: Questionnaire, told: Collection[str], source: str) -> None:
    given = {*told, *(["year"] if questionnaire.of("wave") else [])}
    for name in questionnaire.group_by:
        if name not in given:
            raise BenchmarkError(
                f"{source}: group_by names {name!r}, which no column of the role profile gives. "
                f"{suggestion(name, given) if given else 'Give a column the role profile.'}"
            )


def _problem(name: str, column: ColumnEntry) -> str:
    """What a column says that does not fit its role; "" if all does."""
    if column.role == "ignored":
        return ""
    allowed = (*_KEYS.get(column.role, ("text",)), "role", "guessed")
    extra = [one.name for one in fields(ColumnEntry) if one.name not in allowed and _is_given(column, one.name)]
    if extra:
        return f"{extra[0]} is not for the role {column.role}. Take it out, or change the role."
    both = sorted(column.options.keys() & column.no_answer.keys())
    if both:
        return f"the code {both[0]!r} is among options and no_answer. Keep one."
    if column.bins and (len(column.bins) < 3 or list(column.bins) != sorted(set(column.bins))):
        return "bins are cut points that rise, at least three, as [0, 25, 50, 75, 100]."
    return {"item": _item_problem, "profile": _field_problem}.get(column.role, lambda name, column: "")(name, column)


def _is_given(column: ColumnEntry, name: str) -> bool:
    return bool(getattr(column, name))


def _item_problem(name: str, column: ColumnEntry) -> str:
    if column.text is None:
        return "an item needs its text: how it was asked."
    if column.bins and column.options:
        return "bins and options are both given. Options of bins are made from the cut points."
    texts = {str(option) for option in column.options.values()}
    count = len(column.bins) - 1 if column.bins else len(texts)
    if count < 2:
        return "an item needs at least two options (or bins). Give options, or the role ignored."
    if count > len(LETTERS):
        return (
            f"{count} options, and at most {len(LETTERS)} have a letter. Give `bins` in place of options, give several "
            "codes one text, or the role ignored."
        )
    return ""


def _field_problem(name: str, column: ColumnEntry) -> str:
    if column.field not in FIELDS:
        return f"unknown profile field {column.field!r}. {suggestion(column.field, FIELDS)}"
    if any(isinstance(text, Mapping) for text in column.options.values()):
        return "a profile field's texts are in one language."
    needed = {"birth_year": ("age",), "country_code": ("country", "birth_country")}.get(column.source)
    if needed and column.field not in needed:
        return f"source: {column.source} is for {' and '.join(needed)}, not for {column.field}."
    return ""


def _check_languages(questionnaire: Questionnaire, source: str) -> None:
    """Raise `BenchmarkError` where an item lacks one of the languages, or has two options alike."""
    languages = questionnaire.languages
    for name, item in questionnaire.of("item").items():
        for wording in (item.text, *item.options.values()):
            missing = [language for language in languages if not worded(wording, language)]
            if missing:
                raise BenchmarkError(f"{source}: columns.{name} has a text without the language {missing[0]!r}.")
        options = {wording if isinstance(wording, str) else tuple(wording.items()) for wording in item.options.values()}
        for language in languages:
            if len({worded(wording, language) for wording in item.options.values()}) < len(options):
                raise BenchmarkError(
                    f"{source}: columns.{name}: options differ in one language and are alike in {language!r}."
                )
    column = questionnaire.column_of("language")
    for named in questionnaire.columns[column].options.values() if column else ():
        if named not in languages:
            raise BenchmarkError(
                f"{source}: columns.{column} names the language {named!r}, in which nothing is worded. "
                f"{suggestion(str(named), languages)}"
            )


def check_columns(questionnaire: Questionnaire, names: Collection[str], source: Path) -> None:
    """Raise `BenchmarkError` for a column that the file does not have."""
    for name, column in questionnaire.columns.items():
        if name not in names and column.role != "ignored":
            raise BenchmarkError(f"{source} lacks the column {name!r} of the questionnaire. {_near(name, names)}")


def _near(name: str, names: Collection[str]) -> str:
    if len(names) <= 30:
        return suggestion(name, names)
    return suggestion(name, names, listed_by="cuma data draft")
