"""Text and JSON as people have them: every oddity is counted or named, whatever the bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.data.builders.base import Ledger
from cuma.data.builders.reading import json_rows, lines, no_rows
from cuma.errors import BenchmarkError

ANY_FILE = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def file(folder: Path, content: bytes, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@given(rows=st.lists(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=4)))
@ANY_FILE
def test_any_json_gives_objects_or_counts(tmp_path: Path, rows: list[object]) -> None:
    text = "\n".join(json.dumps(row) for row in [{"id": 1}, *rows])
    ledger = Ledger()
    assert list(json_rows(file(tmp_path, text.encode()), ledger)) == [{"id": 1}]
    assert ledger.dropped["line that is no JSON object"] == len(rows) == ledger.rows_read - 1


@given(content=st.binary(min_size=1, max_size=300))
@ANY_FILE
def test_any_bytes_give_objects_or_a_named_error(tmp_path: Path, content: bytes) -> None:
    ledger = Ledger()
    try:
        rows = list(json_rows(file(tmp_path, content), ledger))
    except BenchmarkError:
        return
    assert len(rows) + sum(ledger.dropped.values()) == ledger.rows_read


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_a_line_ends_where_jsonl_says(tmp_path: Path, odd: str) -> None:
    rows = [{"text": f"a{odd}b"}, {"text": "c"}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    ledger = Ledger()
    assert list(json_rows(file(tmp_path, text.encode()), ledger)) == rows
    assert (ledger.rows_read, dict(ledger.dropped)) == (2, {})


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_an_array_is_read_element_by_element(tmp_path: Path, indent: int | None, bom: bytes) -> None:
    content = bom + json.dumps([{"id": 1}, 3, {"id": [2]}], indent=indent).encode()
    ledger = Ledger()
    assert list(json_rows(file(tmp_path, content, "data.json"), ledger)) == [{"id": 1}, {"id": [2]}]
    assert (ledger.rows_read, dict(ledger.dropped)) == (3, {"element that is no JSON object": 1})


def test_one_object_is_refused_and_a_torn_array_counted(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="one JSON object"):
        list(json_rows(file(tmp_path, json.dumps({"data": [{"id": 1}]}, indent=1).encode()), Ledger()))
    ledger = Ledger()
    assert not list(json_rows(file(tmp_path, b'[{"id": 1},\n {"id": 2'), ledger))
    assert ledger.rows_read == sum(ledger.dropped.values()) == 2


@pytest.mark.parametrize("inner", ['{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 2}}', '{"b": [{"a": 1, "a": 2}]}'])
@pytest.mark.parametrize("form", ["%s", "[%s]"])
def test_an_object_that_names_something_twice_is_counted(tmp_path: Path, inner: str, form: str) -> None:
    ledger = Ledger()
    assert not list(json_rows(file(tmp_path, (form % inner).encode()), ledger))
    assert ledger.rows_read == sum(n for why, n in ledger.dropped.items() if "names something twice" in why) == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_their_machine_had_it(tmp_path: Path, end: bytes) -> None:
    found = list(lines(file(tmp_path, end.join([b"one", b"two", b""])), Ledger()))
    assert [line.rstrip("\r\n") for line in found] == ["one", "two"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,ä\n1,2\n".encode("utf-16"), "not UTF-8 text"),
        ("id,a\n1,2\n".encode("utf-16-le"), "not UTF-8 text"),
        (b"PK\x03\x04" + b"x" * 50, "zip archive"),
        (b"<stata_dta><header>", "a Stata file"),
        (b"\n \n", "is empty"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(BenchmarkError, match=words):
        list(lines(file(tmp_path, content), Ledger()))


def test_no_rows_says_what_became_of_them(tmp_path: Path) -> None:
    ledger: Any = Ledger()
    ledger.read(3)
    ledger.drop("line that is no JSON", 3)
    assert "(3 read; line that is no JSON: 3). Look again." in str(no_rows(tmp_path, ledger, "Look again."))
