"""OpinionQA's folder: weighted shares of groups from respondents, or the repository's counts; oddities counted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cuma.data.builders.base import Built, Options
from cuma.data.builders.opinionqa import build
from cuma.errors import BenchmarkError
from helpers.make_pew import ATTRIBUTES, LIKELY, QUESTIONS, write_info, write_opinionqa


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_opinionqa(tmp_path_factory.mktemp("opinionqa"), people=200)


def rows_of(built: Built) -> dict[tuple[str, str], dict[str, Any]]:
    rows = [row for part in built.tasks["distribution"].values() for row in part]
    found = {(row["question_id"], row["group"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_shares_are_weighted_and_n_is_the_effective_number(folder: Path) -> None:
    rows = rows_of(build(folder, Options()))
    people = pd.read_csv(folder / "American_Trends_Panel_W27" / "responses.csv", dtype=str, keep_default_na=False)
    mine = people[(people["SEX"] == "Female") & people["CARS5_W27"].isin(["Yes", "No"])]
    weight = mine["WEIGHT_W27"].astype(float)
    row = rows["CARS5_W27", "SEX: Female"]
    assert row["options"] == ["Yes", "No"]
    assert row["distribution"][0] == pytest.approx(weight[mine["CARS5_W27"] == "Yes"].sum() / weight.sum())
    assert row["n"] == int(weight.sum() ** 2 / (weight**2).sum()) < len(mine)
    assert row["profile"]["country"] == "United States"
    assert row["profile"]["sex"] == "Female"
    assert len(rows) == 2 * len(QUESTIONS) * sum(map(len, ATTRIBUTES.values()))


def test_the_refused_option_goes_and_the_scale_is_the_authors(folder: Path) -> None:
    built = build(folder, Options())
    rows = rows_of(built)
    care = rows["CAREREL_W27", "CREGION: West"]
    assert care["options"] == ["Very likely", "Somewhat likely", "I am already doing this", "Not too likely",
                               "Not at all likely"]  # fmt: skip
    assert care["ordinal"]
    assert not rows["INDUSTRY_W27", "CREGION: West"]["ordinal"]
    assert all(sum(row["distribution"]) == pytest.approx(1) for row in rows.values())
    assert built.ledger.noted["answer that is no answer, left out: Refused"] > 10
    assert not [key for key in rows if "Refused" in key[1]]
    assert built.ledger.noted["respondent of whom POLPARTY is not known"] > 5
    profile = rows["CARS5_W27", "INCOME: Less than $30,000"]["profile"]
    assert profile["description"] == "Has a family income of Less than $30,000"
    assert rows["CARS5_W27", "POLPARTY: Democrat"]["profile"]["party"] == "Democrat"
    assert rows["CARS5_W27", "EDUCATION: College graduate/some postgrad"]["profile"]["education"] == "a college degree"


def test_several_attributes_make_a_group_together(folder: Path) -> None:
    built = build(folder, Options(group_by=("party", "SEX"), holdout=(("party", "Democrat"),)))
    groups = {group for _, group in rows_of(built)}
    assert "POLPARTY: Democrat, SEX: Female" in groups
    assert len(groups) == 8
    assert set(built.tasks["distribution"]["unseen"]["group"]) == {
        "POLPARTY: Democrat, SEX: Female", "POLPARTY: Democrat, SEX: Male"
    }  # fmt: skip
    with pytest.raises(BenchmarkError, match="Did you mean 'POLPARTY'"):
        build(folder, Options(group_by=("POLPARTI",)))


def test_counts_by_attribute_are_read_where_there_are_no_people(tmp_path: Path) -> None:
    home = tmp_path / "American_Trends_Panel_W27"
    home.mkdir()
    write_info(home, 27)
    counts = {"Yes": 30.0, "No": 10.0, "Refused": 2.0}
    about = {"MC_options": ["Yes", "No", "Refused"], "question_text": "…"}
    single = {"CARS5_W27": {**about, "Female": counts, "Male": {"No": 5.0}, "Refused": {"Yes": 1.0}}}
    pairs = {"CARS5_W27": {**about, "Asian": {"Female": counts, "Male": counts}, "marginals": {"Asian": counts}}}
    (home / "SEX_data.json").write_text(json.dumps(single))
    (home / "RACE_SEX_data.json").write_text(json.dumps(pairs))
    built = build(tmp_path, Options())
    rows = rows_of(built)
    assert {group for _, group in rows} == {"SEX: Female", "SEX: Male"}
    assert rows["CARS5_W27", "SEX: Female"]["distribution"] == [0.75, 0.25]
    assert rows["CARS5_W27", "SEX: Female"]["n"] == 40
    assert built.ledger.noted["answer that is no answer, left out: Refused"] == 2
    assert (
        built.ledger.noted["wave without responses.csv: its counts by attribute are read, which are not weighted"] == 1
    )
    both = rows_of(build(tmp_path, Options(group_by=("SEX", "ethnicity"))))
    assert {group for _, group in both} == {"RACE: Asian, SEX: Female", "RACE: Asian, SEX: Male"}
    with pytest.raises(BenchmarkError, match=r"no counts by AGE \(AGE_data.json\) and no responses.csv"):
        build(tmp_path, Options(group_by=("age",)))


def test_odd_files_cost_what_they_must_and_say_so(tmp_path: Path) -> None:
    folder = write_opinionqa(tmp_path, people=60, waves=(27,)) / "American_Trends_Panel_W27"
    path = folder / "responses.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0]["WEIGHT_W27"], rows[1]["WEIGHT_W27"] = "", "-1"
    rows[2]["CARS5_W27"], rows[3]["CARS5_W27"], rows[4]["CARS5_W27"] = "1.0", "2.0", "Perhaps"
    for row in rows:
        del row["WORRY_W27"]
    pd.DataFrame(rows).to_csv(path, index=False)
    built = build(folder.parent, Options())
    assert built.ledger.dropped["respondent without a weight above 0"] == 2
    assert built.ledger.dropped["question without a column of answers"] == 1
    assert built.ledger.noted["answer that is no option"] == 1
    assert built.ledger.noted["question of which nobody's answer is known"] == 1
    (folder / "metadata.csv").unlink()
    assert set(rows_of(build(folder.parent, Options()))) == set(rows_of(built))
    path.write_bytes(b"")
    with pytest.raises(BenchmarkError, match="cannot be read as CSV"):
        build(folder.parent, Options())
    with pytest.raises(BenchmarkError, match=r"no info\.csv in it\. The folder human_resp"):
        build(path, Options())


def test_the_made_up_lean_is_found(folder: Path) -> None:
    rows = rows_of(build(folder, Options()))
    gap = [rows[f"{key}_W27", "POLPARTY: Democrat"]["distribution"][0]
           - rows[f"{key}_W27", "POLPARTY: Republican"]["distribution"][0] for key in QUESTIONS]  # fmt: skip
    assert np.mean(gap) > 0.25
    assert LIKELY[0] == rows["CAREREL_W27", "POLPARTY: Democrat"]["options"][0]
