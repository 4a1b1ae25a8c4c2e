"""A questionnaire: what each column of a survey file is, how it was asked, and what its codes mean. One YAML file.

It is drafted from the file (`cuma data draft`), and a person corrects it. What was guessed stands under `guessed`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import field as made
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from cuma.data.builders.cell_text import cell_text

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


@dataclass(frozen=True, config=_STRICT)
class ColumnEntry:
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
class ReplicateWeights:
    """How the replicate weights were made."""

    kind: Kind | None = None
    fay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Fay's factor."""


@dataclass(frozen=True, config=_STRICT)
class Questionnaire:
    """All columns, and what holds for all respondents."""

    columns: dict[str, ColumnEntry]
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
    replicates: ReplicateWeights | None = None
    guessed: Names = ()

    def of(self, *roles: str) -> dict[str, ColumnEntry]:
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
