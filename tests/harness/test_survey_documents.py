"""Surveys as tasks: what is asked, of a packaged benchmark and of a built folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuma.data.builders.build import Options, build
from cuma.errors import BenchmarkError
from cuma.harness.tasks.survey_task import documents


def people(number: int = 60) -> list[dict[str, object]]:
    question = {"question": "May one lie to a friend?", "options": ["Yes", "No"], "ordinal": False}
    return [
        {**question, "answer": place % 3 == 0, "group": country, "person_id": f"{country} {place}",
         "profile": {"country": country}}
        for country in ("Japan", "Peru")
        for place in range(number)
    ]  # fmt: skip


def test_a_built_folder_is_asked_as_a_packaged_benchmark_is(tmp_path: Path) -> None:
    rows = [{**row, "answer": int(bool(row["answer"]))} for row in people()]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    build("own", tmp_path / "mine.jsonl", tmp_path / "built", Options(holdout=(("country", "Peru"),)))
    asked = documents(benchmark=str(tmp_path / "built"))["test"]
    packaged = documents(benchmark="gss")["test"]
    assert asked.column_names == packaged.column_names
    assert {(row["group"], row["seen"]) for row in asked} == {("Japan", True), ("Peru", False)}
    peru = [row for row in asked if row["group"] == "Peru"]
    assert [sum(row["counts"]) for row in peru] == [60] * len(peru)  # all of a held-out country's people
    assert peru[0]["counts"] == [40, 20]


def test_what_holds_no_survey_is_refused(tmp_path: Path) -> None:
    row = {"prompt": "What do you drink?", "completion": "Tea.", "person_id": "a", "profile": {"country": "Japan"}}
    rows = [{**row, "person_id": f"p{place}"} for place in range(20)]
    (tmp_path / "talk.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    build("own", tmp_path / "talk.jsonl", tmp_path / "talk", Options())
    with pytest.raises(BenchmarkError, match="holds no survey"):
        documents(benchmark=str(tmp_path / "talk"))
    with pytest.raises(BenchmarkError, match="holds no benchmark"):
        documents(benchmark=str(tmp_path / "nowhere"))
