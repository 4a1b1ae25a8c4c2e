"""The questions of a poll: the same from every kind of file, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from cuma.data.builders.poll_questions import read_questions
from cuma.data.surveys.survey import Question
from cuma.errors import BenchmarkError

TEA = Question("tea", "Do you like tea?", ("Yes", "No"), ordinal=False)
HAPPY = Question("happy", "Are you happy?", ("Very happy", "Rather happy", "Not very happy"), ordinal=True)
ROWS = [
    {"question_id": one.id, "question": one.text, "options": "|".join(one.options), "ordinal": one.ordinal}
    for one in (TEA, HAPPY)
]


def write(folder: Path, kind: str) -> Path:
    path, frame = folder / f"q.{kind}", pd.DataFrame(ROWS)
    lists = [{**row, "options": str(row["options"]).split("|")} for row in ROWS]
    if kind == "csv":
        frame.to_csv(path, index=False, sep=";")
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "xlsx":
        frame.to_excel(path, index=False)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, lists)))
    elif kind == "json":
        path.write_text(json.dumps(lists, indent=1))
    else:
        path.write_text("questions:\n" + "".join(f"- {json.dumps(row)}\n" for row in lists))
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx", "jsonl", "json", "yaml"])
def test_every_kind_of_file_says_the_same(tmp_path: Path, kind: str) -> None:
    found = read_questions(write(tmp_path, kind))
    assert found.questions == (TEA, HAPPY)
    assert found.noted == ()


def test_what_is_left_out_is_filled_in_and_what_is_odd_is_said(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text("question,options,comment\nDo you like tea?,Yes|No,x\nDo you like tea?,Yes|No,y\n")
    found = read_questions(file)
    assert found.questions == (Question("Do you like tea?", "Do you like tea?", ("Yes", "No"), False),)
    assert found.noted == ("1 rows of q.csv repeat a question, which is asked once", "not read: comment")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.csv", "qestion,options\nTea?,Yes|No\n", "lacks the column 'question'. Did you mean 'qestion'?"),
        ("q.csv", "question,options\nTea?,Yes\n", "question 1: options are fewer than two"),
        ("q.csv", f"question,options\nTea?,{'|'.join(map(str, range(30)))}\n", "question 1 has 30 options"),
        ("q.csv", "question_id,question,options\na,Tea?,Yes|No\na,Milk?,Yes|No\n", "'a' is asked in two ways"),
        ("q.yaml", "question: Tea?\n", "is no list"),
        ("q.yaml", "- question: [\n", "is no YAML"),
        ("q.xlsx", "question,options\n", "is no Excel file"),
        ("q.csv", "question,options\n", "has no rows"),
        ("q.jsonl", '{"question": "Tea?", "options": ["Yes", "No"]}\n{"question"\n', "cannot be read whole"),
    ],
)
def test_bad_files_are_refused_with_the_way_out(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BenchmarkError) as error:
        read_questions(tmp_path / name)
    assert message in str(error.value)
