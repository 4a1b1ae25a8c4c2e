"""Text that writes out a list or an object: read as one, or refused; never run, never taken for a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma.errors import ProfileError
from cuma.people.literals import NotPlain, decoded, plain_literal, structure
from cuma.people.profiles import Profile

PERUVIAN = {"country": "Peru", "age": "30"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'country': 'Peru', 'age': None}", {"country": "Peru", "age": None}),
        ('{"country": "Peru", "age": null}', {"country": "Peru", "age": None}),
        (' [{"role": "user", "content": "a"}]\n', [{"role": "user", "content": "a"}]),
        ("[{'role': 'user', 'content': \"it's\"}]", [{"role": "user", "content": "it's"}]),
        ("('Yes', 'No')", ["Yes", "No"]),
        ('"{\\"country\\": \\"Peru\\"}"', {"country": "Peru"}),  # JSON of JSON
        ("{'country': b'Per\\xc3\\xba'}", {"country": "Perú"}),
        ("[np.float64(0.5), np.float64(0.5)]", [0.5, 0.5]),
        ("array(['Yes', 'No'], dtype=object)", ["Yes", "No"]),
        ("[0.5, -0.5, -3, nan]", [0.5, -0.5, -3, pytest.approx(float("nan"), nan_ok=True)]),
        ("{'kept': True}", {"kept": True}),
    ],
)
def test_what_json_and_python_print_is_read(text: str, value: Any) -> None:
    assert structure(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "A person (30)",
        "[INST] Hi",
        "(a) yes",
        "[laughs] no",
        "{name} says",
        "",
        "b'",
        "(30)",
        "'quoted'",
        "[18-24]",
        "{",
    ],
)
def test_other_texts_stay_texts(text: str) -> None:
    assert structure(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "['Yes' 'No']",  # NumPy's print; Python would read one text, YesNo
        "[{'role': 'user'}\n {'role': 'assistant'}]",
        "[{'role': 'user', 'content': 'cut o",
        '{"country": "Peru", "country": "Chile"}',
        "{'country': 'Peru', 'country': 'Chile'}",
        '{"a": [{"b": 1, "b": 2}]}',
        "{'year': datetime.date(2020, 1, 1)}",
        "{'a', 'b'}",
        "['a', ...]",
        "[b'\\xff']",
    ],
)
def test_what_cannot_be_read_whole_is_refused(text: str) -> None:
    with pytest.raises(NotPlain):
        structure(text)


def test_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for text in (f"[__import__('pathlib').Path({str(marker)!r}).touch()]", f"array([open({str(marker)!r}, 'w')])"):
        with pytest.raises(NotPlain):
            plain_literal(text)
    assert not marker.exists()


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.lists(plain, min_size=1, max_size=4) | st.dictionaries(st.text(max_size=6), plain, min_size=1, max_size=4))
def test_whatever_is_written_out_comes_back(value: Any) -> None:
    assert plain_literal(repr(value)) == value
    assert structure(json.dumps(value)) == value
    assert decoded(value) == value or "b'" in repr(value)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("[]{}()'\"b,: \\n1", max_size=30))
def test_any_text_is_read_left_or_refused(text: str) -> None:
    try:
        found = structure(text)
    except NotPlain:
        return
    assert found is None or isinstance(found, list | dict)


def test_bytes_are_text_where_they_can_be() -> None:
    row = {"a": b"\xc3\xa4", "b": [b"x", {"c": "b'y'"}], "d": 3, "e": "b'it", "f": "b'it's'", "g": [b"\xff"]}
    assert decoded(row) == row | {"a": "ä", "b": ["x", {"c": "y"}]}


@pytest.mark.parametrize("text", ["{'country': 'Peru', 'age': 30}", '{"country": "Peru", "age": 30, "sex": null}'])
def test_a_profile_written_out_is_an_object(text: str) -> None:
    assert Profile.parse(text).fields == PERUVIAN == Profile.read(text).fields


@pytest.mark.parametrize("nothing", ["{}", "[]", "{'country': None}", '{"age": NaN}'])
def test_an_empty_object_is_nobody(nothing: str) -> None:
    assert Profile.parse(nothing) == Profile()


@pytest.mark.parametrize(
    "profile",
    ["['Peru']", "{'country': 'Peru", "{country: Peru}", "[{'country': 'Peru'}]", "b'A Peruvian'", b"A Peruvian",
     {"country": "['Peru']"}, {"country": "{'name': 'Peru'}"}, {"country": "b'Peru'"}, {"country": b"Peru"},
     {"description": "{'country': 'Peru'}"}],
)  # fmt: skip
def test_other_structure_is_no_profile(profile: Any) -> None:
    with pytest.raises(ProfileError) as caught:
        Profile.parse(profile)
    assert "Peru" not in str(caught.value)
