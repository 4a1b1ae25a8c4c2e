"""Whole items are held out with their near-repeats, by seed, and neither training nor its curve ever reads them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cuma.data.surveys.cells import survey_cells
from cuma.data.surveys.gss import load_gss_all
from cuma.data.surveys.item_splits import split_questions
from cuma.data.surveys.survey import Question, Survey

SUBJECTS = ("taxes on wine", "foreign aid", "the space program", "public parks", "rural highways", "school meals")
QUESTIONS = tuple(
    Question(f"{word}{number}", f"{word} do you think {subject}?", ("Yes", "No"), ordinal=False)
    for number, subject in enumerate(SUBJECTS)
    for word in ("What", "How")
)


@pytest.mark.parametrize("seed", range(4))
def test_near_repeats_have_one_role(seed: int) -> None:
    found = {question.id: question.role for question in split_questions(QUESTIONS, 0.3, seed)}
    assert set(found.values()) == {"seen", "validation", "test"}
    assert all(found[f"What{number}"] == found[f"How{number}"] for number in range(len(SUBJECTS)))
    again = split_questions(QUESTIONS[::-1], 0.3, seed)
    assert found == {question.id: question.role for question in again}


def test_seeds_hold_out_different_items() -> None:
    held = [{q.id for q in split_questions(QUESTIONS, 0.3, seed) if q.role == "test"} for seed in range(8)]
    assert len({frozenset(one) for one in held}) > 1


@pytest.fixture(scope="module")
def survey() -> Survey:
    whole = load_gss_all(0)
    roles = ("seen", "seen", "validation", "seen", "test", "seen", "seen")
    questions = tuple(replace(q, role=role) for q, role in zip(whole.questions, roles, strict=True))
    return replace(whole, questions=questions)


def test_cells_hold_the_items_of_their_roles(survey: Survey) -> None:
    of = {
        roles: set(survey_cells(survey, part, roles, profile_in_prompt=False)["question_id"])
        for part, roles in (("train", ("seen",)), ("validation", ("seen", "validation")), ("test", ("seen", "test")))
    }
    ids = [question.id for question in survey.questions]
    assert of[("seen",)] == set(ids) - {ids[2], ids[4]}
    assert of[("seen", "validation")] == set(ids) - {ids[4]}
    assert of[("seen", "test")] == set(ids) - {ids[2]}


@pytest.mark.parametrize("seed", range(4))
def test_families_told_by_hand_come_before_the_words(seed: int) -> None:
    told = [replace(q, family="ours" if number in (0, 3, 5) else q.id) for number, q in enumerate(QUESTIONS)]
    role = {question.id: question.role for question in split_questions(told, 0.3, seed)}
    assert role["What0"] == role["How1"] == role["How2"]
    some = [replace(q, family="ours") if number in (0, 3) else q for number, q in enumerate(QUESTIONS)]
    role = {question.id: question.role for question in split_questions(some, 0.3, seed)}
    assert role["What0"] == role["How1"]
    assert all(role[f"What{number}"] == role[f"How{number}"] for number in range(2, len(SUBJECTS)))


def test_sisters_by_words_may_part_where_the_families_are_told() -> None:
    told = [replace(question, family=question.id) for question in QUESTIONS]
    roles = [{q.id: q.role for q in split_questions(told, 0.3, seed)} for seed in range(6)]
    assert any(role[f"What{n}"] != role[f"How{n}"] for role in roles for n in range(len(SUBJECTS)))
