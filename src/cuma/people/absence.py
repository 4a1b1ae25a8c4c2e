"""What says nothing about a person: empty cells, missing codes and words, and numbers that no age or year can have.

A missing code written out as if it were a value ("of religion Not asked") would be a false statement about a person.
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import lru_cache
from numbers import Real
from typing import Any

import pandas as pd

from cuma.errors import ProfileError
from cuma.people.code_labels import bare_value, label_of, loose_label_of
from cuma.people.literals import is_written

_ABSENT = frozenset(
    {"nan", "-nan", "nat", "none", "null", "nil", "na", "n/a", "n.a", "dk", "unknown", "empty", "empty string",
     "refused", "refusal", "not specified", "not reported", "not stated", "not ascertained", "inapplicable",
     "undefined", "undisclosed", "dont know", "rather not say", "decline to answer", "no response", "sysmis",
     "system missing", "user missing", "na_character_", "na_integer_", "na_real_", "1.#qnan", "-1.#ind", r"\n",
     "iap", "skipped"}
)  # fmt: skip
"""What people and tools write for nothing: R, pandas, SQL, SPSS, spreadsheets; less brackets, "#" and a last mark."""
_ABSENT_START = re.compile(
    r"(other )?missing\b|prefer not\b|not (asked|applicable|available)\b|no answer\b|(don't|do not) know\b"
    r"|skipped on web\b"
)
"""Survey files put more words behind these: "Missing; Not available; AU: Other", "Not asked in survey"."""
_ASIDE = re.compile(r"\s*[\[({](vol|spontaneous|do not read|dnr)\b[^\])}]*[\])}]\s*")
"""How interviewers' instructions mark what people say of their own accord: "Refused (VOL.)"."""
_NEGATIVE = re.compile(r"[-−]\s*\d+([.,]\d*)?")
"""Negative survey codes: −1 don't know, −2 no answer, −3 not applicable, −4 not asked, −5 missing."""
_STATA = re.compile(r"\.[a-z]")
"""Stata's further missing values, .a to .z."""
_WHOLE = re.compile(r"([-−]?\d+)(?:\.0+|,0{1,2})")
"""A whole number as tools write it beside a gap ("34.0"), or where commas are decimal ("34,0")."""
_OLDEST = 120
"""An age above this is a code (998, 999), not an age."""
_LATEST = 2200
"""A year after this is a code (9999), not a year."""


@lru_cache(2**14)
def is_absent(text: str) -> bool:
    """Whether a text only says that there is nothing: "", "NA", "<NA>", "Not asked in survey", "-1".

    So does a label of that kind behind its code ("99. No answer", "98 DK"), and any label behind a negative one.
    """
    text = text.strip()
    code, label = loose_label_of(text)
    if code is not None and label:
        return _is_word(_plain(label)) or (code < 0 and label_of(text)[0] is not None)
    plain = _plain(text)
    if not any(map(str.isalnum, plain)) or _NEGATIVE.fullmatch(plain) or _STATA.fullmatch(plain):
        return True
    return _is_word(plain)


def _plain(text: str) -> str:
    """A text in lower case, less brackets around it, marks behind it and interviewers' instructions."""
    plain = _ASIDE.sub(" ", re.sub(r"[´`’‘]", "'", text.casefold())).strip().rstrip(" .!").removeprefix("#")
    return plain[1:-1] if plain[:1] + plain[-1:] in ("<>", "()", "[]") else plain


def _is_word(plain: str) -> bool:
    """Whether a plain text is a word for nothing, or several of them ("dk/refused")."""
    if plain in _ABSENT or _ABSENT_START.match(plain):
        return True
    parts = re.split(r"\s*[/,;&]\s*|\s+or\s+", plain)
    return all(part in _ABSENT or _ABSENT_START.fullmatch(part) for part in parts)


def read_value(name: str, value: Any) -> tuple[str | None, str | None]:
    """A value of the profile field `name` as clean text, or None; and then why: "empty", or what it is taken for.

    Raises `ProfileError` for what is neither text nor a number. No reason and no error contains the value.
    """
    if value is None or (not isinstance(value, str) and pd.api.types.is_scalar(value) and pd.isna(value)):
        return None, "empty"
    raw = _written_out(name, value)
    text = " ".join("".join(" " if unicodedata.category(char) in ("Cc", "Cs") else char for char in raw).split())
    if not text:
        return None, "empty"
    if name in ("country", "birth_country") and text == "NA":
        return "Namibia", None
    if is_absent(text):
        return None, "a word or code for missing"
    text = bare_value(name, text)
    if is_written(text):
        raise ProfileError(
            f"Profile field {name!r} got a list, an object or bytes written as text. Expected one plain text or number."
        )
    return (raw, None) if name == "description" else _in_range(name, text)


def _written_out(name: str, value: Any) -> str:
    """A text or number as text; "" for an infinite one."""
    if isinstance(value, Real) and not isinstance(value, bool):
        if not math.isfinite(value):
            return ""
        whole = math.floor(value)
        return str(whole if value == whole else float(value))
    if isinstance(value, str):
        return value
    raise ProfileError(
        f"Profile field {name!r} got {type(value).__name__}. Expected text or a number; None where it is unknown."
    )


def _in_range(name: str, text: str) -> tuple[str | None, str | None]:
    """A whole number without what its tool put behind it; nothing for one that the field cannot have."""
    if match := _WHOLE.fullmatch(text):
        text = match[1]
    limit = {"age": _OLDEST, "year": _LATEST}.get(name)
    if limit and text.isdecimal() and int(text) > limit:
        return None, f"{name} above {limit}, taken for a code"
    return text, None
