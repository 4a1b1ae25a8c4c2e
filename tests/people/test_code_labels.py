"""Codes in front of labels: read by their mark or their column, and never taken from a value that only has a number."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cuma.people.absence import is_absent
from cuma.people.code_labels import bare_value, column_labels, label_of
from cuma.people.profiles import FIELDS, Profile, without_codes

FORMS = [
    ("2. Female", 2, "Female"),
    ("1. White, non-Hispanic", 1, "White, non-Hispanic"),
    ("[3] Protestant", 3, "Protestant"),
    ("(9) Other", 9, "Other"),
    ("2) Male", 2, "Male"),
    ("2)Male", 2, "Male"),
    ("2: Male", 2, "Male"),
    ("2:Male", 2, "Male"),
    ("2 = Male", 2, "Male"),
    ("2=Male", 2, "Male"),
    ("98 - DK", 98, "DK"),
    ("98 – DK", 98, "DK"),
    ("1.Male", 1, "Male"),
    ("01. Male", 1, "Male"),
    ("-9. Refused", -9, "Refused"),
    ("−8. Weiß nicht", -8, "Weiß nicht"),
    ("[-1] Inapplicable", -1, "Inapplicable"),
    ("2.  High school", 2, "High school"),
    ("1. 男", 1, "男"),
    ("840. United States", 840, "United States"),
    ("3. 25-34", 3, "25-34"),
    ("(2) 25 to 34", 2, "25 to 34"),
    ("5. 5", 5, "5"),
    ("1. Under $9,999", 1, "Under $9,999"),
    ("7. (Other)", 7, "(Other)"),
]
NO_CODES = [
    "1.5 years",
    "2 children",
    "18-34",
    "18 - 34",
    "18 – 34 years",
    "3rd level",
    "65+",
    "65 +",
    "1,234",
    "12:30",
    "12: 30",
    "2 = 2",
    "34.0",
    "34",
    "-1",
    ".5",
    "5 %",
    "2.",
    "(9)",
    "[3]",
    "1. -",
    "1. 2. Female",
    "20- bis 30-Jährige",
    "24/7",
    "7-Eleven",
    "Female",
    "",
    "  ",
    "1234567. Too long",
    "Grade 9. Good",
    "(a) First",
    "[sic] Text",
]


@pytest.mark.parametrize(("text", "code", "label"), FORMS)
def test_a_marked_code_is_told_from_its_label(text: str, code: int, label: str) -> None:
    assert label_of(text) == (code, label)


@pytest.mark.parametrize("text", NO_CODES)
def test_a_number_that_belongs_to_its_value_stays(text: str) -> None:
    assert label_of(text) == (None, text)


@pytest.mark.parametrize(
    "text",
    [
        "-9. Refused",
        "-8. Don't know",
        "-1. Inapplicable",
        "99. No answer",
        "98 - DK",
        "(9) Refused",
        "-4. Technical error",
        "-5. Interview breakoff (sufficient partial IW)",
        "99 No answer",
        "98 DK",
        "-9 Refused",
        "−3. Restricted",
        "[-7] x",
        "9=NA",
        "8: Don’t know",
        "DK/Refused",
        "99. DK/NA",
        "Don't know (VOL.)",
        "(VOL) Refused",
        "9. Refused {VOL}",
        "0. Not applicable",
        "IAP",
        "-6. No post-election interview",
        "Refused or don't know",
        "7. NULL",
    ],
)
def test_labelled_missing_codes_are_absence(text: str) -> None:
    assert is_absent(text)
    assert not any(Profile(**{name: text}) for name in FIELDS)


@pytest.mark.parametrize(
    "text",
    [
        "-5 degrees",
        "2 children",
        "65 +",
        "1. Liga",
        "1. Unknown Pleasures fan",
        "DK Zagreb supporters",
        "2. Refuse collector",
        "5. Other {SPECIFY}",
        "Refused entry at a border",
        "North/South",
        "3. Independent or other",
        "99 problems",
    ],
)
def test_values_that_only_look_so_are_none(text: str) -> None:
    assert not is_absent(text)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sex", "2. Female", "Female"),
        ("religion", "[3] Protestant", "Protestant"),
        ("party", "7. Strong Republican", "Strong Republican"),
        ("age", "80. Age 80 or older", "Age 80 or older"),
        ("age", "2. 25-34", "25-34"),
        ("age", "65. Jahre", "65. Jahre"),
        ("age", "(65) years", "(65) years"),
        ("education", "9. klasse", "9. klasse"),
        ("education", "(3) Some college", "Some college"),
        ("region", "1. Bezirk", "1. Bezirk"),
        ("region", "4 = South", "South"),
        ("ethnicity", "2. Generation", "2. Generation"),
        ("employment", "1. Lehrjahr", "1. Lehrjahr"),
        ("description", "1. I sing.", "1. I sing."),
        ("country", "5. 2nd", "5. 2nd"),
        ("year", "3. 2020", "3. 2020"),
    ],
)
def test_a_value_alone_loses_only_what_can_be_nothing_but_a_code(name: str, text: str, value: str) -> None:
    assert bare_value(name, text) == value
    assert getattr(Profile(**{name: text}), name) == value


@pytest.mark.parametrize(
    ("column", "value", "label"),
    [
        (["6. Bachelor's degree", "3. Some college", "95. Other"], "95. Other", "Other"),
        (["1. White", "2. Black", "Mixed"], "2. Black", "Black"),
        (["1. Bezirk", "2. Bezirk", "3. Bezirk"], "1. Bezirk", None),
        (["9. klasse", "10. klasse", "Gymnasium"], "9. klasse", None),
        (["1. Male", "1. Female"], "1. Male", None),
        (["1. Liga"], "1. Liga", None),
        (["1. Liga", "North", "South", "2. East"], "1. Liga", None),
        (["1 child", "2 children", "3 or more"], "2 children", None),
        (["18 - 34", "35 - 64"], "18 - 34", None),
    ],
)
def test_a_column_tells_whether_it_is_coded(column: list[str], value: str, label: str | None) -> None:
    assert column_labels(column).get(value) == label


pieces = st.sampled_from(
    [
        "1",
        "2",
        "-9",
        "18",
        "34",
        ". ",
        ".",
        ") ",
        "(",
        "[",
        "]",
        " - ",
        "-",
        " = ",
        ": ",
        " ",
        "Female",
        "Refused",
        "DK",
        "years",
        "+",
        ",",
        "NA",
        "klasse",
    ]
)
texts = st.lists(pieces, max_size=8).map("".join) | st.text(max_size=12)


@given(texts)
def test_what_is_left_has_no_code_and_is_the_text_s_own_end(text: str) -> None:
    code, label = label_of(text)
    assert label_of(label) == (None, label)
    assert text.strip().endswith(label.strip())
    assert code is not None or label == text


labelled = st.builds(
    "{}. {}".format, st.integers(0, 12), st.sampled_from(["Low", "low", "High", "Other", "klasse", "DK"])
)


@given(st.lists(labelled | labelled | texts, max_size=8))
@example(["1. Low", "2. High"])
def test_a_column_never_makes_two_values_one(column: list[str]) -> None:
    profiles = [Profile(education=text) for text in column]
    told, times = without_codes(profiles)
    assert without_codes(told)[0] == told
    assert [bool(one) for one in told] == [bool(one) for one in profiles]
    changed = {one.education: new.education for one, new in zip(profiles, told, strict=True) if one != new}
    assert len(set(changed.values())) == len(changed)
    assert all(old.endswith(new) for old, new in changed.items())
    assert times["education"] == sum(one != new for one, new in zip(profiles, told, strict=True))
