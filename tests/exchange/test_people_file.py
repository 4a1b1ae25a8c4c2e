"""A file of people for the export: read whole, or refused by row and reason; never with what stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
    assert not [value for value in ("Peru", "Chile") if value in str(caught.value)]
