"""One row per person and question, and the pairs made from them: nobody is lost, and nobody gets another's answer."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cuma.data.catalog import load_benchmark
from cuma.data.surveys.answers import ANSWER_COLUMNS, preference_pairs, survey_answers
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import NO_ANSWER, Survey
from cuma.errors import BenchmarkError


@pytest.fixture(scope="module", params=["gss", "wvs"])
def survey(request: pytest.FixtureRequest) -> Survey:
    return load_benchmark(request.param)


def test_every_answer_of_the_part_is_there_once_and_said_in_its_letter(survey: Survey) -> None:
    rows = survey_answers(survey, "validation", ("seen",), profile_in_prompt=False)
    assert tuple(rows.column_names) == ANSWER_COLUMNS
    roles = {group.id: group.role for group in survey.groups}
    people = survey.people[(survey.people["part"] == "validation") & (survey.people["group"].map(roles) == "seen")]
    expected = {
        (int(person["person"]), question.id): (person["group"], question.options[person[question.id]])
        for _, person in people.iterrows()
        for question in survey.questions
        if person[question.id] != NO_ANSWER
    }
    assert len(rows) == len(expected)
    for row in rows:
        group, said = expected[row["person"], row["question_id"]]
        shown = row["prompt"][-1]["content"]
        assert row["group"] == group
        assert f"{LETTERS[row['answer']]}. {said}\n" in shown


def test_letters_are_shuffled_and_the_same_seed_deals_them_again(survey: Survey) -> None:
    rows, again, other = (
        survey_answers(survey, "validation", ("seen",), profile_in_prompt=False, seed=seed) for seed in (0, 0, 1)
    )
    assert rows["answer"] == again["answer"]
    assert rows["answer"] != other["answer"]
    question = survey.questions[0]
    first = [row["prompt"][-1]["content"] for row in rows if row["question_id"] == question.id]
    at_a = Counter(text.split("A. ")[1].split("\n")[0] for text in first)
    expected = len(first) / len(question.options)
    assert all(abs(n - expected) < 5 * np.sqrt(expected) for n in at_a.values())


def test_the_person_is_in_the_prompt_only_when_asked_for(survey: Survey) -> None:
    for said in (True, False):
        row = survey_answers(survey, "validation", ("seen",), profile_in_prompt=said)[0]
        profile = next(group.profile for group in survey.groups if group.id == row["group"])
        tail = profile.sentence.rstrip(".").split(" ", 1)[1]
        assert (tail in row["prompt"][0]["content"]) is said


def test_pairs_choose_the_persons_letter_and_reject_another_uniformly(survey: Survey) -> None:
    rows = survey_answers(survey, "validation", ("seen",), profile_in_prompt=False)
    pairs = preference_pairs(rows)
    assert set(pairs.column_names) == {"prompt", "chosen", "rejected", "profile", "group", "question_id"}
    assert pairs["rejected"] == preference_pairs(rows)["rejected"]
    steps = Counter()
    for row, pair in zip(rows, pairs, strict=True):
        chosen, rejected = (LETTERS.index(pair[side][0]["content"]) for side in ("chosen", "rejected"))
        assert chosen == row["answer"] != rejected
        assert rejected < row["options"]
        steps[row["options"], (rejected - chosen) % row["options"]] += 1
    for options in {options for options, _ in steps}:
        counts = [steps[options, step] for step in range(1, options)]
        assert min(counts) > 0.7 * max(counts) or len(counts) == 1


def test_a_part_without_people_is_named(survey: Survey) -> None:
    with pytest.raises(BenchmarkError, match="nobody"):
        survey_answers(survey, "train", ("test",), profile_in_prompt=False)
