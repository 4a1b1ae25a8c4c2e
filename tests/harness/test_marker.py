"""The mark of who asks: it comes off again, whatever stands around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuma.errors import ProfileError
from cuma.harness.marker import mark, unmark
from cuma.people.profiles import Profile

WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: bool(Profile(country=text)))


@given(WORDS, st.text(), st.text())
def test_a_mark_comes_off_and_leaves_the_text(country: str, before: str, after: str) -> None:
    profile = Profile(country=country, age=30)
    found, text = unmark(before + mark(profile, after))
    assert found == profile
    assert text == before + after


def test_no_mark_is_nobody_in_particular() -> None:
    assert unmark("What is 2 + 2?") == (Profile(), "What is 2 + 2?")
    assert mark(Profile(), "text") == "text"


def test_one_person_marked_twice_is_one_person() -> None:
    profile = Profile(country="Peru")
    assert unmark(mark(profile, "example") + mark(profile, "question")) == (profile, "examplequestion")


@pytest.mark.parametrize("inside", ["not JSON", "[1]", '{"shoe_size": "44"}'])
def test_a_damaged_mark_is_refused_without_showing_it(inside: str) -> None:
    with pytest.raises(ProfileError) as caught:
        unmark(f"<|cuma_profile|>{inside}<|/cuma_profile|>\ntext")
    assert "44" not in str(caught.value)


def test_two_people_in_one_request_are_refused() -> None:
    with pytest.raises(ProfileError, match="2 different profiles"):
        unmark(mark(Profile(country="Peru"), "") + mark(Profile(country="Mali"), ""))
