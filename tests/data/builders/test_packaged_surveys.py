"""gss and wvs as tasks on disk: all items, any grouping, held-out groups, splits that share nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.catalog import load_benchmark
from cuma.data.surveys.prompts import LETTERS
from cuma.data.surveys.survey import NO_ANSWER


@pytest.fixture(scope="module")
def gss(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("gss") / "built"
    return build("gss", None, folder, Options(sample=3000, rows=500)), folder


def test_gss_has_seven_items_in_the_benchmarks_groups(gss: tuple[dict[str, Any], Path]) -> None:
    card, folder = gss
    rows = load_from_disk(folder / "survey")
    assert len({q for its in rows.values() for q in its["question_id"]}) == 7
    assert sum(of["people"] for of in card["splits"].values()) == 3000
    assert card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values()) == 64_814
    assert {split: of["groups"] for split, of in card["splits"].items()}["unseen"] == 15
    assert card["citation"].startswith("Smith, Tom W.")


def test_splits_share_nobody(gss: tuple[dict[str, Any], Path]) -> None:
    for task in ("survey", "sft", "dpo"):
        people = [set(rows["person_id"]) for rows in load_from_disk(gss[1] / task).values()]
        assert sum(map(len, people)) == len(set().union(*people))


def test_letters_say_what_the_person_answered(gss: tuple[dict[str, Any], Path]) -> None:
    answers = {
        (row["person_id"], row["question"]): row["options"][row["answer"]]
        for row in load_from_disk(gss[1] / "survey")["train"]
    }
    sft = load_from_disk(gss[1] / "sft")["train"]
    dpo = load_from_disk(gss[1] / "dpo")["train"]
    assert len(sft) == len(dpo) == 500
    shown_first = set()
    for row, pair in zip(sft, dpo, strict=True):
        question, *options = row["prompt"][1]["content"].splitlines()[:3]
        by_letter = {line[0]: line[3:] for line in options}
        assert by_letter[row["completion"][0]["content"]] == answers[row["person_id"], question]
        assert pair["chosen"] == row["completion"]
        assert pair["rejected"][0]["content"] in set(LETTERS[:2]) - {row["completion"][0]["content"]}
        shown_first.add(by_letter["A"])
    assert shown_first == {"Yes", "No"}


def test_any_grouping_by_named_fields(tmp_path: Path) -> None:
    card = build("gss", None, tmp_path / "built", Options(group_by=("ethnicity", "sex"), sample=500, rows=10))
    rows = load_from_disk(tmp_path / "built" / "survey")
    assert {g for its in rows.values() for g in its["group"]} == {
        f"{r} {s}" for r in ("White", "Black") for s in ("man", "woman")
    }
    assert rows["train"][0]["profile"]["party"] is None
    assert "no answer about the party" not in card["dropped"]


def test_held_out_values_are_the_unseen_groups(tmp_path: Path) -> None:
    options = Options(holdout=(("party", "strong Republican"),), sample=2000, rows=10)
    build("gss", None, tmp_path / "built", options)
    for split, rows in load_from_disk(tmp_path / "built" / "survey").items():
        parties = {profile["party"] for profile in rows["profile"]}
        assert ("strong Republican" in parties) == (split == "unseen")
        assert split != "unseen" or parties == {"strong Republican"}


def test_countries_of_wvs_can_be_held_out(tmp_path: Path) -> None:
    options = Options(holdout=(("country", "Japan"), ("country", "Peru")), sample=2000, rows=10)
    card = build("wvs", None, tmp_path / "built", options)
    rows = load_from_disk(tmp_path / "built" / "survey")
    assert set(rows["unseen"]["group"]) == {"Japan", "Peru"}
    assert card["splits"]["unseen"]["groups"] == 2


def test_the_benchmark_itself_is_unchanged() -> None:
    survey = load_benchmark("gss")
    assert [question.id for question in survey.questions] == ["abany", "abpoor", "abdefect", "abrape"]
    assert len(survey.groups) == 75
    assert (survey.people[[q.id for q in survey.questions]] != NO_ANSWER).any(axis=1).all()
