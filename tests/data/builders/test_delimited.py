"""CSV as it really is: read rightly, or refused by line and reason; no row is lost without being counted."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cuma.data.builders.base import Ledger
from cuma.data.builders.delimited import RAGGED, SWALLOWING, UNCLOSED, csv_rows, read_layout
from cuma.errors import BenchmarkError

ANY_FILE = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
HEADER = "person_id,country,comment,question,answer\n"


def body(n: int, name: str = "a", comment: str = "fine") -> str:
    return "".join(f"{name}{i},Peru,{comment},Q?,Yes\n" for i in range(n))


def file(folder: Path, content: bytes | str) -> Path:
    path = folder / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder: Path, content: bytes | str, required: tuple[str, ...] = ("person_id",)) -> tuple[list[Any], Ledger]:
    ledger = Ledger()
    rows = list(csv_rows(file(folder, content), required, ledger))
    assert len(rows) + sum(ledger.dropped.values()) == ledger.rows_read
    return rows, ledger


def people(rows: list[dict[str, str]]) -> list[str]:
    return [row["person_id"] for row in rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_delimiter_and_bom_are_found(tmp_path: Path, delimiter: str, bom: bytes) -> None:
    content = delimiter.join(["id", " name ", "x"]) + "\r\n" + delimiter.join(["1", '"a, b; c"', ""]) + "\r\n"
    rows = list(csv_rows(file(tmp_path, bom + content.encode()), ("id", "name"), Ledger()))
    assert rows == [{"id": "1", "name": "a, b; c", "x": ""}]


def test_every_row_is_counted(tmp_path: Path) -> None:
    rows, ledger = read(tmp_path, b"id,name\n1,a\n2\n3,b,c\n\n4,caf\xe9\n5,nul\x00\n6,d,,\n", ("id",))
    assert [row["id"] for row in rows] == ["1", "4", "5", "6"]
    assert rows[1]["name"] == "café"
    assert ledger.dropped == {f"{RAGGED} (first in line 3)": 2}
    assert ledger.noted == {
        "line not in UTF-8, read as Windows-1252": 1,
        "line with NUL characters, taken out": 1,
        "row with empty cells behind its last, passed over": 1,
    }


def test_missing_and_double_columns_are_named_with_what_to_do(tmp_path: Path) -> None:
    path = file(tmp_path, b"id,name, name \n1,a,b\n")
    with pytest.raises(BenchmarkError, match=r"lacks 1 column\(s\) \(age\).*Is this wave 7\?"):
        list(csv_rows(path, ("id", "age"), Ledger(), "Is this wave 7?"))
    with pytest.raises(BenchmarkError, match="'name' twice"):
        list(csv_rows(path, ("name",), Ledger()))
    with pytest.raises(BenchmarkError, match="'name' twice"):
        list(csv_rows(path, (), Ledger(), single=lambda name: name == "name"))
    assert list(csv_rows(path, ("id",), Ledger())) == [{"id": "1", "name": "a", "name (2)": "b"}]


def test_an_endless_line_is_passed_over_and_never_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.data.builders.reading.MAX_LINE", 100)
    rows, ledger = read(tmp_path, b"id,name\n1,a\n" + b"2," + b"x" * 100_000 + b"\n3,c\n", ("id",))
    assert [row["id"] for row in rows] == ["1", "3"]
    assert ledger.rows_read == 3


# --- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    ['""\n', "\n", "Survey of 2020\n\n", "Survey of 2020,,,,\n", "sep=,\n", ",,,,\n", '"Made on\nMonday"\n'],
)
def test_lines_above_the_header_are_passed_over(tmp_path: Path, before: str) -> None:
    for required in ((), ("person_id",)):
        rows, ledger = read(tmp_path, before + HEADER + body(5), required)
        assert people(rows) == [f"a{i}" for i in range(5)]
        assert ledger.noted == ({"line before the header, passed over": 1} if before.strip() else {})


@pytest.mark.parametrize("name", ["Any remarks?\n(optional)", "Any remarks, or; none", 'Any "remarks"\r\nor not'])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_quoted_name_may_hold_anything(tmp_path: Path, name: str, delimiter: str) -> None:
    table = pd.DataFrame({"person_id": [f"p{i}" for i in range(5)], name: ["none"] * 5, "answer": ["Yes"] * 5})
    table.to_csv(tmp_path / "data.csv", index=False, sep=delimiter)
    ledger = Ledger()
    rows = list(csv_rows(tmp_path / "data.csv", (), ledger))
    assert people(rows) == [f"p{i}" for i in range(5)]
    assert list(rows[0]) == ["person_id", " ".join(name.split()), "answer"]
    assert not ledger.dropped


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Survey of 2020, the third\n" + HEADER + body(5), "line 1, has 2 names, and none of the first rows"),
        (HEADER + "".join(f"{i},{line}\n" for i, line in enumerate(body(5).splitlines())), "line 1, has 5 names"),
        (HEADER.replace("comment", '"comment') + body(5), "quotation mark is not closed"),
        (HEADER + body(5, comment="0,5"), "quote cells that hold delimiters"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_by_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(BenchmarkError, match=words) as caught:
        read(tmp_path, content, ())
    assert "Peru" not in str(caught.value)


def test_the_delimiter_is_that_which_the_rows_have(tmp_path: Path) -> None:
    content = (HEADER + body(5)).replace(",", "\t").replace("comment", "comment, if any, or so, or not, or what")
    assert read_layout(file(tmp_path, content), ()).style == {"delimiter": "\t"}
    assert [row["prompt"] for row in read(tmp_path, "prompt\nHello, you\nWhat; now\n", ())[0]] == [
        "Hello, you",
        "What; now",
    ]
    assert [row["prompt"] for row in read(tmp_path, ",prompt\n0,Hi\n1,Ho\n", ())[0]] == ["Hi", "Ho"]


# --- quotation marks -------------------------------------------------------------------------------------------------


def test_a_quotation_mark_that_is_never_closed_costs_its_row(tmp_path: Path) -> None:
    broken = 'x,Peru,"not closed,Q?,Yes\n'
    for content, lost in (
        (HEADER + body(5) + broken + body(200, "b"), 1),
        (HEADER + body(5) + broken + body(200, "b") + broken + body(3, "c"), 2),
        (HEADER + body(5) + broken, 1),
        (HEADER + body(5) + broken + body(9, "b", '""'), 1),
        (HEADER + body(5) + broken + body(9, "b") + body(2, "c", '"two\nlines"'), 1),
        (HEADER + body(5) + broken + body(9, "b", '"quoted, too"'), 1),
        (HEADER + body(5) + 'x,Peru,fine,Q?,"Yes\n' + body(9, "b"), 1),
        (HEADER + body(5) + 'x,Peru,"he said "hi" to me",Q?,Yes\n' + body(9, "b"), 1),
    ):
        rows, ledger = read(tmp_path, content)
        assert ledger.dropped == {f"{UNCLOSED} (first in line 7)": lost}
        assert "x" not in people(rows)
        assert len(rows) == content.count(",Q?,") - lost


def test_rows_that_a_stray_mark_swallows_are_counted(tmp_path: Path) -> None:
    content = HEADER + body(5) + 'x,Peru,"open,Q?,Yes\n' + body(200, "b") + 'y,Peru,closed",Q?,Yes\n' + body(3, "c")
    rows, ledger = read(tmp_path, content)
    assert len(rows) == 8
    assert ledger.dropped == {f"{SWALLOWING} (first in line 7)": 202}


def test_a_long_text_with_commas_stays_a_text(tmp_path: Path) -> None:
    text = "Dear all,\nfirst, second, third\n\nA, b, c, d, e\nbye, now"
    table = pd.DataFrame({"person_id": ["1", "2"], "a": ["x", text], "b": [text, "y"], "c": [text, text]})
    table.to_csv(tmp_path / "data.csv", index=False)
    assert list(csv_rows(tmp_path / "data.csv", ("person_id",), Ledger())) == table.to_dict("records")


def test_other_ways_to_quote_are_read(tmp_path: Path) -> None:
    said = 'he said "hi, you"'
    for comment in ('"he said \\"hi, you\\""', f'"{said.replace(chr(34), chr(34) * 2)}"'):
        rows, _ = read(tmp_path, HEADER + body(4, comment=comment))
        assert {row["comment"] for row in rows} == {said}
    rows, _ = read(tmp_path, (HEADER + body(4, comment='"a; b"')).replace(",", ", ").replace(";", ","))
    assert {row["comment"] for row in rows} == {"a, b"}
    rows, _ = read(tmp_path, (HEADER + body(4, comment='"Quoted" word')).replace(",", "\t"))
    assert {row["comment"] for row in rows} == {'"Quoted" word'}


def test_a_narrow_table_with_a_broken_mark_is_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"data\.csv, line 5: a quotation mark"):
        read(tmp_path, 'prompt,completion\na,b\nc,"d\ne"\nf,"g "h" i"\nj,k\n', ("prompt",))


# --- anything --------------------------------------------------------------------------------------------------------

cell = st.text(st.characters(codec="cp1252", exclude_characters="\0\r"), max_size=10)
names = st.lists(cell.map(str.strip).filter(bool), min_size=2, max_size=5, unique=True)


written = st.tuples(
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from(["\n", "\r\n"]),
)


@given(data=st.data(), header=names, how=written)
@ANY_FILE
def test_what_the_csv_module_writes_is_read(tmp_path: Path, data: Any, header: list[str], how: tuple[Any, ...]) -> None:
    delimiter, encoding, quoting, end = how
    assume(all("\n" not in name for name in header))
    header = ["person_id", *(name for name in header if name != "person_id")]
    rows = data.draw(st.lists(st.lists(cell, min_size=len(header), max_size=len(header)), min_size=1, max_size=6))
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end).writerows([header, *rows])
    ledger = Ledger()
    path = file(tmp_path, stream.getvalue().encode(encoding))
    found = [list(row.values()) for row in csv_rows(path, ("person_id",), ledger)]
    swallowed = sum(times for why, times in ledger.dropped.items() if why.startswith(SWALLOWING))
    assert found == rows or (swallowed and sum(ledger.dropped.values()) == swallowed)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_encodings_are_read_or_refused_by_name(tmp_path: Path, encoding: str) -> None:
    content = (HEADER + body(5, comment="Ümläut")).encode(encoding)
    if encoding.startswith("utf-16"):
        with pytest.raises(BenchmarkError, match="not UTF-8 text"):
            read(tmp_path, content)
    else:
        assert {row["comment"] for row in read(tmp_path, content)[0]} == {"Ümläut"}


@given(
    content=st.binary(min_size=1, max_size=400) | st.text('a1,;"\n\r\t|\\ ', min_size=1, max_size=80).map(str.encode)
)
@ANY_FILE
def test_any_bytes_give_rows_or_a_named_error(tmp_path: Path, content: bytes) -> None:
    for required in ((), ("id",)):
        ledger = Ledger()
        try:
            rows = list(csv_rows(file(tmp_path, b"id,name,x\n1,2,3\n" + content), required, ledger))
        except BenchmarkError:
            continue
        assert len(rows) + sum(ledger.dropped.values()) == ledger.rows_read
