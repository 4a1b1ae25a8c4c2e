"""Drafts: labels and codes are read, roles are guessed and said to be, and no table makes a draft that breaks."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyreadstat
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own_survey import read_survey
from cuma.data.builders.questionnaire import ColumnEntry, Questionnaire
from cuma.data.builders.questionnaire_check import survey_summary
from cuma.data.builders.questionnaire_draft import as_yaml, draft
from cuma.data.builders.questionnaire_file import load_questionnaire
from cuma.errors import BenchmarkError


def drafted(folder: Path, table: pd.DataFrame, **more: Any) -> dict[str, ColumnEntry]:
    """The columns of a draft of an SPSS file."""
    path = folder / "survey.sav"
    pyreadstat.write_sav(table, path, **more)
    return draft(path)[0].columns


def test_codes_before_labels_are_read_and_missing_ones_are_no_answer(tmp_path: Path) -> None:
    labels = {-9: "-9. Refused", -8: "-8) Don't know", -4: "-4. Technical error", 1: "1. Very good", 2: "2 - Bad",
              3: "3: 18-29", 4: "4.5 children"}  # fmt: skip
    columns = drafted(tmp_path, pd.DataFrame({"q": list(labels)}), column_labels=["How?"],
                      variable_value_labels={"q": labels})  # fmt: skip
    assert columns["q"].options == {"1": "Very good", "2": "Bad", "3": "18-29", "4": "4.5 children"}
    assert columns["q"].no_answer == {"-9": "Refused", "-8": "Don't know", "-4": "Technical error"}
    assert any(line.startswith("no_answer: -9, -8, -4") for line in columns["q"].guessed)


def test_a_scale_below_zero_is_no_list_of_missing_codes(tmp_path: Path) -> None:
    labels = {-2: "Far left", -1: "Left", 0: "Middle", 1: "Right", 2: "Far right", -9: "Refused"}
    mirrored = {code: text for code, text in labels.items() if code != -9}
    table = pd.DataFrame({"q": [-2, -1, 0, 1, 2], "r": [-2, -1, 0, 1, -9]})
    columns = drafted(tmp_path, table, column_labels=["Where?", "Where?"],
                      variable_value_labels={"q": mirrored, "r": labels})  # fmt: skip
    assert list(columns["q"].options) == ["-2", "-1", "0", "1", "2"]
    assert list(columns["r"].options) == ["-2", "-1", "0", "1", "2"]
    assert list(columns["r"].no_answer) == ["-9"]


def test_what_the_file_calls_missing_is_no_answer_without_a_guess(tmp_path: Path) -> None:
    columns = drafted(tmp_path, pd.DataFrame({"q": [1, 2, 7]}), column_labels=["Do you?"],
                      variable_value_labels={"q": {1: "Yes", 2: "No", 7: "Out of town"}},
                      missing_ranges={"q": [{"lo": 7, "hi": 9}]})  # fmt: skip
    assert columns["q"].no_answer == {"7": "Out of town"}
    assert not columns["q"].guessed


def test_half_labelled_scales_tell_their_numbers(tmp_path: Path) -> None:
    columns = drafted(tmp_path, pd.DataFrame({"q": [1, 2, 5, 4]}), column_labels=["How satisfied?"],
                      variable_value_labels={"q": {1: "Not at all", 5: "Very"}})  # fmt: skip
    assert list(columns["q"].options.values()) == ["1: Not at all", "2", "3", "4", "5: Very"]
    assert columns["q"].ordinal


def test_thermometers_get_bins_and_their_high_codes_are_no_answer(tmp_path: Path) -> None:
    table = pd.DataFrame({"ft": [*range(101), 998, 999]})
    columns = drafted(tmp_path, table, column_labels=["Feeling thermometer: unions"])
    assert columns["ft"].role == "item"
    assert columns["ft"].bins == (0, 20, 40, 60, 80, 100)
    assert set(columns["ft"].no_answer) == {"998", "999"}
    assert any(line.startswith("bins:") for line in columns["ft"].guessed)


def test_roles_are_guessed_by_names_and_labels(tmp_path: Path) -> None:
    count = 40
    number = np.arange(count)
    table = pd.DataFrame(
        {
            "caseid": number, "dweight": 1.0 + number, "anweight": 0.5 + number / 7, "stratum": number % 3,
            "psu": number % 9, "cntry": ["NO", "JP"] * 20, "agea": 20 + number, "yrbrn": 1990 - number,
            "female": number % 2, "v12": number % 2 + 1, "mode": number % 2 + 1, "note": "x",
            "inwds": [datetime.date(2020, 1, 1)] * count,
            "gender": number % 2 + 1, "v13": number % 4, "repwt1": 1.0, "repwt2": 2.0 + number,
        }
    )  # fmt: skip
    values = {"v12": {1: "Married", 2: "Single"}, "mode": {1: "Web", 2: "Phone"}}
    labels = {"v12": "Marital status", "mode": "Mode of interview"}
    columns = drafted(tmp_path, table, column_labels=labels, variable_value_labels=values)
    roles = {name: column.role for name, column in columns.items()}
    assert roles | {"gender": "?"} == {
        "caseid": "person", "dweight": "ignored", "anweight": "weight", "stratum": "stratum", "psu": "unit",
        "cntry": "profile", "agea": "profile", "yrbrn": "ignored", "female": "profile", "v12": "profile",
        "mode": "ignored", "inwds": "ignored", "note": "ignored", "gender": "?", "v13": "ignored",
        "repwt1": "replicate", "repwt2": "replicate",
    }  # fmt: skip
    assert columns["cntry"].source == "country_code"
    assert columns["female"].options == {"0": "Male", "1": "Female"}
    assert columns["v12"].field == "marital"
    assert all(column.guessed for column in columns.values())


def test_a_draft_names_what_makes_its_replicates_before_it_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    pd.DataFrame({"brr1": [1.5, 1.25], "q": ["Yes", "No"]}).to_csv(path, index=False)
    (tmp_path / "q.yaml").write_text(as_yaml(draft(path)[0], path))
    with pytest.raises(BenchmarkError, match=r"replicates.kind says nothing.*jackknife"):
        load_questionnaire(tmp_path / "q.yaml")


def test_a_codebook_joins_wordings_and_options_by_column(tmp_path: Path) -> None:
    path, book = tmp_path / "s.csv", tmp_path / "codebook.csv"
    pd.DataFrame({"Q1": [1, 2, 2], "Q2": [1, 1, 2]}).to_csv(path, index=False)
    book.write_text("column,text,options\nq1,Do you?,1=Yes|2=No\nq9,Nobody knows?,\n")
    questionnaire, ledger = draft(path, book)
    assert questionnaire.columns["Q1"].text == "Do you?"
    assert questionnaire.columns["Q1"].options == {"1": "Yes", "2": "No"}
    assert questionnaire.columns["Q2"].role == "ignored"
    assert ledger.noted == {"column of the codebook that the file does not have": 1}


# --- any table -------------------------------------------------------------------------------------------------------

CELLS: list[list[Any]] = [
    [1, 2, 3], [1.0, 2.0, None], [0, 1], ["Yes", "No", None], ["1. Good", "2. Bad", "-9. Refused"], ["", " ", None],
    [True, False], [-1, 1, 2], [0, 50, 100, 998], [0.25, 1e9, -3.5], ["NA", "nan", "7"], ["NO", "JP", "XX"],
    ["Don't know"], ["a" * 200, "b"], [2**60, 1], ["{'a': 1}", "[1]"], ["=1+1", "#N/A"], ["1,5", "2,5"],
    ["ja", "JA", "Ja "],
]  # fmt: skip
NAMES = ("q1", "id", "weight", "country", "age", "sex", "yrbrn", "year", "stratum", "psu", "party", "label", "split",
         "group", "Größe", "brr1", "wave", "question id", "null", "1", "lang")  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """A table with one row a respondent, each column of some kind of cells."""
    rows = draw(st.integers(1, 25))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    return pd.DataFrame(
        {name: pd.Series(draw(st.lists(st.sampled_from(draw(st.sampled_from(CELLS))), min_size=rows, max_size=rows)),
                         dtype=object) for name in names}
    )  # fmt: skip


@given(tables(), st.sampled_from([".csv", ".xlsx", ".jsonl"]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(pd.DataFrame({"age": [30, 40], "wave": [2010, 2012], "q1": ["Yes", "No"]}), ".csv")
@example(pd.DataFrame({"label": ["Yes", "No"] * 9, "split": [1, 2] * 9}), ".csv")
def test_any_table_is_drafted_and_then_built_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame, ending: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    path, questionnaire = folder / f"t{ending}", folder / "q.yaml"
    if ending == ".csv":
        table.to_csv(path, index=False)
    elif ending == ".xlsx":
        table.map(lambda cell: f"'{cell}" if str(cell).startswith("=") else cell).to_excel(path, index=False)
    else:
        path.write_text("".join(row.to_json() + "\n" for _, row in table.iterrows()))
    try:
        asked = draft(path)[0]
        questionnaire.write_text(as_yaml(asked, path), encoding="utf-8")
        loaded = load_questionnaire(questionnaire)
        found = survey_summary(read_survey(path, questionnaire))
        card = build("own", path, folder / "built", Options(questionnaire=questionnaire))
    except BenchmarkError:
        return
    assert isinstance(loaded, Questionnaire)
    assert loaded == asked
    blank = table.map(lambda cell: not str("" if cell is None else cell).strip()).all(axis=1).sum()
    assert len(table) - blank <= found["respondents"] <= len(table)  # a line without any cell is nobody
    assert card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values())
