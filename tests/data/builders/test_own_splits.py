"""Several sources and mixed files in one folder: tasks by columns, one split by person and prompt over all of them."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import DatasetDict, load_from_disk
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own import understand
from cuma.data.builders.own_people import FROM_OTHERS
from cuma.errors import BenchmarkError

SHARED = "prompt is in an evaluation split too"
TOWNS = ("Peru", "Kenya")


def chat(number: int, prompt: str = "") -> dict[str, Any]:
    asked = {"role": "user", "content": prompt or f"Chat {number}?"}
    talk = [asked, {"role": "assistant", "content": f"Yes {number}."}]
    return {"messages": talk, "person_id": f"p{number % 40}", "country": TOWNS[number % 2]}


def pair(number: int, prompt: str = "", person: str = "") -> dict[str, Any]:
    return {"prompt": prompt or f"Pair {number}?", "chosen": f"A {number}.", "rejected": f"B {number}.",
            "person_id": person or f"p{number % 40}"}  # fmt: skip


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def built(folder: Path, *sources: Path, **options: Any) -> tuple[dict[str, Any], dict[str, DatasetDict]]:
    card = build("own", sources[0], folder / "built", Options(further=sources[1:], **options))
    return card, {task: load_from_disk(str(folder / "built" / task)) for task in card["tasks"]}


def prompts(tasks: dict[str, DatasetDict], split: str) -> set[str]:
    return {json.dumps(prompt) for rows in tasks.values() if split in rows for prompt in rows[split]["prompt"]}


def test_one_split_by_person_and_prompt_over_all_sources(tmp_path: Path) -> None:
    chats = [chat(n, f"Common {n % 9}?" if n % 3 == 0 else "") for n in range(120)]
    pairs = [pair(n, f"Common {n % 9}?" if n % 4 == 0 else "") for n in range(120)]
    card, tasks = built(tmp_path, written(tmp_path / "chats.jsonl", chats), written(tmp_path / "pairs.jsonl", pairs))
    where: dict[str, set[str]] = {}
    for rows in tasks.values():
        for split, its in rows.items():
            for person in its["person_id"]:
                where.setdefault(person, set()).add(split)
    assert len(where) == 40
    assert all(len(splits) == 1 for splits in where.values())
    assert not prompts(tasks, "train") & (prompts(tasks, "test") | prompts(tasks, "validation"))
    assert not prompts(tasks, "validation") & prompts(tasks, "test")
    assert card["dropped"][SHARED] > 0
    assert card["rows_kept"] == 240 - card["dropped"][SHARED] == sum(len(i) for r in tasks.values() for i in r.values())
    assert [(part["name"], part["tasks"]) for part in card["parts"]] == [
        ("chats.jsonl", {"sft": 120}), ("pairs.jsonl", {"dpo": 120}),
    ]  # fmt: skip


def test_a_row_that_says_nothing_of_its_person_has_what_the_others_say(tmp_path: Path) -> None:
    sources = (
        written(tmp_path / "chats.jsonl", [chat(n) for n in range(40)]),
        written(tmp_path / "pairs.jsonl", [pair(n) for n in range(40)] + [pair(90, person="stranger")]),
    )
    found = understand(sources)
    pairs = {row.person: row for row in found.rows if row.task == "dpo"}
    assert pairs["p0"].profile.country == pairs["p0"].group == "Peru"
    assert not pairs["stranger"].profile
    assert found.ledger.noted[FROM_OTHERS] == 40


def test_a_mixed_file_works_row_by_row(tmp_path: Path) -> None:
    lost = {"prompt": "Lost?", "chosen": "A", "rejected": " "}
    rows = [chat(1), pair(1), {"prompt": "Only a prompt?"}, {"prompt": "Q?", "completion": "A."}, lost,
            {"question": "Yes?", "options": ["Yes", "No"], "answer": "No"},
            {"question": "Yes?", "options": ["Yes", "No"], "distribution": [0.2, 0.8], "country": "Peru"}]  # fmt: skip
    found = understand(written(tmp_path / "mixed.jsonl", rows * 3))
    counted = {task: sum(row.task == task for row in found.rows) for task in found.tasks}
    assert counted == {"sft": 6, "dpo": 3, "grpo": 3, "survey": 3, "distribution": 1}
    assert found.ledger.dropped["rejected is missing or empty"] == 3
    assert len(found.rows) + found.ledger.dropped.total() == found.ledger.rows_read == 21


def test_a_mixed_table_keeps_an_empty_cell_a_lost_reply(tmp_path: Path) -> None:
    pd.DataFrame([pair(1), {"prompt": "Lost?"}, {"prompt": "Q?", "completion": "A."}]).to_csv(tmp_path / "mixed.csv")
    found = understand(tmp_path / "mixed.csv")
    assert [row.task for row in found.rows] == ["dpo", "sft"]
    assert found.ledger.dropped == {"chosen is missing or empty": 1}


def test_a_row_of_two_forms_is_told(tmp_path: Path) -> None:
    found = understand(written(tmp_path / "both.jsonl", [{**pair(1), "completion": "A 1."}]))
    assert [row.task for row in found.rows] == ["dpo"]
    assert found.ledger.noted["row of several forms (dpo, sft), of which the first counts"] == 1


def test_a_column_is_mapped_where_it_is(tmp_path: Path) -> None:
    asked = [{"q": f"Q {n}?", "chosen": "A", "rejected": "B", "person_id": n} for n in range(9)]
    sources = written(tmp_path / "chats.jsonl", [chat(1)]), written(tmp_path / "pairs.jsonl", asked)
    assert understand(sources, {"prompt": "q"}).tasks == ("sft", "dpo")
    with pytest.raises(BenchmarkError, match=r"None of the sources has the column 'p'\."):
        understand(sources, {"prompt": "p"})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("chats", "chats"), "given twice"),
        (("chats", "same"), r"same.jsonl has no row that can be used \(2 read; chosen and rejected are the same: 2\)"),
        (("chats", "absent"), "absent.jsonl does not exist"),
        (("other", "chats"), r"other.jsonl has 1 columns"),
    ],
)
def test_a_source_that_cannot_be_used_is_named(tmp_path: Path, names: tuple[str, str], words: str) -> None:
    written(tmp_path / "chats.jsonl", [chat(n) for n in range(9)])
    written(tmp_path / "same.jsonl", [{"prompt": "Q?", "chosen": "A", "rejected": "A"}] * 2)
    written(tmp_path / "other.jsonl", [{"text": "Q?"}])
    with pytest.raises(BenchmarkError, match=words):
        built(tmp_path, *(tmp_path / f"{name}.jsonl" for name in names))


def test_whoever_is_held_out_is_held_out_of_every_task(tmp_path: Path) -> None:
    sources = (
        written(tmp_path / "chats.jsonl", [chat(n) for n in range(80)]),
        written(tmp_path / "pairs.jsonl", [pair(n) for n in range(80)]),
    )
    _, tasks = built(tmp_path, *sources, holdout=(("country", "Peru"),))
    for task, split in product(tasks, ("train", "validation", "test")):
        assert "Peru" not in tasks[task][split]["group"]
    assert all(set(rows["unseen"]["group"]) == {"Peru"} for rows in tasks.values())


def test_the_commands_name_every_source_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my data's"
    folder.mkdir()
    sources = [written(folder / "chats (1).jsonl", [chat(n) for n in range(60)]),
               written(folder / "pairs.jsonl", [pair(n) for n in range(60)])]  # fmt: skip
    checked = CliRunner().invoke(app, ["data", "check", *map(str, sources)])
    assert checked.exit_code == 0, checked.output
    assert "sft (messages, or prompt+completion): 60 rows" in checked.output
    words = ["data", "build", "own", "--source", str(sources[0]), "--source", str(sources[1])]
    done = CliRunner().invoke(app, [*words, "--output", str(folder / "built")])
    assert done.exit_code == 0, done.output
    assert "pairs.jsonl: 60 dpo" in done.output
    assert f"cuma train default 'data.benchmark={tmp_path}/my data'\"'\"'s/built' 'pipeline=[sft,dpo]'" in done.output
    refused = CliRunner().invoke(app, ["data", "build", "prism", *words[3:], "--output", str(folder / "other")])
    assert refused.exit_code == 2
    assert "Several sources are for own data" in refused.output
