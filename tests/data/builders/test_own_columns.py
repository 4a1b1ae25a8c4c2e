"""Columns: mapped once, one to one; a shape that cuma does not read is refused with the way out, which works."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own import understand
from cuma.data.builders.questionnaire_draft import as_yaml, draft
from cuma.errors import BenchmarkError
from helpers import SHARED

HEADER = "person_id,question,options,answer,country,q1,q2\n"
WVS = SHARED / "data" / "real" / "wvs-wave7-sg-ca-nz.csv"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "mine.csv").write_text(HEADER + "1,Is it?,Yes|No,Yes,Peru,No,Kenya\n")
    return tmp_path / "mine.csv"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"answer": "q1", "group": "q1"}, "'q1'"),
        ({"country": "q1", "profile.country": "q2"}, "profile.country"),
        ({"answer": "q9"}, "lacks the column 'q9'"),
        ({"anser": "q1"}, "Did you mean 'answer'"),
    ],
)
def test_a_column_is_mapped_once_and_to_one_name(source: Path, columns: dict[str, str], words: str) -> None:
    with pytest.raises(BenchmarkError, match=re.escape(words)):
        understand(source, columns)


def test_the_command_refuses_one_name_for_two_columns(source: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", str(source), "--column", "answer=q1", "--column", "answer=q2"])
    assert done.exit_code == 2
    assert "maps two columns to answer" in " ".join(done.output.replace("│", "").split())


def test_a_mapped_column_stands_in_for_the_file_s_own_of_that_name(source: Path) -> None:
    found = understand(source, {"answer": "q1", "profile.country": "q2"})
    (row,) = found.rows
    assert (row.values["answer"], row.profile.country) == (1, "Kenya")
    assert {"answer", "country"} <= set(found.unused)


def test_beside_a_profile_columns_named_like_fields_are_not_used_and_that_is_told(tmp_path: Path) -> None:
    row = {"question": "Is it?", "options": ["Yes", "No"], "answer": "Yes", "profile": {"age": 30}, "country": "Peru"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row))
    assert understand(tmp_path / "mine.jsonl").unused == ("country",)


def test_columns_are_those_of_all_rows_and_not_of_the_first(tmp_path: Path) -> None:
    row = {"question": "Is it?", "options": ["Yes", "No"]}
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, [row, {**row, "answer": "Yes", "country": "Peru"}])))
    found = understand(tmp_path / "mine.jsonl")
    assert [row.group for row in found.rows] == ["Peru"]
    assert found.ledger.dropped == {"answer is missing": 1}
    assert "country" in found.used


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["Yes"]), pa.array(["No"])], names=["answer", "answer"])
    pq.write_table(table, tmp_path / "mine.parquet")
    with pytest.raises(BenchmarkError, match="'answer' more than once"):
        understand(tmp_path / "mine.parquet")


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("mine.dta", b"<stata_dta><header>", "a Stata file"),
        ("mine.csv", b"<stata_dta><header>", "a Stata file"),
        ("mine.dta", b"s\x02\x01\x00", "a Stata file"),
        ("mine.sav", b"$FL2@(#) SPSS", "an SPSS file"),
        ("mine.sas7bdat", b"\0" * 40, "a SAS file"),
        ("mine.xlsx", b"PK\x03\x04", "an Excel file"),
    ],
)
def test_files_of_statistics_packages_are_refused_with_the_way_to_read_them(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchmarkError, match=f"is {kind}, which a questionnaire explains.*cuma data draft"):
        understand(tmp_path / name)


def wide(path: Path) -> Path:
    """A table as the WVS extract's, with one row a respondent."""
    table = {"country": ["CAN", "SGP"] * 20, "ID": range(40), "sex": ["Female", None] * 20, "age": [34.0, None] * 20,
             "trust": ["Yes", "No"] * 20}  # fmt: skip
    pd.DataFrame(table).to_csv(path, index=False)
    return path


def test_one_row_a_respondent_is_refused_and_what_the_error_says_reads_it(tmp_path: Path) -> None:
    source = WVS if WVS.exists() else wide(tmp_path / "wide.csv")
    with pytest.raises(BenchmarkError, match=r"one row a respondent, it seems.*cuma data draft"):
        understand(source)
    (tmp_path / "q.yaml").write_text(as_yaml(draft(source)[0], source))
    card = build("own", source, tmp_path / "built", Options(questionnaire=tmp_path / "q.yaml"))
    assert card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values())
    assert card["rows_read"] == len(pd.read_csv(source)) * card["questions"] > 0
