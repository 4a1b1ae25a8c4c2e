"""One table is one thing, whatever kind of file keeps it; and rows that cannot be read are counted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pyreadstat
import pytest

from cuma.data.builders.base import Ledger
from cuma.data.builders.respondent_file import open_respondents, read_cells
from cuma.errors import BenchmarkError

TABLE = pd.DataFrame({"id": [1, 2, 3], "q": [1.0, None, 2.0], "sex": ["Female", None, "Male"], "w": [0.5, 1.25, 2.0]})


def write(folder: Path, ending: str) -> Path:
    """The table as a file of one kind."""
    path = folder / f"table{ending}"
    if ending == ".csv":
        TABLE.to_csv(path, index=False)
    elif ending == ".jsonl":
        TABLE.to_json(path, orient="records", lines=True)
    elif ending == ".json":
        path.write_text(json.dumps(json.loads(TABLE.to_json(orient="records"))))
    elif ending == ".parquet":
        TABLE.to_parquet(path)
    elif ending == ".xlsx":
        TABLE.to_excel(path, index=False)
    elif ending == ".sav":
        pyreadstat.write_sav(TABLE, path)
    else:
        pyreadstat.write_dta(TABLE.assign(sex=TABLE["sex"].fillna("")), path)
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".json", ".parquet", ".xlsx", ".sav", ".dta"])
def test_one_table_is_the_same_in_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    path, ledger = write(tmp_path, ending), Ledger()
    file = open_respondents(path, ledger)
    assert [column.name for column in file.columns] == list(TABLE)
    cells, _ = read_cells(file, list(TABLE), path, ledger)
    rows = {name: [one.texts[code] if code >= 0 else "" for code in one.codes] for name, one in cells.items()}
    assert rows == {"id": ["1", "2", "3"], "q": ["1", "", "2"], "sex": ["Female", "", "Male"],
                    "w": ["0.5", "1.25", "2"]}  # fmt: skip
    assert list(cells["w"].numbers()) == [0.5, 1.25, 2.0]
    assert not file.lost
    assert not ledger.noted


def test_rows_of_another_width_are_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "ragged.csv"
    path.write_text("id,q,r\n1,1,1\n2,1\n3,2,2\n")
    file = open_respondents(path, Ledger())
    assert read_cells(file, ["q"], path, Ledger())[1] == 2
    assert sum(file.lost.values()) == 1


def test_further_sheets_and_nameless_columns_are_told(tmp_path: Path) -> None:
    path, ledger = tmp_path / "two.xlsx", Ledger()
    with pd.ExcelWriter(path) as book:
        pd.DataFrame().to_excel(book, sheet_name="Empty", index=False)
        TABLE.rename(columns={"w": ""}).to_excel(book, sheet_name="Data", index=False)
        TABLE.to_excel(book, sheet_name="More", index=False)
    assert [column.name for column in open_respondents(path, ledger).columns] == ["id", "q", "sex"]
    assert ledger.noted == {"further sheets, of which only 'Data' is read": 2, "column without a name, left out": 1}


def test_parquet_keeps_dates_and_long_numbers(tmp_path: Path) -> None:
    path, day = tmp_path / "t.parquet", pd.Timestamp("2020-11-03")
    whole = pd.array([2**60 + 1, None], dtype="Int64")
    pd.DataFrame({"id": whole, "day": [day, None], "kind": pd.Categorical(["a", None])}).to_parquet(path)
    cells, _ = read_cells(open_respondents(path, Ledger()), ["id", "day", "kind"], path, Ledger())
    assert {name: one.texts for name, one in cells.items()} == {
        "id": [str(2**60 + 1)], "day": ["2020-11-03"], "kind": ["a"],
    }  # fmt: skip


def test_a_column_that_only_later_rows_of_json_have_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"id": 1}\n' * 300 + '{"id": 2, "q": "Yes"}\n')
    assert [column.name for column in open_respondents(path, Ledger()).columns] == ["id", "q"]


def test_columns_of_one_name_are_told_apart_by_a_number(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("q,q\n1,2\n1,3\n")
    cells, _ = read_cells(open_respondents(path, Ledger()), ["q", "q (2)"], path, Ledger())
    assert cells["q (2)"].texts == ["2", "3"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.xlsx", b"PK\x03\x04broken", "no whole Excel file"),
        ("t.parquet", b"PAR1broken", "damaged"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"id,q\n", "no rows"),
        ("t.bin", b"\x00\x01\x02" * 50, "not UTF-8 text"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchmarkError, match=told):
        open_respondents(tmp_path / name, Ledger())


def test_excel_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, ".xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'cuma\[surveys\]'"):
        open_respondents(path, Ledger())
