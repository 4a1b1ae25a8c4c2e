"""Files as people have them: every oddity is counted or named, whatever the bytes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.data.builders.base import Ledger
from cuma.data.builders.reading import csv_rows, json_rows
from cuma.errors import BenchmarkError

ANY_FILE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def file(folder: Path, content: bytes) -> Path:
    path = folder / "data.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_delimiter_and_bom_are_found(tmp_path: Path, delimiter: str, bom: bytes) -> None:
    content = delimiter.join(["id", " name ", "x"]) + "\r\n" + delimiter.join(["1", '"a, b; c"', ""]) + "\r\n"
    rows = list(csv_rows(file(tmp_path, bom + content.encode()), ("id", "name"), Ledger()))
    assert rows == [{"id": "1", "name": "a, b; c", "x": ""}]


def test_every_row_is_counted(tmp_path: Path) -> None:
    ledger = Ledger()
    content = b"id,name\n1,a\n2\n3,b,c\n\n4,caf\xe9\n5,nul\x00\n"
    rows = list(csv_rows(file(tmp_path, content), ("id",), ledger))
    assert [row["id"] for row in rows] == ["1", "4", "5"]
    assert rows[1]["name"] == "café"
    assert ledger.rows_read == 5
    assert ledger.dropped == {"row with more or fewer cells than the header": 2}
    assert ledger.noted == {
        "line not in UTF-8, read as Windows-1252": 1,
        "line with NUL characters, taken out": 1,
    }


def test_missing_and_double_columns_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = file(tmp_path, b"id,name,name\n1,a,b\n")
    with pytest.raises(BenchmarkError, match=r"lacks 1 column\(s\) \(age\).*Is this wave 7\?"):
        list(csv_rows(path, ("id", "age"), Ledger(), "Is this wave 7?"))
    with pytest.raises(BenchmarkError, match="'name' twice"):
        list(csv_rows(path, ("name",), Ledger()))


def test_an_endless_line_is_passed_over_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.data.builders.reading.MAX_LINE", 100)
    ledger = Ledger()
    content = b"id,name\n1,a\n" + b"2," + b"x" * 100_000 + b"\n3,c\n"
    assert [row["id"] for row in csv_rows(file(tmp_path, content), ("id",), ledger)] == ["1", "3"]
    assert ledger.rows_read == 3
    assert sum(ledger.dropped.values()) == 1


@given(content=st.binary(min_size=1, max_size=400))
@ANY_FILE
def test_any_bytes_give_rows_or_a_named_error(tmp_path: Path, content: bytes) -> None:
    path = file(tmp_path, content)
    for read in (lambda ledger: csv_rows(path, ("id",), ledger), lambda ledger: json_rows(path, ledger)):
        ledger = Ledger()
        try:
            rows = list(read(ledger))
        except BenchmarkError:
            continue
        assert len(rows) + sum(ledger.dropped.values()) == ledger.rows_read


@given(cells=st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=8))
@ANY_FILE
def test_any_csv_gives_counted_rows(tmp_path: Path, cells: list[list[str]]) -> None:
    text = "id,name\n" + "\n".join(",".join(row) for row in cells)
    ledger = Ledger()
    rows = list(csv_rows(file(tmp_path, text.encode("utf-8", "replace")), ("id",), ledger))
    assert len(rows) + sum(ledger.dropped.values()) == ledger.rows_read


@given(rows=st.lists(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4)))
@ANY_FILE
def test_any_json_gives_objects_or_counts(tmp_path: Path, rows: list[object]) -> None:
    text = "\n".join(json.dumps(row) for row in [{"id": 1}, *rows])
    ledger = Ledger()
    assert list(json_rows(file(tmp_path, text.encode()), ledger)) == [{"id": 1}]
    assert ledger.dropped["line that is no JSON object"] == len(rows) == ledger.rows_read - 1
