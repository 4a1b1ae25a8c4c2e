"""What stages train on: checked before the first of them starts, and read without a trace in the built folder."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.corpus import Corpus
from cuma.errors import BenchmarkError
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.training.stages import require_rows, stage_rows
from cuma.training.train import train_run
from helpers.make_preferences import prism_people, prism_talks, write_prism


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built folder with rows for sft and dpo and without survey answers."""
    folder = tmp_path_factory.mktemp("prism")
    build("prism", write_prism(folder / "source", prism_people(), prism_talks()), folder / "built", Options())
    return folder / "built"


def recipe(folder: Path, *overrides: str) -> Recipe:
    return load_recipe("quickstart/gss/cuma", (f"data.benchmark={folder}", *overrides))


def parts(folder: Path) -> Any:
    corpus = Corpus.open(folder)
    return SimpleNamespace(corpus=corpus, survey=corpus.survey())


def test_a_stage_without_rows_is_refused_before_the_first_is_trained(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Question {i}?", "completion": f"Answer {i}.", "profile": {"country": "Peru", "age": i}}
        for i in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    build("own", tmp_path / "rows.jsonl", tmp_path / "built", Options())
    impossible = recipe(tmp_path / "built", "pipeline=[sft, dpo]")
    with pytest.raises(BenchmarkError, match=r"nor survey answers; to train on it has sft\. Leave dpo out"):
        train_run(impossible, tmp_path / "run")
    assert Run.open(tmp_path / "run").info["status"] == "created"
    require_rows("sft", impossible, parts(tmp_path / "built"))


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("limit", ["null", "10"])
def test_reading_rows_writes_nothing_into_the_built_folder(stage: str, limit: str, conversations: Path) -> None:
    before = sorted(conversations.rglob("*"))
    told = recipe(conversations, "data.profile_in=both", f"data.max_train={limit}")
    rows = stage_rows(stage, told, parts(conversations))
    assert rows[0]["prompt"][0]["role"] == "system"
    assert sorted(conversations.rglob("*")) == before
