"""Who asks: a person's demographic profile, written as one English sentence.

The sentence is what a frozen sentence encoder turns into the embedding e_d that steers the router, so it must read like
English, be the same every time, and say nothing about what is not known.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Real
from typing import Any

import pandas as pd

from cuma.errors import ProfileError, suggestion
from cuma.people.absence import read_value
from cuma.people.code_labels import column_labels
from cuma.people.literals import NotPlain, structure

Value = str | int | float | None


@dataclass(frozen=True, init=False, repr=False)
class Profile:
    """Demographic fields of one person or group, all optional. Values are kept as text; absent ones are None.

    `Profile(age=55, sex="Female", religion="Buddhist", country="Thailand").sentence` is
    "A 55-year-old Buddhist woman living in Thailand". Two profiles are equal when their texts are.

    Raises `ProfileError` for an unknown field, or for a value that is neither text nor a number. No error, and not the
    repr either, ever contains a value.
    """

    age: str | None = None
    """Years ("55") or a range ("25-34 years", "65 and more years", "18-24 years old", "55+")."""
    sex: str | None = None
    """Sex or gender, whichever the survey asked."""
    ethnicity: str | None = None
    """Ethnicity or race, whichever the survey asked."""
    religion: str | None = None
    """Denomination or religion. The bare word "none" is absence: it cannot be told from a missing value's name."""
    country: str | None = None
    """Country of residence. The code "NA" is Namibia."""
    birth_country: str | None = None
    """Country of birth. The code "NA" is Namibia."""
    region: str | None = None
    """Part of the country."""
    urban_rural: str | None = None
    """Urban or rural."""
    language: str | None = None
    """Language spoken."""
    education: str | None = None
    """Highest education. "a …", "no …" and "some …" follow the verb "has" ("a college degree")."""
    employment: str | None = None
    """Employment status."""
    marital: str | None = None
    """Marital status."""
    party: str | None = None
    """Party or political side ("strong Democrat")."""
    church_activity: str | None = None
    """How often the person takes part in church activities: "never", "sometimes", "at least monthly"."""
    year: str | None = None
    """Year of the interview."""
    description: str | None = None
    """A ready sentence, kept letter by letter. Alone, it is the whole sentence; otherwise it follows the others."""

    def __init__(self, **values: Value) -> None:
        for name in values:
            if name not in FIELDS:
                meant = _OTHER_NAMES.get(name, name)
                raise ProfileError(
                    f"Unknown profile field {name!r}. {suggestion(meant, FIELDS)} `cuma list fields` explains them."
                )
        for name in FIELDS:
            object.__setattr__(self, name, read_value(name, values.get(name))[0])

    @classmethod
    def parse(cls, value: Mapping[str, Value] | str | Profile | None) -> Profile:
        """A profile from whatever a data set holds: a mapping of fields, a ready sentence, a profile, or nothing.

        None, NaN, a blank text and a missing code give the empty profile, which is legal. A text that writes an object
        out, as JSON or as Python prints it, is that object. Raises `ProfileError` for a list, or what cannot be read.
        """
        if isinstance(value, str):
            value = _object_or_sentence(value)
        if isinstance(value, Profile):
            return value
        if isinstance(value, Mapping):
            return cls(**{str(name): entry for name, entry in value.items()})
        if isinstance(value, str) or value is None or (isinstance(value, Real) and pd.isna(value)):
            return cls(description=value)
        raise ProfileError(
            f"A profile cannot be read from {type(value).__name__}. "
            "Expected a dict of fields, a sentence, a Profile or None."
        )

    @classmethod
    def read(cls, text: str) -> Profile:
        """A profile as it is typed: "country=Japan age=30", 'country="South Africa"', a sentence, or nothing.

        Raises:
            ProfileError: an unknown field, or a quotation mark that is not closed.
        """
        if "=" not in text:
            return cls.parse(text)
        try:
            words = shlex.split(text)
        except ValueError:
            raise ProfileError('A quotation mark is not closed. Write country="South Africa" age=30.') from None
        pairs = [word.partition("=") for word in words]
        if not all(name and equals for name, equals, _ in pairs):
            raise ProfileError(
                "Write name=value for every field, with quotation marks around values of several words: "
                'country="South Africa" age=30.'
            )
        return cls(**{name: value for name, _, value in pairs})

    @property
    def fields(self) -> dict[str, str]:
        """The present fields, in the order of the class. `Profile(**profile.fields) == profile`."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    @cached_property
    def sentence(self) -> str:
        """One English sentence without a full stop; "" for the empty profile."""
        structured = _sentence(self) if any(name != "description" for name in self.fields) else ""
        return ". ".join(part for part in (structured, self.description) if part)

    def __bool__(self) -> bool:
        return bool(self.fields)

    def __repr__(self) -> str:
        return f"Profile({len(self.fields)} fields)"


FIELDS = tuple(field.name for field in fields(Profile))
"""Every field's name, in the order of the class."""

CODED = "code in front of a label, not told"
"""What is noted where a code was left out."""


def without_codes(profiles: Sequence[Profile]) -> tuple[list[Profile], Counter[str]]:
    """People of one file, "6. Bachelor's degree" as "Bachelor's degree" in columns that are coded; field → how many."""
    labels = {
        name: column_labels({value for one in profiles if (value := getattr(one, name)) is not None})
        for name in FIELDS
        if name != "description"
    }
    bare: dict[Profile, Profile] = {}
    times: Counter[str] = Counter()
    for one in profiles:
        coded = {name: its[value] for name, its in labels.items() if (value := getattr(one, name)) in its}
        times.update(coded.keys())
        bare[one] = Profile(**{**one.fields, **coded}) if coded else one
    return [bare[one] for one in profiles], times


_OTHER_NAMES = {
    "gender": "sex", "race": "ethnicity", "nationality": "country", "residence": "country", "location": "country",
    "politics": "party", "political": "party", "job": "employment", "work": "employment", "married": "marital",
    "faith": "religion", "denomination": "religion", "church": "church_activity", "degree": "education",
}  # fmt: skip
"""What people call a field, for the "Did you mean" of an error. Not accepted as such: a recipe maps columns by name."""


def _object_or_sentence(text: str) -> Any:
    try:
        written = structure(text)
    except NotPlain:
        written = []
    if written is None and not text.lstrip().startswith("{"):
        return text
    if isinstance(written, Mapping):
        return written
    if text.strip() == "[]":  # an empty object, as PHP writes it
        return None
    raise ProfileError(
        "A profile is written as a list, or as an object that cannot be read whole. Expected an object of fields, as "
        '{"country": "Japan"}, or a sentence.'
    )


# --- the sentence ----------------------------------------------------------------------------------------------------

_NOUNS = {"male": "man", "man": "man", "m": "man", "female": "woman", "woman": "woman", "f": "woman"}
_RELIGIONS = {
    "buddhism": "Buddhist", "islam": "Muslim", "christianity": "Christian", "catholic": "Catholic", "jew": "Jewish",
    "judaism": "Jewish", "hinduism": "Hindu", "sikhism": "Sikh", "orthodox": "Orthodox Christian",
    "orthodox (russian/greek/etc.)": "Orthodox Christian", "do not belong to a denomination": "non-religious",
    "non-religious": "non-religious", "not religious": "non-religious", "no religion": "non-religious",
    "no affiliation": "non-religious", "atheist": "atheist", "agnostic": "agnostic", "roman catholic": "Roman Catholic",
}  # fmt: skip
_WITH_THE = frozenset(
    {"united states", "united states of america", "united kingdom", "united arab emirates", "netherlands",
     "philippines", "bahamas", "gambia", "maldives", "czech republic", "dominican republic", "central african republic"}
)  # fmt: skip
_STATUS = {
    "full time": "works full time", "working full-time": "works full time", "working part-time": "works part time",
    "part time": "works part time", "self employed": "is self-employed", "self-employed": "is self-employed",
    "retired": "is retired", "unemployed": "is unemployed", "student": "is a student",
    "married": "is married", "divorced": "is divorced", "separated": "is separated", "widowed": "is widowed",
    "single": "is single", "never married": "has never been married", "never been married": "has never been married",
    "living together as married": "lives with a partner",
}  # fmt: skip
_CHURCH = {
    "never": "never takes part in church activities", "sometimes": "sometimes takes part in church activities",
    "at least monthly": "takes part in church activities at least monthly",
}  # fmt: skip
_PARTY = re.compile(
    r"(strong |weak )?(democrat|republican|independent)|independent leaning (democratic|republican)", re.IGNORECASE
)
_ADJECTIVE = re.compile(r"[^\W\d_][^\W\d_'’-]*([ -][^\W\d_]+)?")
"""One or two words: short enough to stand before the noun. Anything longer follows it."""
_VOWEL_SOUND = re.compile(r"(8|11|18)(?!\d)|8\d(?!\d)|[aeio]|u(?!ni|rug|kr|ga|s)|h(our|eir|onest)", re.IGNORECASE)
_CONSONANT_SOUND = re.compile(r"eu|one\b|once\b", re.IGNORECASE)


def _sentence(profile: Profile) -> str:
    """Adjectives, noun, what follows the noun, and a relative clause: always in this order, whatever is present."""
    before, after = _age_words(profile.age)
    for text, name in ((profile.ethnicity, "ethnicity"), (profile.religion, "religion")):
        adjective, phrase = _adjective(text, name)
        before, after = [*before, *adjective], [*after, *phrase]
    noun, gender = _noun(profile.sex)
    head = " ".join([*before, noun])
    place = _place(profile)
    clauses = [*gender, *_clauses(profile)]
    relative = f"{',' if place else ''} who {_join(clauses)}" if clauses else ""
    return " ".join([_article(head).capitalize(), head, *after, *place]) + relative


def _age_words(age: str | None) -> tuple[list[str], list[str]]:
    """Words for before and after the noun."""
    if age is None:
        return [], []
    plain = re.sub(r"^age[ds]? |\s*years?( old)?\b|\s*years? of age\b", "", age.casefold()).strip()
    if match := re.fullmatch(r"(\d+)([.,]\d+)?", plain):
        return [f"{int(match[1])}-year-old"], []
    if match := re.fullmatch(r"(\d+)\s*(?:[-–—]|to)\s*(\d+)", plain):
        return [], [f"aged {match[1]} to {match[2]}"]
    if match := re.fullmatch(r"(\d+)\s*(?:\+|(?:and|or) (?:more|over|older|above))", plain):
        return [], [f"aged {match[1]} or over"]
    if match := re.fullmatch(r"(?:under|below|less than|<) ?(\d+)", plain):
        return [], [f"aged under {match[1]}"]
    return [], [f"of age group {age}"]


def _noun(sex: str | None) -> tuple[str, list[str]]:
    if sex is None:
        return "person", []
    noun = _NOUNS.get(sex.casefold())
    return (noun, []) if noun else ("person", [f"reports {sex} as their gender"])


def _adjective(text: str | None, name: str) -> tuple[list[str], list[str]]:
    """`text` as an adjective where it can be one, else as a phrase that follows the noun."""
    if text is None:
        return [], []
    if name == "religion" and text.casefold() in _RELIGIONS:
        return [_RELIGIONS[text.casefold()]], []
    if _ADJECTIVE.fullmatch(text) and text.casefold() not in ("other", "mixed"):
        return [text if any(char.isupper() for char in text) else text.title()], []
    return [], [f"of another {name}" if text.casefold() == "other" else f"of {name} {text}"]


def _place(profile: Profile) -> list[str]:
    home = ", ".join(filter(None, (profile.region, _country(profile.country))))
    area = profile.urban_rural
    if area is not None:
        kind = f"{_article(area)} {area.casefold()} area" if area.casefold() in ("urban", "rural") else area
        home = " of ".join(filter(None, (kind, home)))
    phrases = [f"born in {_country(profile.birth_country)}"] if profile.birth_country else []
    phrases += [f"living in {home}"] if home else []
    return [" and ".join(phrases)] if phrases else []


def _country(name: str | None) -> str | None:
    """Community Alignment writes countries in lower case, and some names carry an article."""
    if name is None:
        return None
    name = name.title() if name.islower() else name
    return f"the {name}" if name.casefold() in _WITH_THE else name


def _clauses(profile: Profile) -> list[str]:
    """What follows "who": one verb phrase per field."""
    party, education, church = profile.party, profile.education, profile.church_activity
    clauses = []
    for name in ("employment", "marital"):
        if text := getattr(profile, name):
            clauses.append(_STATUS.get(text.casefold()) or f"reports {text} as their {name} status")
    if party:
        clauses.append(
            f"is {_article(party)} {party}" if _PARTY.fullmatch(party) else f"reports {party} as their politics"
        )
    if education:
        has = education.casefold().startswith(("a ", "an ", "no ", "some "))
        clauses.append(f"has {education}" if has else f"reports {education} as their education")
    if church:
        clauses.append(_CHURCH.get(church.casefold()) or f"reports {church} as their church activity")
    clauses += [f"speaks {profile.language}"] if profile.language else []
    clauses += [f"was interviewed in {profile.year}"] if profile.year else []
    return clauses


def _join(clauses: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(clauses[:-1]), clauses[-1])))


def _article(words: str) -> str:
    """ "a" or "an", by the sound the words begin with: an 18-year-old, a European, an hour."""
    return "an" if _VOWEL_SOUND.match(words) and not _CONSONANT_SOUND.match(words) else "a"
