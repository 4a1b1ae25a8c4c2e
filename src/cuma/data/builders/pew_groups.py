"""The groups of OpinionQA and SubPOP: a Pew attribute and its value, as a `cuma.Profile`."""

from __future__ import annotations

from collections.abc import Mapping

from cuma.data.builders.base import Ledger
from cuma.people.absence import is_absent
from cuma.people.profiles import Profile

COUNTRY = "United States"
"""The American Trends Panel and the General Social Survey ask nobody else."""
FIELDS_OF = {
    "CREGION": "region", "AGE": "age", "SEX": "sex", "EDUCATION": "education", "MARITAL": "marital",
    "RELIG": "religion", "POLPARTY": "party", "RACE": "ethnicity",
}  # fmt: skip
"""Pew's attributes that a field of ours fits."""
IN_WORDS = {
    "INCOME": "Has a family income of {}",
    "POLIDEOLOGY": "In politics: {}",
    "RELIGATTEND": "Attends religious services: {}",
    "CITIZEN": "Is a citizen of the United States: {}",
}
"""Those that none fits: a sentence in `description`."""
_EDUCATION = {"college graduate/some postgrad": "a college degree", "postgraduate": "a postgraduate degree",
              "high school graduate": "a high school diploma", "associate's degree": "an associate's degree",
              "some college, no degree": "some college, no degree"}  # fmt: skip
"""Pew's words → words that follow "has"."""


def group_label(values: Mapping[str, str]) -> str:
    """ "POLPARTY: Democrat", or "POLPARTY: Democrat, SEX: Female"."""
    return ", ".join(f"{attribute}: {value}" for attribute, value in values.items())


def group_profile(values: Mapping[str, str], ledger: Ledger) -> Profile | None:
    """What a group is told as; None where no attribute says anything. An attribute that is not known is counted."""
    fields: dict[str, str] = {}
    sentences: list[str] = []
    for attribute, value in values.items():
        if is_absent(value):
            continue
        if attribute in FIELDS_OF:
            fields[FIELDS_OF[attribute]] = _in_words(attribute, value)
        elif attribute in IN_WORDS:
            sentences.append(IN_WORDS[attribute].format(value))
        else:
            ledger.note(f"attribute that no field of a profile fits, told in its own words: {attribute}")
            sentences.append(f"{attribute}: {value}")
    if not (fields or sentences):
        return None
    return Profile(country=COUNTRY, **fields, description=". ".join(sentences) or None)


def _in_words(attribute: str, value: str) -> str:
    return _EDUCATION.get(value.casefold(), value) if attribute == "EDUCATION" else value
