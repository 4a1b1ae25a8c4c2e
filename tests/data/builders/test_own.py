"""Own data: every form and file kind, what is counted, who is where, and what bad input gets."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from datasets import Dataset, load_from_disk
from trl import DPOConfig, SFTConfig
from typer.testing import CliRunner

from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own import understand
from cuma.errors import BenchmarkError, CumaError
from cuma.models.backbones import load_backbone
from cuma.people.encoder import ProfileEncoder
from cuma.training.trainers import CumaDPOTrainer, CumaSFTTrainer
from helpers.preferences import COMMON, mixture

COUNTRIES = ("Japan", "Peru", "Kenya", "India")


def survey_rows(n: int = 80) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Question {i % 4}?",
            "options": ["Yes", "No", "Perhaps"],
            "answer": ["Yes", "No", "Perhaps"][i % 3],
            "ordinal": False,
            "profile": {"country": COUNTRIES[i // 4 % 4], "age": 20 + i // 4},
            "person_id": f"p{i // 4}",
        }
        for i in range(n)
    ]


def preference_rows(n: int = 60) -> list[dict[str, Any]]:
    return [
        {"prompt": f"Question {i % 20}?", "chosen": f"Yes {i}.", "rejected": "No.", "profile": f"A person from {c}"}
        for i, c in ((i, COUNTRIES[i % 4]) for i in range(n))
    ]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def made(tmp_path: Path, rows: list[Any], **options: Any) -> tuple[dict[str, Any], Path]:
    source = jsonl(tmp_path / "mine.jsonl", rows)
    return build("own", source, tmp_path / "built", Options(**options)), tmp_path / "built"


def people(folder: Path, task: str) -> dict[str, set[str]]:
    return {split: set(rows["person_id"]) for split, rows in load_from_disk(folder / task).items()}


def test_a_survey_becomes_rows_with_who_asks(tmp_path: Path) -> None:
    card, folder = made(tmp_path, survey_rows())
    rows = load_from_disk(folder / "survey")
    assert (card["rows_read"], card["rows_kept"], card["dropped"]) == (80, 80, {})
    assert sum(of["answers"] for of in card["splits"].values()) == 80
    row = rows["train"][0]
    assert row["profile"]["country"] in COUNTRIES
    assert row["profile"]["religion"] is None
    assert row["profile_text"].startswith("A ")
    assert row["group"] == row["profile"]["country"]
    assert all(0 <= answer < 3 for answer in rows["train"]["answer"])
    assert len(list(folder.glob("**/*.arrow"))) == len(rows)


def test_every_file_kind_says_the_same(tmp_path: Path) -> None:
    rows = survey_rows()
    flat = [{**row, "options": "|".join(row["options"]), "profile": json.dumps(row["profile"])} for row in rows]
    pd.DataFrame(flat).to_csv(tmp_path / "mine.csv", index=False, encoding="utf-8-sig")
    pd.DataFrame(flat).to_csv(tmp_path / "semicolons.csv", index=False, sep=";")
    typed = [{**row, "answer": str(row["answer"])} for row in rows]
    pd.DataFrame(typed).to_parquet(tmp_path / "mine.parquet")
    Dataset.from_list(typed).save_to_disk(str(tmp_path / "folder"))
    jsonl(tmp_path / "mine.jsonl", rows)
    cards = []
    for name in ("mine.jsonl", "mine.csv", "semicolons.csv", "mine.parquet", "folder"):
        card = build("own", tmp_path / name, tmp_path / f"built-{name}", Options())
        cards.append({key: card[key] for key in ("rows_read", "rows_kept", "dropped", "noted", "splits")})
    assert all(card == cards[0] for card in cards)


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}, "sft"),
        ({"prompt": "Hi", "completion": "Ho"}, "sft"),
        ({"prompt": "Hi", "chosen": "Ho", "rejected": "Hm"}, "dpo"),
        ({"prompt": "Hi"}, "grpo"),
        ({"question": "Hi?", "options": ["a", "b"], "answer": "b"}, "survey"),
        ({"question": "Hi?", "options": ["a", "b"], "distribution": [0.3, 0.7]}, "distribution"),
    ],
)
def test_every_form_is_understood(tmp_path: Path, row: dict[str, Any], task: str) -> None:
    card, folder = made(tmp_path, [row] * 12)
    assert list(card["tasks"]) == [task]
    rows = next(iter(load_from_disk(folder / task).values()))
    if task in ("sft", "dpo", "grpo"):
        assert rows[0]["prompt"] == [{"role": "user", "content": "Hi"}]


def test_columns_are_mapped_and_fields_may_be_columns(tmp_path: Path) -> None:
    rows = [{"q": "Hi?", "choices": "a|b", "said": "b", "COUNTRY": "Peru", "age": -1, "id": i} for i in range(20)]
    columns = {"question": "q", "options": "choices", "answer": "said", "profile.country": "COUNTRY", "person_id": "id"}
    _, folder = made(tmp_path, rows, columns=columns)
    profile = load_from_disk(folder / "survey")["train"][0]["profile"]
    assert profile["country"] == "Peru"
    assert profile["age"] is None


def test_what_a_row_lacks_is_counted_by_reason(tmp_path: Path) -> None:
    good = survey_rows(40)
    base = {"question": "Q?", "options": ["a", "b"], "answer": "a", "profile": None}
    bad: list[Any] = [
        "{not json", "[1, 2]", {**base, "question": " "}, {**base, "options": ["a"]}, {**base, "options": ["a", "a"]},
        {**base, "answer": 9}, {**base, "answer": None}, {**base, "answer": "c"}, {**base, "ordinal": "maybe"},
        {**base, "profile": ["list"]}, {**base, "weight": "heavy"}, {**base, "weight": -1}, {**base, "answer": True},
        {**base, "answer": -2}, {**base, "answer_codes": "from_two"},
    ]  # fmt: skip
    card, _ = made(tmp_path, [*good, *bad])
    assert card["rows_read"] == len(good) + len(bad)
    assert card["rows_kept"] == len(good)
    assert card["dropped"] == {
        "line that is no JSON": 1,
        "line that is no JSON object": 1,
        "question is missing or empty": 1,
        "options are fewer than two, empty or not distinct": 2,
        "answer is none of the options": 3,
        "answer is missing": 2,
        "answer_codes is none of from_zero, from_one, options": 1,
        "ordinal is neither true nor false": 1,
        "profile that is neither an object of texts and numbers nor a sentence": 1,
        "weight that is no number": 1,
        "weight that is negative": 1,
    }


def test_nobody_is_in_two_splits_and_held_out_groups_are_whole(tmp_path: Path) -> None:
    card, folder = made(tmp_path, survey_rows(400), holdout=(("country", "peru"),))
    found = people(folder, "survey")
    assert set(found) == {"train", "validation", "test", "unseen"}
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 100
    rows = load_from_disk(folder / "survey")
    assert set(rows["unseen"]["group"]) == {"Peru"}
    assert all("Peru" not in rows[split]["group"] for split in ("train", "validation", "test"))
    assert card["splits"]["unseen"]["groups"] == 1


def test_preference_splits_share_no_prompt(tmp_path: Path) -> None:
    card, folder = made(tmp_path, preference_rows(200))
    rows = load_from_disk(folder / "dpo")
    prompts = {split: {json.dumps(p) for p in its["prompt"]} for split, its in rows.items()}
    assert not prompts.get("train", set()) & (prompts["test"] | prompts["validation"])
    assert not prompts["test"] & prompts.get("validation", set())
    assert card["dropped"]["prompt is in an evaluation split too"] == 200 - sum(map(len, rows.values()))


def test_a_sample_takes_whole_people_from_all_groups(tmp_path: Path) -> None:
    card, folder = made(tmp_path, survey_rows(400), sample=20)
    found = people(folder, "survey")
    assert sum(map(len, found.values())) == 20
    rows = load_from_disk(folder / "survey")
    groups = [group for its in rows.values() for group in set(zip(its["person_id"], its["group"], strict=True))]
    assert {c: sum(g == c for _, g in groups) for c in COUNTRIES} == dict.fromkeys(COUNTRIES, 5)
    assert card["dropped"]["person not in the sample"] == 320


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "mine.jsonl", survey_rows())
    for name in ("one", "two"):
        build("own", source, tmp_path / name, Options(seed=3))
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "two") for p in (tmp_path / "two").rglob("*") if p.is_file())
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.jsonl", b"\n \n", "is empty"),
        ("zip.csv", b"PK\x03\x04" + b"0" * 90, "zip archive"),
        ("utf16.csv", "question,options,answer\n".encode("utf-16"), "not UTF-8"),
        ("columns.csv", b"a,b\n1,2\n", "Map other"),
        ("header.csv", b"question,options,answer\n", "no rows"),
        ("broken.parquet", b"PAR1" + b"0" * 90, "no whole parquet"),
        ("unusable.jsonl", b'{"prompt": ""}', "no row that can be used"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchmarkError, match=words):
        build("own", tmp_path / name, tmp_path / "built", Options())
    assert not (tmp_path / "built").exists()


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "precious.txt").write_text("mine")
    with pytest.raises(BenchmarkError, match="something else"):
        made(tmp_path, survey_rows())
    assert (tmp_path / "built" / "precious.txt").read_text() == "mine"


def test_mixed_encodings_and_monstrous_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.data.builders.reading.MAX_LINE", 2000)
    rows = [json.dumps({"question": "Ü?", "options": ["a", "b"], "answer": 0}, ensure_ascii=False)] * 20
    content = (
        "\n".join(rows).encode() + b"\n" + rows[0].encode("cp1252") + b"\n" + b"x" * 9000 + b"\n" + rows[0].encode()
    )
    (tmp_path / "mixed.jsonl").write_bytes(content)
    card = build("own", tmp_path / "mixed.jsonl", tmp_path / "built", Options())
    assert card["rows_read"] == 23
    assert card["rows_kept"] == 22
    assert card["noted"]["line not in UTF-8, read as Windows-1252"] == 1
    assert sum(card["dropped"].values()) == 1
    questions = {q for rows in load_from_disk(tmp_path / "built" / "survey").values() for q in rows["question"]}
    assert questions == {"Ü?"}


def test_mutated_rows_are_counted_or_refused_by_name(tmp_path: Path) -> None:
    rng = random.Random(0)
    values: list[Any] = [None, "", " ", 3, -1, 0.5, True, [], {}, [None], [{"role": "user"}], "{", "[1", {"age": []},
                         {"a": 1}, float("nan"), "\0", "\ud800", "é" * 50, ["a", "b"], {"country": None}]  # fmt: skip
    names = ["question", "options", "answer", "distribution", "profile", "weight", "ordinal", "person_id", "group",
             "prompt", "chosen", "rejected", "completion", "messages", "age", "country"]  # fmt: skip
    for number in range(150):
        template = rng.choice([survey_rows(4), preference_rows(4)])
        for row in template:
            for name in rng.sample(names, 3):
                row[name] = rng.choice(values)
        source = tmp_path / "mutated.jsonl"
        source.write_text("\n".join(map(json.dumps, template)))
        try:
            understood = understand(source)
        except CumaError:
            continue
        assert understood.ledger.rows_read == len(template)
        assert len(understood.rows) + sum(understood.ledger.dropped.values()) == len(template)
        if understood.rows:
            build("own", source, tmp_path / f"built-{number}", Options())


def test_the_commands_errors_are_one_line(tmp_path: Path) -> None:
    for words in (
        ["data", "build", "own", "--output", str(tmp_path / "x")],
        ["data", "build", "own", "--source", str(tmp_path / "no.csv"), "--output", str(tmp_path / "x")],
        ["data", "check", str(tmp_path / "no.csv")],
        ["data", "build", "gss", "--output", str(tmp_path / "x"), "--holdout-groups", "country=Atlantis"],
        ["data", "build", "gss", "--output", str(tmp_path / "x"), "--group-by", "height"],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2, done.output
        assert done.output.startswith("Error: ")
        assert "Atlantis" not in done.output


def test_it_goes_straight_into_the_trainers(tmp_path: Path) -> None:
    tokenizer, encoder = load_backbone("smollm2-135m").tokenizer, ProfileEncoder.from_pretrained("minilm")
    _, folder = made(tmp_path, [{**row, "prompt": f"Question {i}?"} for i, row in enumerate(preference_rows(40))])
    rows = load_from_disk(folder / "dpo")["train"]
    sft = rows.rename_column("chosen", "completion").remove_columns("rejected")
    for cls, config, table in ((CumaSFTTrainer, SFTConfig, sft), (CumaDPOTrainer, DPOConfig, rows)):
        trainer = cls(
            mixture(tokenizer), config(output_dir=str(tmp_path / "run"), **COMMON), train_dataset=table,
            processing_class=tokenizer, profile_encoder=encoder,
        )  # fmt: skip
        assert trainer.train().global_step == 2
