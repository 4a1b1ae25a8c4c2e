"""Codebooks: wordings and options, from tables and from JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cuma.data.builders.codebook import Entry, read_codebook
from cuma.errors import BenchmarkError

WANTED = {"q1": Entry("Do you?", {"1": "Yes", "2": "No"}), "q2": Entry("How much?", {})}


@pytest.mark.parametrize("kind", ["csv", "xlsx", "object", "array"])
def test_a_codebook_says_the_same_in_every_form(tmp_path: Path, kind: str) -> None:
    rows = [
        {"Variable": "Q1", "Question": "Do  you?", "Options": "1=Yes|2=No"},
        {"Variable": "q2", "Question": "How much?"},
    ]
    path = tmp_path / f"book.{'json' if kind in ('object', 'array') else kind}"
    if kind == "csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    elif kind == "xlsx":
        pd.DataFrame(rows).to_excel(path, index=False)
    elif kind == "array":
        path.write_text(json.dumps(rows))
    else:
        path.write_text(
            json.dumps({"Q1": {"question": "Do you?", "choices": {"1": "Yes", "2": "No"}}, "q2": "How much?"})
        )
    assert read_codebook(path) == WANTED


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("b.csv", "a,b\n1,2\n", "is no codebook"),
        ("b.csv", "column,text,options\nq,Do you?,Yes or no\n", "1=Yes"),
        ("b.json", "3", "no JSON object"),
        ("b.json", "{", "no JSON"),
    ],
)
def test_what_is_no_codebook_is_refused(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BenchmarkError, match=told):
        read_codebook(tmp_path / name)
