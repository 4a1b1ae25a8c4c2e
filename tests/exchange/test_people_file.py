"""A file of people: read whole, or refused with the row and without a word of it."""

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


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_bytes(text.encode())
    return file


def test_people_are_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    lines = ['{"country": "Peru", "age": 30}', '{"profile": "A Buddhist"}', '"A nurse"', "", "{}"]
    nurse = [Profile(description="A nurse"), Profile()]
    expected = [Profile(country="Peru", age=30), Profile(description="A Buddhist"), *nurse]
    for end in ("\n", "\r\n"):
        assert read_people(write(tmp_path, "p.jsonl", end.join(lines))) == expected
    expected = [Profile(country="Peru", age=30), Profile(country="Japan")]
    for delimiter in ",;\t":
        table = "\ufeffcountry,age\r\nPeru,30\r\n\r\nJapan,\r\n".replace(",", delimiter)
        assert read_people(write(tmp_path, "p.csv", table)) == expected


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
    assert read_people(write(folder, "p.jsonl", lines)) == expected
    table = io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows([["profile"], *([sentence] for sentence in sentences)])
    assert read_people(write(folder, "p.csv", table.getvalue())) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bad.jsonl", '{"country": "Peru"}\n\n{"Zoroastrian', "row 2 of .* is no profile"),
        ("bad.jsonl", '[["Zoroastrian"]]', "row 1 of .* is no profile"),
        ("bad.jsonl", '{"country": ["Zoroastrian"]}', "row 1 of .*country"),
        ("bad.jsonl", "[" * 100_000, "row 1 of"),
        ("bad.csv", "country,age\nPeru,30\nZoroastrian\n", "more or fewer cells than the header .*line 3"),
        ("bad.csv", "country,age\nPeru,30,Zoroastrian\n", "the header, line 1, has 2 names"),
        ("bad.csv", 'country,age\n"Zoroastrian,30\nPeru,40\n', "line 2: a quotation mark is not closed"),
        ("bad.csv", "Zoroastrian,30\nPeru,40\n", "names no field of a profile in its first line"),
        ("bad.csv", "country,age,country\nZoroastrian,30,Peru\n", "country"),
        ("bad.csv", "gender,country\nZoroastrian,Peru\n", "row 1 of .*Did you mean 'sex'"),
        ("bad.csv", "", "is empty"),
    ],
)
def test_what_is_no_file_of_people_is_refused_by_row(name: str, text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=words) as caught:
        read_people(write(tmp_path, name, text))
    assert "Zoroastrian" not in str(caught.value)


def test_a_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("country\nCôte d'Ivoire\n".encode("latin-1"))
    with pytest.raises(ExportError, match="UTF-8"):
        read_people(tmp_path / "p.csv")
