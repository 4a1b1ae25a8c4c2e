"""The world map: groups that are countries, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cuma.data.surveys.wvs import load_wvs
from cuma.reports.group_rows import group_errors
from cuma.reports.world import OTHER_NAMES, atlas, countries_of, country_of, world_payload
from cuma.runs.evidence import Evidence, read_evidence
from cuma.runs.group_answers import true_answers
from helpers.synthetic import COUNTRIES, METHODS, countries, write_run


@pytest.fixture(scope="module")
def evidence(four_runs: list[Path]) -> Evidence:
    return read_evidence(four_runs)


def test_names_of_surveys_find_their_country() -> None:
    assert (
        country_of("United States")
        == country_of("USA")
        == country_of("the united states")
        == "United States of America"
    )
    assert country_of("Czech Republic") == "Czechia"
    assert country_of("Turkey (Non-national sample)") == "Turkey"
    assert country_of("White man, Democrat") is None
    assert country_of("Northern Ireland") is None


def test_every_other_name_is_on_the_map_and_not_by_itself() -> None:
    names = {*atlas()["outlines"], *atlas()["points"]}
    assert set(OTHER_NAMES.values()) <= names
    assert not {name.casefold() for name in names} & set(OTHER_NAMES)


def test_all_countries_of_the_real_survey_have_a_place() -> None:
    labels = [group.id for group in load_wvs().groups]
    assert set(countries_of(labels)) == set(labels)


def test_outlines_are_closed_rings_on_the_globe() -> None:
    for polygons in atlas()["outlines"].values():
        for ring in (ring for polygon in polygons for ring in polygon):
            assert ring[0] == ring[-1]
            assert len(ring) >= 4
            assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)


def test_groups_that_are_mostly_no_countries_have_no_map(runs: list[Path]) -> None:
    assert world_payload(read_evidence(runs[:1])) is None
    assert countries_of(["Peru", "Chile", "Mali"]) == {}
    assert countries_of(["Peru", "Chile", "Mali", "Ghana", "Egypt", "Women", "Men", "Others"]) == {}
    assert countries_of([*COUNTRIES, "USA"]) == {}  # one country twice: groups are finer than countries


def test_errors_are_those_of_the_groups(evidence: Evidence) -> None:
    found = world_payload(evidence)
    assert found is not None
    assert [country["label"] for country in found["countries"]] == sorted(COUNTRIES)
    for number, method in enumerate(evidence.methods):
        errors = group_errors(evidence, method)
        for country in found["countries"]:
            assert country["errors"][number] == pytest.approx(errors[country["label"]], abs=1e-4)
    assert set(found["points"]) == {"Hong Kong", "Singapore"}


def test_small_countries_are_not_on_the_map(tmp_path: Path) -> None:
    world = countries()
    people = world.people[~((world.people["group"] == "Peru") & (world.people["person"] % 10 > 0))]
    small = type(world)(world.groups, world.seen, world.logits, people)
    assert people[people["group"] == "Peru"]["person"].nunique() < 11
    evidence = read_evidence([write_run(tmp_path, METHODS[3], small)])
    found = world_payload(evidence)
    assert found is not None
    shown = {country["label"] for country in found["countries"]}
    assert "Peru" not in shown
    assert shown == set(true_answers(evidence)["group"])
    assert len(COUNTRIES) - len(shown) >= 2
