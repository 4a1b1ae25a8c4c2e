"""A survey file and its questionnaire become answers, people and a design, in which every cell is accounted for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

from cuma.data.corpus import Corpus
from cuma.data.sparsity import read_answers
from cuma.errors import BenchmarkError
from helpers.surveys import COLUMNS, build_survey, respondents


def people_of(folder: Path) -> pd.DataFrame:
    """Everybody's coded answers."""
    tables = [
        pq.read_table(path).to_pandas().assign(split=path.stem) for path in (folder / "answers").glob("*.parquet")
    ]
    return pd.concat(tables, ignore_index=True)


def accounted(card: dict[str, Any]) -> bool:
    """Whether every cell that was read was kept or dropped."""
    return card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values())


def test_answers_profiles_weights_and_design_are_those_of_the_file(tmp_path: Path) -> None:
    table = respondents()
    folder, card = build_survey(tmp_path, table)
    people = people_of(folder).set_index("person_id")
    rows = table.set_index(table["id"].astype(str)).loc[people.index]
    assert (people["trust"] == rows["trust"].map({1: 0, 2: 1}).fillna(-1)).all()
    assert (people["warm"] == rows["warm"].map({0: 0, 49: 0, 50: 1, 100: 1}).fillna(-1)).all()
    assert (people["weight"] == rows["w"]).all()
    assert [profile["sex"] for profile in people["profile"]] == [
        {1: "Male", 2: "Female"}.get(g) for g in rows["gender"]
    ]
    assert (people["group"] == rows["land"].map({"NO": "Norway", "JP": "Japan"})).all()
    design = pd.concat(pq.read_table(path).to_pandas() for path in (folder / "design").glob("*.parquet"))
    design = design.set_index("person_id").loc[people.index]
    assert list(design.columns) == ["stratum", "unit"]
    assert (design["stratum"] == rows["strat"].astype(str)).all()
    assert (design["unit"] == rows["psu"].astype(str)).all()
    assert card["design"] == {"strata": True, "units": True, "weights": "weight", "replicates": None,
                              "source": {"stratum": "strat", "unit": "psu", "weight": "w"}}  # fmt: skip
    assert accounted(card)
    assert card["rows_read"] == 2 * len(table)
    assert card["dropped"] == {
        "empty cell": int(table["trust"].isna().sum()),
        "no answer, says the questionnaire": int((table["trust"] == 8).sum()),
        "no number within the bins": int((table["warm"] == 998).sum()),
    }


def test_the_corpus_gives_the_same_people_and_answers(tmp_path: Path) -> None:
    folder, card = build_survey(tmp_path, respondents())
    survey, people = Corpus.open(folder).survey(), people_of(folder)
    assert {question.id: question.options for question in survey.questions} == {
        "trust": ("Yes", "No"), "warm": ("0 to 49", "50 to 100"),
    }  # fmt: skip
    assert survey.weighted
    counts = survey.counts("train", ("seen",))
    own = people[(people["split"] == "train") & (people["trust"] >= 0)].groupby(["group", "trust"]).size()
    for group in ("Japan", "Norway"):
        cell = counts[(counts["group"] == group) & (counts["question_id"] == "trust")]["counts"].item()
        assert list(cell) == [own[group, 0], own[group, 1]]
    answers = read_answers(folder)
    assert len(answers.coded) == len(people) == sum(split["people"] for split in card["splits"].values())


def test_rows_are_written_up_to_a_limit_and_say_the_same_as_the_tables(tmp_path: Path) -> None:
    folder, card = build_survey(tmp_path, respondents(), rows=50)
    rows = pd.concat(split.to_pandas() for split in load_from_disk(str(folder / "survey")).values())
    assert len(rows) == 50 == sum(card["tasks"]["survey"].values())
    people = people_of(folder).set_index("person_id")
    cells = zip(rows["person_id"], rows["question_id"], strict=True)
    assert [people.loc[person, question] for person, question in cells] == list(rows["answer"])
    assert set(rows["question_id"]) == {"trust", "warm"}


@pytest.mark.parametrize("how", [{"all_test": True}, {"whole": {"split": "none"}}])
def test_everybody_is_kept_for_evaluation(tmp_path: Path, how: dict[str, Any]) -> None:
    folder, card = build_survey(tmp_path, respondents(), **how)
    assert list(card["splits"]) == ["test"]
    assert not card["warnings"]
    survey = Corpus.open(folder).survey()
    assert set(survey.people["part"]) == {"test"}
    assert {group.role for group in survey.groups} == {"seen"}
    assert survey.counts("test", ("seen",))["counts"].map(sum).sum() == card["rows_kept"]


def test_people_held_out_and_samples_are_accounted_for(tmp_path: Path) -> None:
    folder, card = build_survey(tmp_path, respondents(), sample=60, holdout=(("country", "Japan"),))
    people = people_of(folder)
    assert set(people["group"][people["split"] == "unseen"]) == {"Japan"}
    assert set(people["group"][people["split"] != "unseen"]) == {"Norway"}
    assert len(people) == 60
    assert accounted(card)


def test_rows_of_one_id_are_one_person_unless_wave_or_profile_differ(tmp_path: Path) -> None:
    table = respondents(40)
    table["id"] = np.arange(40) // 4
    table["land"] = "NO"
    table["gender"] = 1
    table["round"] = np.tile([2010, 2010, 2012, 2014], 10)
    columns = {**COLUMNS, "round": {"role": "wave"}}
    folder, card = build_survey(tmp_path, table, columns, {"group_by": ["year"]})
    people = people_of(folder)
    assert sum(split["people"] for split in card["splits"].values()) <= 30
    assert card["noted"]["respondent who occurs before, left out"] == 10
    assert card["dropped"]["respondent left out"] == 20
    assert set(people["group"]) == {"2010", "2012", "2014"}
    unit = people["person_id"].str.replace(r" \(\d\)", "", regex=True)
    assert (people.groupby(unit)["split"].nunique() == 1).all()
    assert accounted(card)


def test_age_comes_from_the_year_of_birth_and_the_wave(tmp_path: Path) -> None:
    table = respondents(40).assign(born=[1980, 9999] * 20, round=[5, 6, 6, 5] * 10)
    columns = {
        **COLUMNS,
        "born": {"role": "profile", "field": "age", "source": "birth_year"},
        "round": {"role": "wave", "options": {5: "2010", 6: "2012"}},
    }
    folder, _ = build_survey(tmp_path, table, columns)
    people = people_of(folder).set_index("person_id")
    ages = [people.loc[str(number), "profile"]["age"] for number in (1, 2, 3) if str(number) in people.index]
    assert ages == ["30", None, "32"][: len(ages)]
    with pytest.raises(BenchmarkError, match=r"needs the year of the interview.*everyone"):
        build_survey(tmp_path, table, {name: entry for name, entry in columns.items() if name != "round"})


def test_weights_that_are_missing_or_negative_cost_their_respondents(tmp_path: Path) -> None:
    table = respondents()
    table.loc[[3, 4], "w"] = [np.nan, -1]
    _, card = build_survey(tmp_path, table)
    assert card["dropped"]["respondent left out"] == 4
    assert card["noted"]["respondent without a weight, left out"] == 1
    assert accounted(card)


@pytest.mark.parametrize(("column", "value"), [("id", "1.2E+11"), ("w", "1,234")])
def test_numbers_that_have_lost_digits_or_mean_two_things_are_refused(tmp_path: Path, column: str, value: str) -> None:
    with pytest.raises(BenchmarkError, match=r"1\.2E\+11|1,234"):
        build_survey(tmp_path, respondents().assign(**{column: value}))


def test_a_missing_stratum_is_null_and_counted(tmp_path: Path) -> None:
    table = respondents()
    table["strat"] = table["strat"].astype(float).where(table["id"] > 7)
    folder, card = build_survey(tmp_path, table, all_test=True)
    design = pq.read_table(folder / "design" / "test.parquet").to_pandas()
    assert design["stratum"].isna().sum() == 7
    assert card["noted"]["respondent without a stratum, kept, and none in the design"] == 7


def test_replicate_weights_stand_in_the_design(tmp_path: Path) -> None:
    table = respondents().assign(r1=1.5, r2=0.0)
    columns = {**COLUMNS, "r1": {"role": "replicate"}, "r2": {"role": "replicate"}}
    folder, card = build_survey(tmp_path, table, columns, {"replicates": {"kind": "fay", "fay": 0.3}}, all_test=True)
    design = pq.read_table(folder / "design" / "test.parquet").to_pandas()
    assert np.stack(design["replicate_weights"]).tolist() == [[1.5, 0.0]] * len(design)
    assert card["design"]["replicates"] == {"kind": "fay", "fay": 0.3, "count": 2}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trust": {**COLUMNS["trust"], "no_answer": {}}}, r"trust does not list '8' \(\d+ respondents\)"),
        ({"gender": {**COLUMNS["gender"], "options": {1: "Male"}}}, r"gender does not list '2'.*unlisted: no_answer"),
        ({"trusst": COLUMNS["trust"], "trust": {"role": "ignored"}}, "lacks the column 'trusst'.*Did you mean 'trust'"),
        ({"trust": {**COLUMNS["trust"], "id": "weight"}}, "cannot be called 'weight'.*`id`"),
        ({"trust": {"role": "ignored"}, "warm": {"role": "ignored"}}, "no column of the role item"),
    ],
)
def test_what_does_not_fit_the_file_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BenchmarkError, match=told):
        build_survey(tmp_path, respondents(), COLUMNS | changes)


def test_a_code_that_few_people_have_is_not_shown(tmp_path: Path) -> None:
    table = respondents()
    table.loc[0, "trust"] = 77
    with pytest.raises(BenchmarkError, match=r"1 code\(s\) that fewer than 11 people have") as error:
        build_survey(tmp_path, table)
    assert "77" not in str(error.value)
    _, card = build_survey(tmp_path, table, whole={"unlisted": "no_answer"})
    assert card["dropped"]["code that stands nowhere in the questionnaire"] == 1


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    folder, _ = build_survey(tmp_path, respondents())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    build_survey(tmp_path, respondents())
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LANGUAGES = {
    **COLUMNS,
    "land": {"role": "ignored"},
    "asked": {"role": "language", "options": {"NO": "no", "JP": "ja"}},
    "trust": {
        "role": "item", "text": {"no": "Kan man stole på folk?", "ja": "人は信用できますか"},
        "options": {1: {"no": "Ja", "ja": "はい"}, 2: {"no": "Nei", "ja": "いいえ"}}, "no_answer": {8: "?"},
    },
}  # fmt: skip


def test_questions_are_asked_in_the_language_that_is_chosen_or_in_each_persons_own(tmp_path: Path) -> None:
    table = respondents().assign(asked=lambda table: table["land"])
    folder, card = build_survey(tmp_path, table, LANGUAGES, {"group_by": ["sex"]})
    corpus = Corpus.open(folder)
    assert card["languages"] == ["no", "ja"]
    assert corpus.survey().questions == corpus.survey("no").questions
    assert corpus.survey("no").questions[0].options == ("Ja", "Nei")
    assert corpus.survey("ja").questions[0].options == ("はい", "いいえ")
    own = corpus.survey("own")
    asked = {question.id: question.text for question in own.questions}
    assert asked["trust (no)"] == "Kan man stole på folk?"
    assert asked["trust (ja)"] == "人は信用できますか"
    answered = Counter({name: int((own.people[name] >= 0).sum()) for name in asked})
    whole = corpus.survey("ja").people
    assert answered["trust (no)"] + answered["trust (ja)"] == (whole["trust"] >= 0).sum()
    assert not ((own.people["trust (no)"] >= 0) & (own.people["trust (ja)"] >= 0)).any()
    with pytest.raises(BenchmarkError, match=r"data.language is 'jp', .* no wording. Available: ja, no, own"):
        corpus.survey("jp")


def test_a_language_is_refused_where_there_are_none(tmp_path: Path) -> None:
    corpus = Corpus.open(build_survey(tmp_path, respondents())[0])
    with pytest.raises(BenchmarkError, match="no languages: leave it out"):
        corpus.survey("ja")
