"""A questionnaire: what each column of a survey file is, how it was asked, and what its codes mean. One YAML file.

It is drafted from the file (`cuma data draft`), and a person corrects it. What was guessed stands under `guessed`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from dataclasses import field as made
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from cuma.data.builders.cell_text import cell_text
from cuma.data.surveys.prompts import LETTERS
from cuma.errors import BenchmarkError, suggestion
from cuma.people.profiles import FIELDS
from cuma.recipes import strict_yaml

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
Role = Literal["item", "profile", "weight", "stratum", "unit", "person", "wave", "language", "replicate", "ignored"]
Kind = Literal["brr", "fay", "jackknife", "stratified_jackknife", "bootstrap"]
ROLES: tuple[Role, ...] = get_args(Role)
KINDS: tuple[Kind, ...] = get_args(Kind)
SINGLE = ("weight", "stratum", "unit", "person", "wave", "language")
"""Roles that one column can have."""
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Wording = Text | dict[str, Text]
"""A text, or language → text."""
Names = Annotated[tuple[Text, ...], Field(strict=False)]
Cuts = Annotated[tuple[float, ...], Field(strict=False)]
NUMBERED = ("age", "year")
"""Profile fields whose numbers are told as they are, beside codes that `options` gives a text."""
OTHER_LANGUAGE = "default"
"""The language of texts that name none."""
_KEYS: dict[str, tuple[str, ...]] = {
    "item": ("text", "id", "options", "no_answer", "ordinal", "bins"),
    "profile": ("field", "source", "options", "no_answer", "bins", "text"),
    "wave": ("options", "text"),
    "language": ("options", "text"),
}
"""What columns of a role may say beside `role` and `guessed`; others only `text`. Ignored ones may say everything."""


@dataclass(frozen=True, config=_STRICT)
class Column:
    """One column of the file."""

    role: Role
    field: str = ""
    """profile: the field of `cuma.Profile`."""
    source: Literal["", "birth_year", "country_code"] = ""
    """profile: what the column holds in place of the field's own value. Age is the wave's year less the year of birth;
    codes of countries are ISO's, of two or three letters or a number, or the World Values Survey's."""
    text: Wording | None = None
    """item: how it was asked. Of other columns what the file says of them, for readers."""
    id: str = ""
    """item: its name in the built data; left out: the column's."""
    options: dict[str, Wording] = made(default_factory=dict)
    """item: code → option, in their order. Codes with one text are one option. profile: code → what is told of a
    person; left out: the cell's own text. wave: code → year. language: code → language."""
    no_answer: dict[str, str] = made(default_factory=dict)
    """Codes that are no answer → why."""
    ordinal: bool = False
    """item: whether the options are steps of a scale."""
    bins: Cuts = ()
    """Cut points: numbers of at least one and less than the next become one option; the last belongs to the last."""
    guessed: Names = ()
    """What nobody has said, and why it was taken so. A person who agrees deletes the line."""


@dataclass(frozen=True, config=_STRICT)
class Replicates:
    """How the replicate weights were made."""

    kind: Kind | None = None
    fay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fay's factor."""


@dataclass(frozen=True, config=_STRICT)
class Questionnaire:
    """All columns, and what holds for all respondents."""

    columns: dict[str, Column]
    title: str = "own"
    citation: str = ""
    licence: str = "yours"
    split: Literal["people", "none"] = "people"
    """none: everybody is kept for evaluation."""
    group_by: Names = ()
    """Profile fields that make a group; left out: the country."""
    everyone: dict[str, Text] = made(default_factory=dict)
    """Profile fields that are the same for all."""
    unlisted: Literal["refuse", "no_answer"] = "refuse"
    """What an item's or a field's code is that stands nowhere: a mistake of the questionnaire, or no answer."""
    replicates: Replicates | None = None
    guessed: Names = ()

    def of(self, *roles: str) -> dict[str, Column]:
        """The columns with one of some roles."""
        return {name: column for name, column in self.columns.items() if column.role in roles}

    def column_of(self, role: str) -> str:
        """The one column of a role, or ""."""
        return next(iter(self.of(role)), "")

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages in which the items are worded, the first one first; without any, `OTHER_LANGUAGE`."""
        wordings = [w for item in self.of("item").values() for w in (item.text, *item.options.values())]
        return tuple(dict.fromkeys(name for w in wordings if isinstance(w, Mapping) for name in w)) or (OTHER_LANGUAGE,)


def worded(wording: Wording | None, language: str) -> str:
    """A wording in one language; "" where there is none."""
    return wording.get(language, "") if isinstance(wording, Mapping) else wording or ""


def load_questionnaire(path: Path) -> Questionnaire:
    """Read and check a questionnaire. Raises `BenchmarkError`."""
    try:
        tree = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchmarkError(
            f"{path} cannot be read ({error.strerror}). Draft one: cuma data draft FILE --output {path.name}."
        ) from error
    except UnicodeDecodeError as error:
        raise BenchmarkError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except strict_yaml.StrictYamlError as error:
        raise BenchmarkError(f"{path}: {error}.") from error
    return read_questionnaire(tree, str(path))


def read_questionnaire(tree: Any, source: str) -> Questionnaire:
    """A questionnaire from plain values, as YAML gives them. source: what errors call it. Raises `BenchmarkError`."""
    if not isinstance(tree, dict) or not isinstance(tree.get("columns"), dict) or not tree["columns"]:
        raise BenchmarkError(f"{source} has no columns. Draft a questionnaire: cuma data draft FILE.")
    _known(tree, Questionnaire, "", source)
    columns = {}
    for name, entry in tree["columns"].items():
        where = f"columns.{name}"
        if not isinstance(entry, dict):
            raise BenchmarkError(f"{source}: {where} is no mapping; expected a role, as {{role: ignored}}.")
        _known(entry, Column, f"{where}.", source)
        codes = {key: _codes(entry[key], f"{where}.{key}", source) for key in ("options", "no_answer") if key in entry}
        columns[cell_text(name)] = _made(Column, entry | codes, where, source)
    whole = {**tree, "columns": columns}
    if isinstance(tree.get("replicates"), dict):
        whole["replicates"] = _made(Replicates, tree["replicates"], "replicates", source)
    questionnaire: Questionnaire = _made(Questionnaire, whole, "", source)
    _check(questionnaire, source)
    return questionnaire


def plain(questionnaire: Questionnaire) -> dict[str, Any]:
    """Whatever differs from what is taken where nothing is said; `read_questionnaire` gives the same from it."""
    tree = _short(Questionnaire, asdict(questionnaire))
    columns = tree.pop("columns")
    short = {}
    for name, entry in columns.items():
        short[name] = _short(Column, entry)
        for key in ("options", "no_answer"):
            if key in short[name]:
                short[name][key] = {_key(code): text for code, text in short[name][key].items()}
    return {**tree, "columns": short}


def _key(code: str) -> int | str:
    return int(code) if len(code) < 16 and code.removeprefix("-").isascii() and str(code) == _whole(code) else code


def _whole(code: str) -> str:
    return str(int(code)) if code.removeprefix("-").isdecimal() else ""


def _short(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    known = {one.name: one for one in fields(kind)}
    result = {}
    for name, value in values.items():
        own = known[name]
        usual = own.default_factory() if callable(own.default_factory) else own.default
        if value != usual:
            result[name] = list(value) if isinstance(value, tuple) else value
    return result


# --- checks ----------------------------------------------------------------------------------------------------------


def _known(entry: Mapping[Any, Any], kind: Any, prefix: str, source: str) -> None:
    known = [one.name for one in fields(kind)]
    for key in entry:
        if key not in known:
            raise BenchmarkError(f"{source}: unknown key '{prefix}{key}'. {suggestion(str(key), known)}")


def _codes(entry: Any, where: str, source: str) -> Any:
    """Codes as texts: 1, 1.0 and "1" are one."""
    if not isinstance(entry, dict):
        return entry
    texts = [cell_text(code) for code in entry]
    twice = [text for text, times in Counter(texts).items() if times > 1 or not text]
    if twice:
        raise BenchmarkError(f"{source}: {where} has the code {twice[0]!r} twice, or an empty one. Keep one.")
    return {text: _plain_text(value) for text, value in zip(texts, entry.values(), strict=True)}


def _plain_text(value: Any) -> Any:
    """Numbers and truths stand for their own text, as in `options: {1: 1, 2: 2}`."""
    return cell_text(value) if isinstance(value, int | float) else value


def _made(kind: Any, values: Mapping[str, Any], where: str, source: str) -> Any:
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in (where, *first["loc"]) if part and not str(part).startswith("dict["))
        said = first["msg"].replace("Input should be", "expected").removesuffix(".")
        raise BenchmarkError(f"{source}: {at} is {first['input']!r:.80}; {said}.") from error


def _check(questionnaire: Questionnaire, source: str) -> None:
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
    told = Counter(column.field for column in questionnaire.of("profile").values()) + Counter(questionnaire.everyone)
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


def _problem(name: str, column: Column) -> str:
    """What a column says that does not fit its role; "" if all does."""
    if column.role == "ignored":
        return ""
    allowed = (*_KEYS.get(column.role, ("text",)), "role", "guessed")
    extra = [one.name for one in fields(Column) if one.name not in allowed and _said(column, one.name)]
    if extra:
        return f"{extra[0]} is not for the role {column.role}. Take it out, or change the role."
    both = sorted(column.options.keys() & column.no_answer.keys())
    if both:
        return f"the code {both[0]!r} is among options and no_answer. Keep one."
    if column.bins and (len(column.bins) < 3 or list(column.bins) != sorted(set(column.bins))):
        return "bins are cut points that rise, at least three, as [0, 25, 50, 75, 100]."
    return {"item": _item_problem, "profile": _field_problem}.get(column.role, lambda name, column: "")(name, column)


def _said(column: Column, name: str) -> bool:
    return bool(getattr(column, name))


def _item_problem(name: str, column: Column) -> str:
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


def _field_problem(name: str, column: Column) -> str:
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


def bin_texts(cuts: tuple[float, ...]) -> list[str]:
    """What the options of bins are called: "0 to 24", …, "75 to 100"; of other cut points "0.5 to under 1"."""
    whole = all(cut == math.floor(cut) for cut in cuts)
    texts = []
    for place, (low, high) in enumerate(itertools.pairwise(cuts)):
        last = place == len(cuts) - 2
        if whole:
            top = int(high) if last else int(high) - 1
            texts.append(f"{int(low)} to {top}" if top > low else f"{int(low)}")
        else:
            texts.append(f"{cell_text(low)} to {'' if last else 'under '}{cell_text(high)}")
    return texts
