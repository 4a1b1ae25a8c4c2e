"""Changing one field at a time: which changes, in what rounds, and on which survey."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cuma.data.surveys.survey import Group, Question, Survey
from cuma.evaluation.counterfactuals import (
    MAX_GROUPS,
    MAX_VALUES,
    answer_changes,
    changed_survey,
    changes,
    rounds,
    spread_out,
)
from cuma.people.profiles import Profile

SEXES, PARTIES = ("Female", "Male"), ("Democrat", "Republican", "independent")


@pytest.fixture
def survey() -> Survey:
    groups = tuple(
        Group(f"{sex}, {party}", Profile(sex=sex, party=party, description="likes the sea"), "seen")
        for sex in SEXES
        for party in PARTIES
    )
    people = pd.DataFrame(
        {
            "person": np.arange(12),
            "group": [group.id for group in groups for _ in range(2)],
            "part": "test",
            "q": np.arange(12) % 2,
        }
    )
    return Survey("toy", (Question("q", "Yes?", ("Yes", "No"), False),), groups, people, {})


def test_every_field_takes_every_other_value_and_none(survey: Survey) -> None:
    names = [group.id for group in survey.groups]
    wanted = changes(survey, names)
    assert len(wanted) == 6 * ((1 + 1) + (1 + 2))
    for change in wanted:
        profile = next(group.profile for group in survey.groups if group.id == change.group)
        fields = dict(profile.fields)
        assert fields.pop(change.field) == change.before != change.after
        left = dict(change.profile.fields)
        assert left.pop(change.field, None) == change.after
        assert left == fields


def test_free_text_is_never_a_field_to_change(survey: Survey) -> None:
    assert {change.field for change in changes(survey, [group.id for group in survey.groups])} == {"sex", "party"}


def test_values_of_groups_that_may_not_be_shown_are_not_tried(survey: Survey) -> None:
    shown = [group.id for group in survey.groups if "Republican" not in group.id]
    assert all(change.after != "Republican" for change in changes(survey, shown))


def test_a_round_holds_each_group_once_and_nothing_is_lost(survey: Survey) -> None:
    wanted = changes(survey, [group.id for group in survey.groups])
    made = list(rounds(wanted))
    assert sorted(id(change) for part in made for change in part) == sorted(map(id, wanted))
    assert all(len({change.group for change in part}) == len(part) for part in made)


def test_a_changed_survey_has_the_changed_profiles_and_the_same_people(survey: Survey) -> None:
    part = next(rounds(changes(survey, [survey.groups[0].id, survey.groups[4].id])))
    changed = changed_survey(survey, part)
    assert {group.id: group.profile for group in changed.groups} == {change.group: change.profile for change in part}
    assert set(changed.people["group"]) == {survey.groups[0].id, survey.groups[4].id}


def test_answers_go_to_their_change(survey: Survey) -> None:
    def answer(asked: Survey) -> tuple[pd.DataFrame, pd.DataFrame]:
        rows = [(group.id, "q", group.profile.sentence) for group in asked.groups]
        return pd.DataFrame(rows, columns=["group", "question_id", "probabilities"]), pd.DataFrame()

    for change, cells, _ in answer_changes(survey, changes(survey, [survey.groups[0].id, survey.groups[3].id]), answer):
        assert cells["probabilities"].tolist() == [change.profile.sentence]


def test_many_groups_and_values_are_thinned_out_evenly() -> None:
    items = [f"{i:03}" for i in range(100)]
    assert spread_out(items, MAX_VALUES)[0] == "000"
    assert spread_out(items, MAX_VALUES)[-1] == "099"
    assert len(set(spread_out(items, MAX_GROUPS))) == MAX_GROUPS
    assert spread_out(items[:5], 6) == items[:5]
