"""Whatever kind of file: structure as text, bytes, and two columns of a name are read rightly, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from cuma.data.builders.any_file import any_rows
from cuma.data.builders.base import Ledger, Options
from cuma.data.builders.community import build as build_community
from cuma.data.builders.own import understand
from cuma.errors import BenchmarkError

CHAT = [{"role": "user", "content": "May one lie?"}]
YES, NO = [{"role": "assistant", "content": "Yes, if it's kind."}], [{"role": "assistant", "content": "Never."}]
TRIPLES = [{"prompt": CHAT, "chosen": YES, "rejected": NO, "country": "Peru"}] * 4


@pytest.mark.parametrize("print_out", [repr, json.dumps, lambda value: json.dumps(json.dumps(value))])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "folder"])
def test_a_conversation_written_as_text_is_one(tmp_path: Path, print_out: Any, kind: str) -> None:
    table = pd.DataFrame(TRIPLES)
    for column in ("prompt", "chosen", "rejected"):
        table[column] = table[column].map(print_out)
    path = tmp_path / f"mine.{kind}"
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        Dataset.from_pandas(table).save_to_disk(str(path))
    rows = understand(path).rows
    assert len(rows) == 4
    assert rows[0].values == {"prompt": CHAT, "chosen": YES, "rejected": NO}


@pytest.mark.parametrize(
    "prompt",
    [str(CHAT)[:-9], f"{CHAT[0]}\n {CHAT[0]}".join("[]"), "['May one lie?']", "{'text': 'May one lie?'}",
     "[{'from': 'human', 'value': 'May one lie?'}]", '{"role": "user"}'],
)  # fmt: skip
def test_other_structure_is_never_a_message(tmp_path: Path, prompt: str) -> None:
    pd.DataFrame([{"prompt": prompt, "completion": "No."}, {"prompt": "[INST] Is it?", "completion": "(Yes)"}]).to_csv(
        tmp_path / "mine.csv", index=False
    )
    understood = understand(tmp_path / "mine.csv")
    assert [row.values["prompt"][0]["content"] for row in understood.rows] == ["[INST] Is it?"]
    assert sum(understood.ledger.dropped.values()) == 1
    assert "lie" not in " ".join(understood.ledger.dropped)


@pytest.mark.parametrize("options", ["['Yes' 'No']", '["Yes", "No|', "{'a': 'Yes', 'b': 'No'}"])
def test_options_that_are_no_list_are_counted(tmp_path: Path, options: str) -> None:
    pd.DataFrame([{"question": "Q?", "options": options, "answer": "Yes"}] * 3).to_csv(
        tmp_path / "mine.csv", index=False
    )
    understood = understand(tmp_path / "mine.csv")
    assert not understood.rows
    assert sum(understood.ledger.dropped.values()) == 3


def test_bytes_are_text(tmp_path: Path) -> None:
    table = pa.table({
        "person_id": pa.array([b"p0", b"p1", b"p2"], pa.binary()),
        "profile": pa.array([{"country": b"Peru"}] * 3, pa.struct([("country", pa.binary())])),
        "question": pa.array([b"Is it \xc3\xa4hnlich?"] * 3, pa.large_binary()),
        "options": pa.array([[b"Yes", b"No"]] * 3, pa.list_(pa.binary())),
        "answer": pa.array([b"Yes"] * 3, pa.binary()),
        "picture": pa.array([b"\xff\xd8"] * 3, pa.binary()),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "mine.parquet")
    rows = understand(tmp_path / "mine.parquet").rows
    assert [(row.person, row.group, row.values["question"], row.values["options"]) for row in rows] == [
        (f"p{i}", "Peru", "Is it ähnlich?", ["Yes", "No"]) for i in range(3)
    ]
    pd.DataFrame(table.drop_columns("picture").to_pylist()).to_csv(tmp_path / "mine.csv", index=False)
    assert [row.values for row in understand(tmp_path / "mine.csv").rows] == [row.values for row in rows]


def test_bytes_that_are_no_text_are_counted(tmp_path: Path) -> None:
    rows = {"question": pa.array([b"\xff", b"Q?"], pa.binary()), "options": ["Yes|No"] * 2, "answer": ["Yes"] * 2}
    pq.write_table(pa.table(rows), tmp_path / "mine.parquet")
    understood = understand(tmp_path / "mine.parquet")
    assert len(understood.rows) == 1
    assert understood.ledger.dropped == {"list, object or bytes where a text was expected": 1}


def test_two_parquet_columns_of_a_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(["Q?"]), pa.array(["Yes|No"]), pa.array(["Yes"]), pa.array(["No"])]
    pq.write_table(
        pa.Table.from_arrays(columns, ["question", "options", "answer", "answer"]), tmp_path / "mine.parquet"
    )
    with pytest.raises(BenchmarkError, match="'answer' more than once"):
        understand(tmp_path / "mine.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.json", '[\n {"id": 1}\n]'), ("a.csv", '[{"id": 1}]'), ("a.txt", '{"id": 1}\n'), ("a.tsv", "id\tx\n1\t2\n")],
)
def test_the_content_says_what_a_file_is(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (row,) = any_rows(tmp_path / name, Ledger(), lambda name: False)
    assert str(row["id"]) == "1"


def test_no_row_says_what_became_of_them(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[["Q?", "Yes"], ["Q?", "No"]]')
    with pytest.raises(BenchmarkError, match=r"\(2 read; element that is no JSON object: 2\)"):
        understand(tmp_path / "mine.json")


def test_a_first_line_of_answers_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("Ann,Peru,Is it?,Yes\nBob,Chile,Is it?,No\n")
    with pytest.raises(BenchmarkError, match="is the first line the header") as caught:
        understand(tmp_path / "mine.csv")
    assert "Peru" not in str(caught.value)


def test_community_alignment_kept_as_bytes_is_text(tmp_path: Path) -> None:
    replies = {f"first_turn_response_{letter}": f"Reply {letter}".encode() for letter in "abcd"}
    rows = [
        {"conversation_id": f"c{n}".encode(), "annotator_id": f"p{n}".encode(), "annotator_country": b"italy",
         "first_turn_prompt": f"Prompt {n}".encode(), **replies, "first_turn_preferred_response": b"response_b"}
        for n in range(6)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "all.parquet")
    built = build_community(tmp_path, Options())
    found = [row for split in built.tasks["sft"].values() for row in split]
    assert {row["completion"][0]["content"] for row in found} == {"Reply b"}
    assert {row["group"] for row in found} == {"Italy"}
