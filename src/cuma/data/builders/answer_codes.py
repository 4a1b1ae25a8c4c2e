"""What the answers to one question mean, decided over its whole column: options by name, or codes from 0 or from 1.

Nothing depends on the types of a file. Numbers that could be read in two ways, and would then be other answers, are not
read at all: whoever has the file says what they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cuma.data.builders.cell_text import cell_number, cell_truth
from cuma.people.code_labels import label_of, loose_label_of

UNDECIDED = (
    "answer is a number that may count from 0 or from 1, or be an option: say --answer-codes from_zero, from_one or "
    "options"
)
_SHIFT = {"from_zero": 0, "from_one": 1}


@dataclass(frozen=True)
class Reading:
    """What every answer in a question's column means."""

    codes: str
    """"from_zero", "from_one", or "options" where no answer is a code."""
    guessed: bool
    """Whether the column's values told it, and nobody said it."""
    named: dict[str, int]
    """Answer, as it stands in the file → the option that has this name, number or label's code."""
    coded: dict[str, int]
    """Answer → the option that it counts to."""
    undecided: frozenset[str] = frozenset()
    """Numbers that are not read, because they could be two things."""


def reading_of(answers: Collection[str], options: Sequence[str], codes: str = "") -> Reading:
    """Decide what a column's distinct answers are.

    codes: "from_zero", "from_one" or "options" if somebody said it; "": the answers tell, or stay undecided.
    """
    numbers = {text: number for text in answers if (number := cell_number(text)) is not None}
    words = _matches({text: _named(text, options) for text in answers if text not in numbers})
    named = _matches({text: _numbered(text, number, options) for text, number in numbers.items()})
    indices = {text: int(number) for text, number in numbers.items() if number == int(number)}
    if codes in _SHIFT:
        return Reading(codes, False, words, _shifted(indices, _SHIFT[codes], len(options)))
    others = {text: n for text, n in indices.items() if text not in named and 0 <= n <= len(options)}
    if codes or not others:
        return Reading("options", not codes, words | named, {})
    # Some numbers are no option. They count, if all numbers can, and if those that are options mean the same then.
    in_play = others | {text: indices.get(text, -1) for text in named}
    whole = {name: found for name, shift in _SHIFT.items()
             if len(found := _shifted(in_play, shift, len(options))) == len(in_play)}  # fmt: skip
    fits = [name for name, found in whole.items() if all(found[text] == place for text, place in named.items())]
    if len(fits) == 1:
        return Reading(fits[0], True, words | named, {text: whole[fits[0]][text] for text in others})
    if named and not whole:
        return Reading("options", True, words | named, {})
    return Reading("options", True, words, {}, frozenset(numbers))


def _matches(places: dict[str, int | None]) -> dict[str, int]:
    return {text: place for text, place in places.items() if place is not None}


def _shifted(indices: dict[str, int], shift: int, size: int) -> dict[str, int]:
    return {text: n - shift for text, n in indices.items() if 0 <= n - shift < size}


def _named(text: str, options: Sequence[str]) -> int | None:
    """The option of these words, in any case, with a code or without; of true and false also Yes and No."""
    if text in options:
        return options.index(text)
    plain = [option.casefold() for option in options]
    names = [text.casefold()]
    if text.casefold() in ("true", "false"):
        names.append("yes" if cell_truth(text) else "no")
    place = next((plain.index(name) for name in names if plain.count(name) == 1), None)
    return _labelled(*label_of(names[0]), list(map(label_of, plain))) if place is None else place


def _labelled(code: int | None, label: str, options: Sequence[tuple[int | None, str]]) -> int | None:
    """The only option of this label, whose code is no other: "Female" is "2. Female", and "1. Female" is not."""
    places = [at for at, (own, text) in enumerate(options) if text == label and (code is None) != (own is None)]
    return places[0] if len(places) == 1 else None


def _numbered(text: str, number: float, options: Sequence[str]) -> int | None:
    """The option that is this number, or bears it as its code ("2. Female")."""
    if text in options:
        return options.index(text)
    values = [cell_number(option) for option in options]
    if None in values:
        values = [own if value is None else value for own, value in zip(_own_codes(options), values, strict=True)]
    return values.index(number) if values.count(number) == 1 else None


def _own_codes(options: Sequence[str]) -> list[float | None]:
    """The codes that labels begin with, where all do: each with a mark ("2. Female"), or rising or falling by one."""
    codes = [code for option in options if (code := loose_label_of(option)[0]) is not None]
    steps = {after - before for before, after in itertools.pairwise(codes)}
    marked = all(label_of(option)[0] is not None or option.isdecimal() for option in options)
    if len(codes) < len(options) or not (marked or steps in ({1}, {-1})):
        return [None] * len(options)
    return [float(code) for code in codes]
