"""SPSS, Stata and SAS files: whatever a file says of its columns is known, and nothing is lost in reading."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyreadstat
import pytest

from cuma.data.builders import statistics_file
from cuma.data.builders.base import Ledger
from cuma.data.builders.respondent_columns import ColumnCells
from cuma.data.builders.respondent_file import open_respondents, read_cells
from cuma.errors import BenchmarkError

LONG = "x" * 700 + "å"
TABLE = pd.DataFrame(
    {
        "q1": [1.0, 2.0, -9.0, 98.0, np.nan],
        "Größe_ж": [1.0, 2.0, 2.0, 3.0, 1.0],
        "party": ["A", "B", "refused", "", "A"],
        "told": [LONG, "kurz", "", "日本語", "x"],
        "day": [datetime.date(2020, 11, 3)] * 5,
        "half": [0.5, 1.5, 2.0, 1e-3, 1234567.0],
    }
)
LABELS = {"q1": {1: "1. Ja", 2: "2. Nein", -9: "-9. Refused", 7: "Never chosen"},
          "Größe_ж": {1: "Same", 2: "Same", 3: "Élevé"}, "party": {"A": "Alpha", "refused": "Refused"}}  # fmt: skip


def odd(path: Path) -> Path:
    """A file with whatever .sav may hold."""
    pyreadstat.write_sav(
        TABLE, path, column_labels={"q1": "Was meinen Sie?", "Größe_ж": "How  big\nis it?"},
        variable_value_labels=LABELS, missing_ranges={"q1": [{"lo": -99, "hi": -1}, 98], "party": ["refused"]},
        variable_measure={"q1": "ordinal", "Größe_ж": "nominal"}, row_compress=path.suffix == ".sav",
        compress=path.suffix == ".zsav",
    )  # fmt: skip
    return path


def texts(cells: ColumnCells) -> list[str]:
    """Each respondent's cell."""
    return [cells.texts[code] if code >= 0 else "" for code in cells.codes]


@pytest.mark.parametrize("ending", [".sav", ".zsav"])
def test_every_oddity_of_an_spss_file_is_read(tmp_path: Path, ending: str) -> None:
    path, ledger = odd(tmp_path / f"odd{ending}"), Ledger()
    file = open_respondents(path, ledger)
    column = {one.name: one for one in file.columns}
    assert list(column) == list(TABLE)
    assert column["q1"].label == "Was meinen Sie?"
    assert column["Größe_ж"].label == "How big is it?"
    assert column["q1"].labels == {"1": "1. Ja", "2": "2. Nein", "-9": "-9. Refused", "7": "Never chosen"}
    assert column["party"].labels == {"A": "Alpha", "refused": "Refused"}
    assert column["q1"].ordinal
    assert not column["Größe_ж"].ordinal
    assert [column["q1"].is_missing(code) for code in ("-9", "-99", "-100", "98", "97", "1")] == [
        True, True, False, True, False, False,
    ]  # fmt: skip
    assert column["party"].is_missing("refused")
    assert not column["party"].is_missing("A")
    assert [name for name in column if column[name].dated] == ["day"]
    cells, _ = read_cells(file, list(TABLE), path, ledger)
    assert texts(cells["q1"]) == ["1", "2", "-9", "98", ""]
    assert texts(cells["party"]) == ["A", "B", "refused", "", "A"]
    assert texts(cells["told"]) == [LONG, "kurz", "", "日本語", "x"]
    assert texts(cells["half"]) == ["0.5", "1.5", "2", "0.001", "1234567"]
    assert texts(cells["day"]) == ["2020-11-03"] * 5
    assert not ledger.noted


def test_chunks_give_what_one_reading_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "many.sav"
    table = pd.DataFrame({"a": np.arange(2500) % 7, "b": [f"t{n % 11}" for n in range(2500)]})
    pyreadstat.write_sav(table, path)
    monkeypatch.setattr(statistics_file, "_CELLS", 1)  # then a chunk has 1000 rows
    file = open_respondents(path, Ledger())
    assert sum(1 for _ in file.chunks(["a"])) == 3
    cells, _ = read_cells(file, ["a", "b"], path, Ledger())
    assert texts(cells["a"]) == [str(n % 7) for n in range(2500)]
    assert texts(cells["b"]) == list(table["b"])


def test_texts_of_another_encoding_are_found_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ledger = tmp_path / "late.sav", Ledger()
    pyreadstat.write_sav(pd.DataFrame({"s": ["plain"] * 1500 + ["caf_s"]}), path)
    path.write_bytes(path.read_bytes().replace(b"caf_s", b"caf\xe9s"))
    monkeypatch.setattr(statistics_file, "_CELLS", 1)
    cells, rows = read_cells(open_respondents(path, ledger), ["s"], path, ledger)
    assert (rows, cells["s"].texts) == (1501, ["plain", "cafés"])
    assert sum(ledger.noted.values()) == 1


def test_stata_tells_its_missing_values_apart(tmp_path: Path) -> None:
    path = tmp_path / "m.dta"
    table = pd.DataFrame({"q": pd.Series([1, 2, "a", "z", None], dtype=object), "s": ["a", "b", "", "a", "z"]})
    pyreadstat.write_dta(table, path, missing_user_values={"q": ["a", "z"]},
                         variable_value_labels={"q": {1: "Yes", 2: "No", "a": "Refused"}})  # fmt: skip
    file = open_respondents(path, Ledger())
    cells, _ = read_cells(file, ["q", "s"], path, Ledger())
    assert texts(cells["q"]) == ["1", "2", ".a", ".z", ""]
    assert texts(cells["s"]) == ["a", "b", "", "a", "z"]
    assert file.columns[0].labels == {"1": "Yes", "2": "No", ".a": "Refused"}


@pytest.mark.parametrize("ending", [".por", ".xpt"])
def test_older_formats_are_read_too(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"old{ending}"
    write = pyreadstat.write_por if ending == ".por" else pyreadstat.write_xport
    write(pd.DataFrame({"Q1": [1.0, 2.0, np.nan], "S": ["x", "", "y"]}), path)
    file = open_respondents(path, Ledger())
    cells, _ = read_cells(file, [column.name for column in file.columns], path, Ledger())
    assert {name: texts(column) for name, column in cells.items()} == {"Q1": ["1", "2", ""], "S": ["x", "", "y"]}


def test_a_file_is_known_by_its_first_bytes_whatever_it_is_called(tmp_path: Path) -> None:
    odd(tmp_path / "odd.sav").rename(tmp_path / "odd.csv")
    assert len(open_respondents(tmp_path / "odd.csv", Ledger()).columns) == len(TABLE.columns)


def test_texts_in_another_encoding_than_the_file_names_are_read_and_noted(tmp_path: Path) -> None:
    path, ledger = tmp_path / "latin.sav", Ledger()
    pyreadstat.write_sav(pd.DataFrame({"s": ["caf_s", "b"]}), path)
    path.write_bytes(path.read_bytes().replace(b"caf_s", b"caf\xe9s"))
    file = open_respondents(path, ledger)
    assert texts(read_cells(file, ["s"], path, ledger)[0]["s"]) == ["cafés", "b"]
    assert ledger.noted == {"texts that are not in the encoding that the file names, read as WINDOWS-1252": 1}


@pytest.mark.parametrize("size", [0, 3, 200, 700])
def test_half_a_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "half.sav"
    path.write_bytes(odd(tmp_path / "whole.sav").read_bytes()[:size])
    with pytest.raises(BenchmarkError, match=r"damaged|no row"):
        read_cells(open_respondents(path, Ledger()), ["q1"], path, Ledger())


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = odd(tmp_path / "odd.sav")
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(BenchmarkError, match=r"pip install 'cuma\[surveys\]'"):
        open_respondents(path, Ledger())
