"""A file of people for the export: read whole, or refused by row and reason; never with what stands there."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuma.errors import ExportError
from cuma.exchange.people_file import read_people
from cuma.people.profiles import Profile


def file(folder: Path, content: str | bytes, kind: str) -> Path:
    path = folder / f"people.{kind}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("country;age\nPeru;30\nJapan;\n", "csv"),
        ('profile\n"{\'country\': \'Peru\', \'age\': 30}"\n"{""country"": ""Japan""}"\n', "csv"),
        (json.dumps([{"country": "Peru", "age": 30}, {"profile": "{'country': 'Japan'}"}], indent=1), "json"),
        ('{"country": "Peru", "age": 30}\r\n\r\n"{\\"country\\": \\"Japan\\"}"\r\n', "jsonl"),
    ],
)
def test_people_are_read_as_they_are_written(tmp_path: Path, content: str, kind: str) -> None:
    assert read_people(file(tmp_path, content, kind)) == [Profile(country="Peru", age=30), Profile(country="Japan")]


def test_a_line_separator_within_a_sentence_is_text(tmp_path: Path) -> None:
    assert len(read_people(file(tmp_path, '"A nurse\u2028of Peru"\n"A\x85cook"\n', "jsonl"))) == 2


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        ("country,country\nPeru,Chile\n", "csv", "'country' twice"),
        ('country,age,sex\n"Peru,30,Female\nJapan,20,Male\n', "csv", "first in line 2"),
        ("country,age\nPeru,30\nJapan,20,x\n", "csv", "first in line 3"),
        ("Peru,30\nJapan,20\n", "csv", "names no field of a profile"),
        ("country,age\nPeru,30\n".encode("utf-16"), "csv", "not UTF-8"),
        ("country,age\nPer\u00fa,30\n".encode("latin-1"), "csv", "not in UTF-8"),
        ("country\nb'Peru'\n", "csv", "row 1 of"),
        ("profile\n\"['Peru']\"\n", "csv", "row 1 of"),
        ('{"country": "Peru"}\n{"country": "Peru", "country": "Chile"}\n', "jsonl", "row 2 of"),
    ],
)
def test_what_cannot_be_read_whole_is_refused(tmp_path: Path, content: str | bytes, kind: str, words: str) -> None:
    with pytest.raises(ExportError, match=words) as caught:
        read_people(file(tmp_path, content, kind))
    assert not [value for value in ("Peru,", "'Peru", "Chile", "Japan,20") if value in str(caught.value)]


def test_people_are_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    lines = ['{"country": "Peru", "age": 30}', '{"profile": "A Buddhist"}', '"A nurse"', "", '{"profile": null}']
    nurse = [Profile(description="A nurse"), Profile()]
    expected = [Profile(country="Peru", age=30), Profile(description="A Buddhist"), *nurse]
    for end in ("\n", "\r\n", "\r"):
        assert read_people(file(tmp_path, end.join(lines), "jsonl")) == expected
    expected = [Profile(country="Peru", age=30), Profile(country="Japan")]
    for delimiter in ",;\t":
        table = "\ufeffcountry,age\r\nPeru,30\r\n\r\nJapan,\r\n".replace(",", delimiter)
        assert read_people(file(tmp_path, table, "csv")) == expected


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20), min_size=1, max_size=5
    )
)
@settings(deadline=None, max_examples=50)
def test_no_character_in_a_text_ends_its_line(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("people")
    sentences = [f"A nurse {text}\u2028\u0085 who sings" for text in texts]
    expected = [Profile(description=sentence) for sentence in sentences]
    lines = "\n".join(json.dumps({"profile": sentence}, ensure_ascii=False) for sentence in sentences)
    assert read_people(file(folder, lines, "jsonl")) == expected
    table = io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows([["profile"], *([sentence] for sentence in sentences)])
    assert read_people(file(folder, table.getvalue(), "csv")) == expected


def test_codes_of_a_coded_column_are_left_out_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = "sex,education\n2. Female,6. Bachelor\n1. Male,3. School\n-9. Refused,3. School\n"
    people = read_people(file(tmp_path, table, "csv"))
    assert people[0] == Profile(sex="Female", education="Bachelor")
    assert people[2] == Profile(education="School")
    assert "education: code in front of a label, not told: 3 times" in caplog.text
    assert "Bachelor" not in caplog.text
