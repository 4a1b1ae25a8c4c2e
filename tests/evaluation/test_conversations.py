"""Held-out conversations and pairs from the command line: a run, the untouched model, both compared, page and card."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from cuma.answering.letters import SurveyTokens
from cuma.answering.loading import load_backbone
from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.evaluation.conversations import Reply, log_probabilities
from cuma.evaluation.predict import LocalModel
from cuma.reports import write_report
from cuma.reports.model_card import model_card
from cuma.runs.folder import Run, read_json
from helpers.folders import base_folder

SMALL = (
    "adapter.last_layers=1", "adapter.num_experts=2", "adapter.r=2", "training.max_steps=2", "training.curve_steps=[]",
    "training.per_device_train_batch_size=2", "training.save_steps=2", "dpo.max_steps=2",
    "dpo.per_device_train_batch_size=2", "backbone.keep_frozen_layers=false", "pipeline=[sft,dpo]",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hundred people of three countries, a chat and a pair each; a run; the untouched model."""
    folder = tmp_path_factory.mktemp("talks") / "my talks's [1]"
    folder.mkdir()
    who = [{"person_id": f"p{n}", "country": ("Peru", "Kenya", "Fiji")[n % 3]} for n in range(300)]
    chats = [{"prompt": f"Chat {n}?", "completion": f"Yes {n}.", **one} for n, one in enumerate(who)]
    pairs = [
        {"prompt": f"Pair {n}?", "chosen": "Yes, I do.", "rejected": f"No {n}.", **one} for n, one in enumerate(who)
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, [*chats, *pairs])))
    build("own", folder / "mine.jsonl", folder / "data", Options(holdout=(("country", "Fiji"),)))
    base = base_folder(folder / "base")
    where = (f"backbone.model_name_or_path={base}", f"data.benchmark={folder / 'data'}")
    trained = command("train", "default", *SMALL, *where, "--output-dir", folder / "run")
    assert command_shown(trained) == ["evaluate", str(folder / "run")]
    command("evaluate", base, "--benchmark", folder / "data", "--output-dir", folder / "untouched")
    return folder


def command_shown(output: str) -> list[str]:
    """The words behind `Next: cuma`, as a shell reads them."""
    return shlex.split(output[output.rindex("Next: cuma ") :])[2:]


def command(*words: Any, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def scores(run: Path) -> dict[str, Any]:
    (file,) = run.glob("evaluations/*/conversations.json")
    return read_json(file)


def test_a_run_and_the_untouched_model_are_measured_and_compared(home: Path) -> None:
    shown = command("evaluate", home / "run", "--against", home / "untouched")
    assert "This run minus" in shown
    found, untouched = scores(home / "run"), scores(home / "untouched")
    for result in (found, untouched):
        for side, people in (("unseen", 100), ("seen", 20)):
            assert result[side]["loss"]["n"]["people"] == people
            assert result[side]["perplexity"]["value"] > 1
    assert untouched["unseen"]["preference_accuracy"]["value"] == 0.5
    assert set(found["unseen"]["loss"]["by_group"]) == {"Fiji"}
    (file,) = (home / "run").glob("evaluations/*/conversation_differences.json")
    difference = read_json(file)["differences"]["untouched"]["unseen"]["loss"]
    assert difference["value"] == pytest.approx(
        found["unseen"]["loss"]["value"] - untouched["unseen"]["loss"]["value"], abs=1e-6
    )
    table = pd.read_parquet(file.parent / "conversations.parquet")
    assert {"p0", "Chat 0?"}.isdisjoint(map(str, table.to_numpy().ravel()))


def test_what_is_scored_again_is_left_alone_and_a_torn_one_goes_on(home: Path) -> None:
    (file,) = (home / "untouched").glob("evaluations/*/conversations.json")
    before = file.read_text()
    again = ("evaluate", home / "base", "--benchmark", home / "data", "--output-dir", home / "untouched")
    command(*again)
    file.unlink()
    command(*again)
    assert file.read_text() == before


def test_page_and_card_show_groups(home: Path, tmp_path: Path) -> None:
    command(*command_shown(command("evaluate", home / "run")))
    assert "Fiji" in (home / "run" / "report.html").read_text()
    page = write_report([home / "run", home / "untouched"], tmp_path / "report.html")
    for file in (page, page.with_suffix(".md"), page.with_suffix(".tex")):
        text = file.read_text()
        assert "Preference accuracy" in text
        assert "Fiji" in text
    card = str(model_card(Run.open(home / "run")))
    assert "Perplexity" in card
    assert "Not evaluated" not in card


def test_of_several_benchmarks_the_next_command_names_one(home: Path, tmp_path: Path) -> None:
    asked = [
        {"question": "Hi?", "options": ["Yes", "No"], "answer": n % 2, "person_id": n, "country": "Peru"}
        for n in range(200)
    ]
    for name, question in (("one", "Hi?"), ("two", "Ho?")):
        rows = [{**row, "question": question} for row in asked]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        build("own", tmp_path / f"{name}.jsonl", tmp_path / name, Options(all_test=True))
        card = tmp_path / name / "card.json"
        card.write_text(json.dumps({**read_json(card), "name": name}))
        shown = command_shown(command("evaluate", home / "untouched", "--benchmark", tmp_path / name))
    assert shown[-2:] == ["--benchmark", "two"]
    command(*shown)


def test_what_cannot_be_measured_is_told_before_the_model_is_loaded(home: Path, tmp_path: Path) -> None:
    for words, text in (
        (("--collapse",), "--collapse needs survey answers of single people"),
        (("--benchmark", "gss", "--conversations"), "--conversations needs conversations or preference pairs"),
    ):
        assert text in " ".join(command("evaluate", home / "run", *words, code=2).split())


def test_a_log_probability_is_the_sum_over_the_reply_and_knows_no_batch(home: Path) -> None:
    backbone = load_backbone(str(home / "base"))
    model, tokenizer = backbone.model, backbone.tokenizer
    texts = ["Hi. Yes, of course.", "What is it? It is a very long reply to a short question.", "No. Never."]
    replies = [Reply(tokenizer(text)["input_ids"], 2 + place, None) for place, text in enumerate(texts)]
    asking = LocalModel(model, SurveyTokens(tokenizer), None, batch_size=3)
    together = log_probabilities(asking, replies)
    for reply, value in zip(replies, together, strict=True):
        ids = torch.tensor([reply.tokens])
        with torch.no_grad():
            each = model(ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
        assert value == pytest.approx(float(each[reply.start - 1 :].sum()), abs=1e-3)
        assert log_probabilities(asking, [reply])[0] == pytest.approx(value, abs=1e-4)
