"""What run.json records of the people: counts of large enough groups, and no word of their own."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from cuma.data.surveys.survey import Group, Question, Survey
from cuma.people.profiles import Profile
from cuma.training.population import population

SIZES = {"large": 40, "middle": 20, "small": 3}


def survey(sizes: dict[str, int]) -> Survey:
    rows = [(group, part) for group, size in sizes.items() for part in ["train"] * size + ["test"] * 50]
    people = pd.DataFrame(rows, columns=["group", "part"])
    people.insert(0, "person", range(len(people)))
    people["q"] = 0
    groups = [Group(name, Profile(country=name, description=f"I am {name}."), "seen") for name in sizes]
    return Survey("test", (Question("q", "Tea?", ("Yes", "No"), False),), tuple(groups), people, {})


def test_small_groups_and_what_would_give_them_away_are_not_named() -> None:
    found = population(survey(SIZES), "train", ("seen",))
    assert found["groups"] == {"large": 40}
    assert found["hidden_groups"] == 2
    assert found["people"] == 63
    assert found["profile_fields"] == {"country": ["large"], "description": []}
    assert found["profiles"] == [{"group": "large", "profile": {"country": "large"}}]
    assert "small" not in json.dumps(found)
    assert "I am" not in json.dumps(found)


@pytest.mark.parametrize(("size", "people"), [(10, None), (11, 11)])
def test_a_total_of_too_few_people_is_not_recorded(size: int, people: int | None) -> None:
    assert population(survey({"only": size}), "train", ("seen",))["people"] == people
