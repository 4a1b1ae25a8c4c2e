"""A code in front of a label, as survey files have them: "2. Female", "[3] Protestant", "98 - DK".

A code says nothing that its label does not, and a model that is told "2. Female" reads noise. But numbers belong to
many values ("1.5 years", "2 children", "18-34", "1. Liga"), so that a code is one only by its mark, or by its column.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_NUMBER = r"[-−]?\d{1,6}"
_BEFORE = re.compile(
    rf"(?:\[({_NUMBER})\]|\(({_NUMBER})\))[.:]?\s*(?=\S)"  # [3] Protestant, (9) Refused
    rf"|({_NUMBER})(?:[.)](?:\s+|(?=[^\W\d]))|(?::|\s*=|\s+[-–—]\s)(?!\s*\d)\s*)"
)
"""A number and its mark. Behind "3 -", "3 =" and "3:" no number follows: 18 - 24 is a range and 10: 30 a time."""
_UNMARKED = re.compile(rf"({_NUMBER})(?![\d,.%])\s*(.*)")
_MAY_BE_ORDINALS = ("region", "education", "employment", "ethnicity")
"""Fields of values such as "1. Bezirk", "9. Klasse" and "2. Generation", in languages that write ordinals so."""


def label_of(text: str) -> tuple[int | None, str]:
    """The code that stands marked in front of a label, and the label; (None, the text) where none does.

    `label_of("2. Female")` is (2, "Female"). What is left has no further code in front: "1. 2. A" is no label of 1.
    """
    match = _BEFORE.match(text)
    label = text[match.end() :].strip() if match else ""
    if match is None or not any(map(str.isalnum, label)) or _BEFORE.match(label):
        return None, text
    return _code(next(filter(None, match.groups()))), label


def loose_label_of(text: str) -> tuple[int | None, str]:
    """The same of a text whose code need not bear a mark: (9, "Refused") of "9 Refused", (18, "") of "18"."""
    code, label = label_of(text)
    if code is None and (match := _UNMARKED.fullmatch(text)):
        return _code(match[1]), match[2]
    return code, label


def _code(digits: str) -> int:
    return int(digits.replace("−", "-"))


def bare_value(name: str, text: str) -> str:
    """The value of a profile field without a code that nothing but a code can be, whatever else its column holds.

    Where ordinals may stand, "N. Label" stays; ages keep what would leave no number; a description is kept whole.
    """
    code, label = label_of(text)
    if code is None or name in ("description", "year"):
        return text
    if name == "age":
        return label if any(map(str.isdecimal, label)) else text
    ordinal = name in _MAY_BE_ORDINALS and re.match(r"\d+\.", text)
    return text if ordinal or not label[0].isalpha() else label


def column_labels(texts: Collection[str]) -> dict[str, str]:
    """Text → its label, for the texts of a column that is coded; {} for a column that is not.

    texts: the column's distinct values that say something. It is coded where most of them bear a code, at least two do,
    and every code has one label and every label one code: "1. Bezirk" and "2. Bezirk" are no codes.
    """
    split = {text: label_of(text) for text in texts}
    found = {text: (code, label) for text, (code, label) in split.items() if code is not None}
    codes, labels = {code for code, _ in found.values()}, {label.casefold() for _, label in found.values()}
    if len(found) < 2 or 2 * len(found) <= len(split) or not len(codes) == len(labels) == len(found):
        return {}
    return {text: label for text, (_, label) in found.items()}
