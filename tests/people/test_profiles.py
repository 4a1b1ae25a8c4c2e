"""Profiles: one English sentence, absence is absence, and nothing of a person leaks."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.errors import ProfileError
from cuma.people.literals import is_written
from cuma.people.profiles import FIELDS, Profile

SECRET = "Zoroastrian-4711"

SENTENCES = [
    ({"age": 55, "sex": "Female", "religion": "Buddhist", "country": "Thailand"},
     "A 55-year-old Buddhist woman living in Thailand"),
    ({"ethnicity": "White", "sex": "Female", "party": "strong Democrat", "education": "a college degree",
      "church_activity": "never"},
     "A White woman who is a strong Democrat, has a college degree and never takes part in church activities"),
    ({"country": "philippines"}, "A person living in the Philippines"),
    ({"age": "18-24 years old", "sex": "Male", "birth_country": "Kenya", "country": "Italy", "urban_rural": "Urban"},
     "A man aged 18 to 24 born in Kenya and living in an urban area of Italy"),
    ({"age": "65 and more years", "religion": "Orthodox (Russian/Greek/etc.)"},
     "An Orthodox Christian person aged 65 or over"),
    ({"country": "Chile", "marital": "Divorced"}, "A person living in Chile, who is divorced"),
    ({"sex": "Non-binary / third gender"}, "A person who reports Non-binary / third gender as their gender"),
]  # fmt: skip


@pytest.mark.parametrize(("given_fields", "sentence"), SENTENCES)
def test_sentence_reads_like_english(given_fields: dict, sentence: str) -> None:
    assert Profile(**given_fields).sentence == sentence
    assert Profile.parse(given_fields).sentence == sentence


@pytest.mark.parametrize(
    ("fields", "start"),
    [
        ({"age": 8}, "An 8"), ({"age": 11}, "An 11"), ({"age": 18}, "An 18"), ({"age": 80}, "An 80"),
        ({"age": 1}, "A 1"), ({"age": 81}, "An 81"), ({"age": 110}, "A 110"), ({"ethnicity": "Asian"}, "An Asian"),
        ({"ethnicity": "European"}, "A European"), ({"ethnicity": "Ukrainian"}, "A Ukrainian"),
        ({"ethnicity": "Uzbek"}, "An Uzbek"), ({"religion": "Unitarian"}, "A Unitarian"),
        ({"ethnicity": "White"}, "A White"), ({"religion": "Hindu"}, "A Hindu"),
    ],
)  # fmt: skip
def test_article_follows_the_sound(fields: dict, start: str) -> None:
    assert re.match(rf"{start}\b", Profile(**fields).sentence)


MISSING = [
    None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, float("inf"), -1, -2.0, np.int64(-5), "",
    "  ", "-", ".", "nan", "NaN", "None", "null", "<NA>", "n/a", "N/A", "Prefer not to say", "prefer not to answer",
    "Not asked", "Not asked in survey", "Don't know", "Don´t know", "Don’t know", "DON'T KNOW", "No answer",
    "No answer.", "Not applicable", "Missing; Not available; AU: Other", "Missing; Unknown",
    "Other missing; Multiple answers Mail (EVS)", "EMPTY STRING", "-4", "-1.0", "−3", "Refused", "unknown",
]  # fmt: skip


@pytest.mark.parametrize("code", MISSING, ids=repr)
@pytest.mark.parametrize("field", FIELDS)
def test_missing_codes_are_absence(field: str, code: object) -> None:
    profile = Profile(**{field: code})
    assert profile == Profile()
    assert not profile
    assert profile.sentence == ""
    assert profile.fields == {}


def test_words_that_only_look_missing_stay() -> None:
    kept = Profile(ethnicity="Nanai", region="Missouri", language="Nande", religion="Nonconformist")
    assert len(kept.fields) == 4


def test_na_is_namibia_as_a_country_and_missing_elsewhere() -> None:
    assert Profile(country="NA").sentence == "A person living in Namibia"
    assert Profile(birth_country="NA").sentence == "A person born in Namibia"
    assert not Profile(country=float("nan"))
    assert not Profile(religion="NA")


def test_an_age_beyond_any_life_is_a_code() -> None:
    assert not Profile(age=999)
    assert Profile(age=102)


@pytest.mark.parametrize(
    "sentence", ["A 55-year-old Buddhist living in Thailand", "née  Élise; 42 ans. ", "我住在北京"]
)
def test_a_ready_sentence_stays_as_it_is(sentence: str) -> None:
    assert Profile.parse(sentence).sentence == sentence


def test_a_description_follows_the_fields() -> None:
    assert Profile(country="Peru", description="Sings.").sentence == "A person living in Peru. Sings."


@pytest.mark.parametrize("nothing", [None, "", "   ", {}, {"age": None}, float("nan"), "Prefer not to say", Profile()])
def test_an_empty_profile_is_legal(nothing: object) -> None:
    profile = Profile.parse(nothing)
    assert not profile
    assert profile.sentence == ""
    assert profile == Profile()


def test_numbers_of_every_library_are_one_text() -> None:
    ages = [55, 55.0, np.int64(55), np.float32(55), "55", " 55 "]
    assert len({Profile(age=age) for age in ages}) == 1


def test_an_unknown_field_is_refused_with_a_suggestion_and_without_its_value() -> None:
    for wrong, meant in {"religon": "religion", "gender": "sex", "race": "ethnicity"}.items():
        with pytest.raises(ProfileError, match=f"Did you mean '{meant}'") as caught:
            Profile.parse({wrong: SECRET})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [[SECRET], {SECRET: 1}, (SECRET,), True, b"bytes"], ids=type)
def test_a_value_that_is_no_text_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(ProfileError, match="religion") as caught:
        Profile(religion=value)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [[SECRET], 7, True, object()], ids=type)
def test_parse_refuses_what_is_no_profile(value: object) -> None:
    with pytest.raises(ProfileError, match="Expected a dict") as caught:
        Profile.parse(value)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_repr_hides_the_values() -> None:
    assert repr(Profile(religion=SECRET, age=30)) == "Profile(2 fields)"


def test_profiles_are_frozen_values() -> None:
    profile = Profile(age=30, country="Peru")
    with pytest.raises(AttributeError):
        profile.age = "31"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(profile)) == copy.deepcopy(profile) == profile


patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
texts = st.text(max_size=30).filter(lambda text: not is_written(" ".join(text.split()))) | st.sampled_from(
    [code for code in MISSING if isinstance(code, str)]
)
values = texts | st.none() | st.integers() | st.floats()
structured = [name for name in FIELDS if name != "description"]


@patient
@given(st.dictionaries(st.sampled_from(structured), values))
def test_any_fields_and_any_text_give_a_legal_sentence(fields: dict) -> None:
    profile = Profile.parse(fields)
    sentence = profile.sentence
    assert sentence == Profile.parse(dict(reversed(fields.items()))).sentence
    assert bool(sentence) == bool(profile)
    assert sentence == " ".join(sentence.split())
    assert sentence == "" or re.match(r"An? \S", sentence)
    sentence.encode("utf-8")
    # Only absence is tested here: a text that has the word among others ("nan rug") is somebody's own.
    said = {word for value in fields.values() if isinstance(value, str) for word in re.findall(r"\w+", value)}
    assert {"nan", "None", "NaT", "inf"}.intersection(re.findall(r"\w+", sentence)) <= said


@patient
@given(st.dictionaries(st.sampled_from(FIELDS), values))
def test_fields_read_back_are_the_same_profile(fields: dict) -> None:
    profile = Profile.parse(fields)
    with_nulls = dict.fromkeys(FIELDS) | profile.fields  # what a table gives back: every column, absent ones null
    assert Profile.parse(with_nulls) == Profile.parse(profile) == profile


def test_a_profile_is_read_as_it_is_typed() -> None:
    assert Profile.read('country="South Africa" age=30') == Profile(country="South Africa", age=30)
    assert Profile.read("A nurse from Peru") == Profile(description="A nurse from Peru")
    assert Profile.read("  ") == Profile()
    for wrong in ("country=Peru age", 'country="Peru', "=Peru", "gender=Male"):
        with pytest.raises(ProfileError) as caught:
            Profile.read(wrong)
        assert "Peru" not in str(caught.value)
