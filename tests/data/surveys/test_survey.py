"""A survey counts answers, and refuses people, groups and questions that do not fit together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from cuma.data.surveys import Group, Question, Survey, survey_cells
from cuma.data.surveys.answers import survey_answers
from cuma.data.surveys.prompts import survey_messages
from cuma.errors import BenchmarkError
from cuma.people.profiles import Profile

QUESTIONS = (
    Question("colour", "Which colour?", ("red", "green", "blue"), ordinal=False),
    Question("more", "More?", ("Yes", "No"), ordinal=False),
)
GROUPS = (
    Group("Peru", Profile(country="Peru"), "seen"),
    Group("Mali", Profile(country="Mali", age="18-24"), "test"),
    Group("anybody", Profile(), "seen"),
)
PEOPLE = pd.DataFrame(
    [
        (0, "Peru", "train", 0, 1), (1, "Peru", "train", 0, -1), (2, "Peru", "train", 2, 0), (3, "Peru", "test", 1, 1),
        (4, "Mali", "test", 1, -1), (5, "anybody", "train", 1, 1),
    ],
    columns=["person", "group", "part", "colour", "more"],
)  # fmt: skip


@pytest.fixture
def survey() -> Survey:
    return Survey("toy", QUESTIONS, GROUPS, PEOPLE, card={})


def test_counts_are_of_the_part_and_the_roles_asked_for(survey: Survey) -> None:
    rows = [(group, item, list(counts)) for group, item, counts in survey.counts("train", ("seen",)).to_numpy()]
    assert rows == [
        ("Peru", "colour", [2, 0, 1]), ("Peru", "more", [1, 1]),
        ("anybody", "colour", [0, 1, 0]), ("anybody", "more", [0, 1]),
    ]  # fmt: skip
    tested = survey.counts("test", ("seen", "test")).set_index(["group", "question_id"])["counts"]
    assert list(tested["Mali", "colour"]) == [0, 1, 0]
    assert list(tested["Mali", "more"]) == [0, 0]
    assert set(tested.index.get_level_values("group")) == {"Peru", "Mali", "anybody"}


def test_unknown_parts_and_roles_are_refused(survey: Survey) -> None:
    with pytest.raises(BenchmarkError, match="Did you mean 'train'"):
        survey.counts("trian", ("seen",))
    with pytest.raises(BenchmarkError, match="Unknown role 'unseen'"):
        survey.counts("test", ("unseen",))
    with pytest.raises(BenchmarkError, match="collection of roles"):
        survey.counts("test", "test")


def test_cells_show_each_answer_under_its_letter(survey: Survey) -> None:
    cells = survey_cells(survey, "train", ("seen",), profile_in_prompt=False)
    assert isinstance(cells, Dataset)
    assert cells.column_names == ["group", "question_id", "order", "prompt", "profile", "answer_counts"]
    assert len(cells) == 2 * (3 + 2)
    counts = survey.counts("train", ("seen",)).set_index(["group", "question_id"])["counts"]
    questions = {question.id: question for question in QUESTIONS}
    for cell in cells:
        truth = counts[cell["group"], cell["question_id"]]
        back = np.zeros(len(truth))
        back[cell["order"]] = cell["answer_counts"]
        assert (back == truth).all()
        assert cell["prompt"] == survey_messages(questions[cell["question_id"]], cell["order"])


def test_cells_nobody_answered_are_left_out_and_only_those(survey: Survey) -> None:
    cells = survey_cells(survey, "test", ("seen", "test"), profile_in_prompt=False)
    assert {(cell["group"], cell["question_id"]) for cell in cells} == {
        ("Peru", "colour"),
        ("Peru", "more"),
        ("Mali", "colour"),
    }


def test_the_profile_is_in_the_prompt_only_when_asked_for(survey: Survey) -> None:
    hidden = survey_cells(survey, "train", ("seen",), profile_in_prompt=False)
    shown = survey_cells(survey, "train", ("seen",), profile_in_prompt=True)
    assert "Peru" not in str(hidden["prompt"][:])
    for without, cell in zip(hidden, shown, strict=True):
        about = Profile.parse(cell["profile"])
        assert about == next(group.profile for group in GROUPS if group.id == cell["group"])
        assert ("Peru" in cell["prompt"][0]["content"]) == (cell["group"] == "Peru")
        assert (without["prompt"] == cell["prompt"]) == (not about)


def test_a_part_without_answers_is_refused(survey: Survey) -> None:
    with pytest.raises(BenchmarkError, match="nobody"):
        survey_cells(survey, "train", ("test",), profile_in_prompt=False)


@pytest.mark.parametrize(
    ("people", "match"),
    [
        (PEOPLE.drop(columns="more"), "columns"),
        (PEOPLE.assign(person=0), "twice"),
        (PEOPLE.assign(more=2), "outside -1..1"),
        (PEOPLE[PEOPLE["group"] != "Mali"], "groups"),
    ],
)
def test_people_that_do_not_fit_are_refused(people: pd.DataFrame, match: str) -> None:
    with pytest.raises(BenchmarkError, match=match):
        Survey("toy", QUESTIONS, GROUPS, people, card={})


# ---- survey weights -------------------------------------------------------------------------------------------------


def weighted(weights: list[float]) -> Survey:
    people = PEOPLE.copy()
    people.insert(3, "weight", weights)
    return Survey("toy", QUESTIONS, GROUPS, people, card={})


def test_weights_count_people_where_they_are_asked_for() -> None:
    survey = weighted([2.0, 0.5, 1.5, 1, 1, 1])
    counts = survey.counts("train", ("seen",), weighted=True).set_index(["group", "question_id"])["counts"]
    assert list(counts["Peru", "colour"]) == [2.5, 0, 1.5]
    assert list(survey.counts("train", ("seen",))["counts"][0]) == [2, 0, 1]
    cells = survey_cells(survey, "train", ("seen",), profile_in_prompt=False, weighted=True)
    first = next(cell for cell in cells if cell["group"] == "Peru" and cell["order"] == [1, 2, 0])
    assert first["answer_counts"] == [0, 1.5, 2.5]


def test_absent_or_broken_weights_are_refused(survey: Survey) -> None:
    with pytest.raises(BenchmarkError, match="no survey weights"):
        survey.counts("train", ("seen",), weighted=True)
    with pytest.raises(BenchmarkError, match="no survey weights"):
        survey_answers(survey, "train", ("seen",), profile_in_prompt=False, weighted=True)
    for broken in (-1.0, float("nan")):
        with pytest.raises(BenchmarkError, match="weight"):
            weighted([broken, 1, 1, 1, 1, 1])
