"""What a column of answers means: decided over all of it, and not decided where it could be two things."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuma.data.builders.answer_codes import reading_of

LABELS = ["Very bad", "Bad", "So so", "Good", "Very good"]
POINTS = ["1", "2", "3", "4", "5"]


def read(answers: Sequence[str], options: Sequence[str], codes: str = "") -> list[str | None]:
    """The option that each answer becomes."""
    reading = reading_of(set(answers), options, codes)
    places = reading.named | reading.coded
    return [options[places[answer]] if answer in places else None for answer in answers]


@pytest.mark.parametrize(
    ("answers", "options", "meant"),
    [
        (POINTS, LABELS, LABELS),  # SPSS and Stata: from 1
        (["0", "1", "2", "3", "4"], LABELS, LABELS),
        ([*POINTS, "9", "98"], LABELS, [*LABELS, None, None]),  # missing codes beside codes from 1
        (POINTS, POINTS, POINTS),
        (["1", "2"], POINTS, ["1", "2"]),  # nobody says 3 to 5, and 1 is still "1"
        (["0", *POINTS], POINTS, [None, *POINTS]),  # a stray 0 makes no index of the others
        (POINTS, ["Not at all", "2", "3", "4", "Fully"], ["Not at all", "2", "3", "4", "Fully"]),
        (["1", "4"], ["1 Never", "2", "3", "4 Always"], ["1 Never", "4 Always"]),
        (["2"], ["1. Female", "2. Male"], ["2. Male"]),
        (["-9", "2"], ["-9. Refused", "1. Yes", "2. No"], ["-9. Refused", "2. No"]),
        (["1", "2", "3"], ["18-24", "25-34", "35-44"], ["18-24", "25-34", "35-44"]),
        (["2. female", "[1] Male", "Other"], ["Female", "Male", "9. Other"], ["Female", "Male", "9. Other"]),
        (["1. Liga", "2. Liga", "Liga"], ["1. Liga", "3. Liga"], ["1. Liga", None, None]),
        (["2", "1"], ["(1) Yes", "(2) No"], ["(2) No", "(1) Yes"]),
        (["1", "2"], ["1.5 years", "2.5 years"], ["1.5 years", "2.5 years"]),  # codes from 1, and not 1.5 for 1
        (["1", "3"], ["1 to 3 years", "4 to 6 years", "7 or more"], ["1 to 3 years", "7 or more"]),
        (["1", "2"], ["01", "02", "03"], ["01", "02"]),
        (["0,5", "1"], ["0.5", "1", "1.5"], ["0.5", "1"]),
        (["2", "0"], ["2", "1", "0"], ["2", "0"]),
        (["yes", "NO"], ["Yes", "No"], ["Yes", "No"]),
        (["TRUE", "false"], ["No", "Yes"], ["Yes", "No"]),
        (["true", "false"], ["True", "False"], ["True", "False"]),
        (["true", "false"], ["Peru", "Kenya"], [None, None]),
        (["Yes", "No", "0", "1", "2"], ["Yes", "No", "Perhaps"], ["Yes", "No", "Yes", "No", "Perhaps"]),
    ],
)
def test_a_column_tells_what_its_answers_are(answers: list[str], options: list[str], meant: list[str | None]) -> None:
    assert read(answers, options) == meant


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        (["1", "2", "3", "4"], LABELS),  # nobody at either end
        (["0", *POINTS], LABELS),  # both ends
        (["1"], ["Yes", "No"]),
        (["0", "1", "2", "3"], ["1", "2", "3", "more"]),  # indices from 0, or options and a missing code
        (["0", "1", "2", "3", "4"], POINTS),
    ],
)
def test_what_could_be_two_things_is_not_read_until_somebody_says_it(answers: list[str], options: list[str]) -> None:
    reading = reading_of(set(answers), options)
    assert reading.undecided == set(answers)
    assert not reading.named | reading.coded
    for codes in ("from_zero", "from_one"):
        places = reading_of(set(answers), options, codes).coded
        assert all(place == int(answer) - (codes == "from_one") for answer, place in places.items())
        assert places


def test_words_stay_where_numbers_beside_them_are_undecided() -> None:
    assert read(["Yes", "2"], ["Yes", "No", "Perhaps"]) == ["Yes", None]


def test_who_says_that_answers_are_options_gets_no_index() -> None:
    assert read(["1", "2", "Bad"], LABELS, "options") == [None, None, "Bad"]


@given(
    options=st.lists(st.sampled_from([*POINTS, *LABELS, "0", "10", "1. a", "2. b"]), min_size=2, unique=True),
    answers=st.sets(st.sampled_from([*POINTS, *LABELS, "0", "6", "9", "true", "NA", "2.5"]), min_size=1),
)
def test_an_option_is_never_another_one(options: list[str], answers: set[str]) -> None:
    reading = reading_of(answers, options)
    assert not reading.named.keys() & reading.coded.keys()
    for answer, place in (reading.named | reading.coded).items():
        assert 0 <= place < len(options)
        if answer in options:
            assert options[place] == answer
    shifts = {int(answer) - place for answer, place in reading.coded.items()}
    assert shifts <= {0} or shifts <= {1}
