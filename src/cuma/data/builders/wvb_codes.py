"""What the text of one cell of WorldValuesBench becomes: a small number."""

from __future__ import annotations

import re
from collections.abc import Callable

from cuma.data.builders.wvb_scales import Metadata, Scale
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

PROFILE_COLUMNS = {
    "B_COUNTRY": "country",
    "X003R": "age",
    "Q260": "sex",
    "Q275": "education",
    "Q273": "marital",
    "Q289": "religion",
    "Q290": "ethnicity",
    "Q279": "employment",
    "H_URBRURAL": "urban_rural",
}
"""Column of the survey → field of `cuma.Profile`."""
FIELDS = tuple(PROFILE_COLUMNS.values())
MISSING, OUTSIDE, NO_NUMBER, TAKEN_OUT = -1, -2, -3, -4
"""Codes of an answer that is none of its options."""
UNKNOWN = -2
"""Code of a profile field whose text the codebook does not have; -1: absent."""
_TWEAKS = {
    "education": (r" \(ISCED \d\)", ""),
    "employment": (r" \((?:less than )?\d+ hours .*\)$|/pensioned$| not otherwise employed$", ""),
    "ethnicity": (r"^[A-Z]{2,3}: ", ""),
}
"""Field → what is taken out of the codebook's text, so that it reads well in a sentence."""

Encoder = Callable[[str], int]


def number(text: str) -> int | None:
    """ "3", "3.0", " -2" as a whole number; None: it is none."""
    match = re.fullmatch(r"\s*([+-]?[0-9]{1,18})(\.0*)?\s*", text)
    return int(match[1]) if match else None


def whole_id(text: str) -> str:
    """An id as text: "12" for "12.0"."""
    whole = number(text)
    return text.strip() if whole is None else str(whole)


def answer_encoder(scale: Scale, raw: bool) -> Encoder:
    """What an answer becomes: the index of its option, or a code below 0. raw: the text is the survey's own."""

    def encode(text: str) -> int:
        if not text.strip():
            return MISSING
        score = number(text)
        if score is None:
            return MISSING if text.strip().casefold() in ("nan", "na", "none") else NO_NUMBER
        if raw and score in scale.adjustment:
            adjusted = scale.adjustment[score]
            if adjusted is None:
                return TAKEN_OUT
            score = adjusted
        if score < 0:
            return MISSING
        place = scale.place(score)
        return OUTSIDE if place is None else place

    return encode


def profile_encoders(metadata: Metadata, vocabulary: dict[str, list[str]]) -> dict[str, Encoder]:
    """An encoder for every profile column; each fills its field's vocabulary with the texts that occur."""

    def encoder(column: str, name: str) -> Encoder:
        choices = metadata.choices.get(column)
        if not choices:
            raise BenchmarkError(f"codebook.json says nothing of {column}. Copy WorldValuesBench's own.")
        texts = set(choices.values())
        places: dict[str, int] = {}
        vocabulary[name] = []

        def encode(text: str) -> int:
            code = number(text)
            if code is not None and str(code) in choices:
                text = choices[str(code)]
            elif code is not None and code >= 0:
                return UNKNOWN
            elif code is not None:
                return -1
            elif text not in texts and getattr(Profile(**{name: text}), name) is not None:
                return UNKNOWN
            told = _profile_text(name, text)
            if told is None or (code is not None and code < 0):
                return -1
            if told not in places:
                places[told] = len(places)
                vocabulary[name].append(told)
            return places[told]

        return encode

    return {column: encoder(column, name) for column, name in PROFILE_COLUMNS.items()}


def _profile_text(name: str, text: str) -> str | None:
    """The codebook's text as the profile has it; None where it is absence."""
    present = getattr(Profile(**{name: text}), name)
    if present is not None and name in _TWEAKS:
        pattern, instead = _TWEAKS[name]
        present = getattr(Profile(**{name: re.sub(pattern, instead, present)}), name)
    return present
