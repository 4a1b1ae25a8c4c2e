"""`--holdout-items` for people's answers: whole items leave training and are new in the test, whatever is built."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import load_from_disk
from typer.testing import CliRunner

from cuma.cli.main import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.held_items import OF_PERSON, OF_ROW
from cuma.data.corpus import Corpus
from cuma.data.surveys.survey import ITEM_ROLES, NO_ANSWER, Survey
from cuma.data.surveys.us_items import ITEMS
from cuma.errors import BenchmarkError
from cuma.reports.sparsity_page import sparsity
from helpers.surveys import COLUMNS, build_survey, respondents

ALLOWED = {"train": {"seen"}, "validation": {"seen", "validation"}}
SUBJECTS = ("wine", "parks", "trains", "schools", "rain", "music", "bread", "snow", "horses", "boats")
WORDS = ("Do you like {}?", "How often is there too much of {} where you live?")


def survey_rows(people: int = 80) -> list[dict[str, Any]]:
    """Ten subjects, each asked of in one of two ways: no two wordings are near-repeats."""
    return [
        {
            "question_id": subject,
            "question": WORDS[number % 2].format(f"{subject} {number} {subject[::-1]} {subject * 2}"),
            "options": ["Yes", "No"],
            "answer": (person + number) % 2,
            "person_id": f"p{person}",
            "profile": {"country": ("Peru", "Japan")[person % 2]},
        }
        for person in range(people)
        for number, subject in enumerate(SUBJECTS)
    ]


def check_splits(folder: Path, card: dict[str, Any], survey: Survey) -> None:
    """Every split has the answers to its items alone, and the survey knows the roles of the card."""
    role = card[ITEM_ROLES]
    assert Counter(role.values()) == Counter({name: size for name, size in card["items"].items() if size})
    assert {question.id: question.role for question in survey.questions} == role
    for split, rows in load_from_disk(folder / "survey").items():
        assert {role[name] for name in rows["question_id"]} <= ALLOWED.get(split, {"seen", "validation", "test"})
    for part, allowed in ALLOWED.items():
        people = survey.people[survey.people["part"] == part]
        held = [name for name, its in role.items() if its not in allowed]
        assert (people[held] == NO_ANSWER).all(axis=None)
    tested = survey.people[survey.people["part"] == "test"]
    assert all((tested[name] != NO_ANSWER).any() for name, its in role.items() if its == "test")


def test_items_of_ones_own_rows_are_held_out(tmp_path: Path) -> None:
    source, rows = tmp_path / "mine.jsonl", survey_rows()
    source.write_text("\n".join(map(json.dumps, rows)))
    card = build("own", source, tmp_path / "built", Options(holdout_items=0.3))
    survey = Corpus.open(tmp_path / "built").survey()
    check_splits(tmp_path / "built", card, survey)
    assert card["items"] == {"seen": 6, "validation": 1, "test": 3}
    assert card["holdout_items"] == 0.3
    sizes = Counter(survey.people["part"])
    assert card["dropped"] == {OF_ROW: 4 * sizes["train"] + 3 * sizes["validation"]}
    assert card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values())
    assert sizes.total() == 80
    source.write_text("\n".join(map(json.dumps, rows[::-1])))
    again = build("own", source, tmp_path / "again", Options(holdout_items=0.3))
    assert again[ITEM_ROLES] == card[ITEM_ROLES]
    said = sparsity(tmp_path / "built", tmp_path / "page", permutations=5)["summary"][-1]
    assert said == "Questions: 6 are trained on; held out whole are 3 for the test and 1 to choose by."


@pytest.mark.parametrize("share", [None, 0.0])
def test_without_a_share_nothing_is_held_out_and_nothing_is_said_of_it(tmp_path: Path, share: float | None) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, survey_rows(20))))
    card = build("own", source, tmp_path / "built", Options(holdout_items=share))
    assert not {ITEM_ROLES, "items", "holdout_items"} & card.keys()
    assert card["dropped"] == {}
    assert all(question.role == "seen" for question in Corpus.open(tmp_path / "built").survey().questions)


def test_near_repeats_alone_cannot_be_held_out_and_that_is_noted(tmp_path: Path) -> None:
    rows = [row for row in survey_rows(20) if row["question_id"] in SUBJECTS[:2]]
    for row in rows:
        row["question"] = f"Would you say that you like or that you do not like to have {row['question_id']}?"
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    card = build("own", source, tmp_path / "built", Options(holdout_items=0.3))
    assert card["noted"]["question that cannot be held out, for all are near-repeats of one another"] == 2
    assert ITEM_ROLES not in card


def test_a_battery_that_is_held_out_for_want_of_smaller_families_is_noted(tmp_path: Path) -> None:
    rows = survey_rows(20)
    for row in rows:
        row["question"] = WORDS[SUBJECTS.index(row["question_id"]) % 2].format(row["question_id"])
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    card = build("own", source, tmp_path / "built", Options(holdout_items=0.2))
    assert card["items"]["test"] == 5
    assert card["noted"]["question held out beyond the share, for its near-repeats stay together"] == 3


def test_items_of_a_survey_file_are_held_out(tmp_path: Path) -> None:
    table = respondents()
    texts = [WORDS[number % 2].format(f"{name} {name[::-1]} {number}") for number, name in enumerate(SUBJECTS)]
    extra = {
        f"q{number}": {"role": "item", "text": text, "options": {1: "Yes", 2: "No"}}
        for number, text in enumerate(texts)
    }
    rng = np.random.default_rng(1)
    table = table.assign(**{name: rng.choice([1.0, 2.0], len(table)) for name in extra})
    folder, card = build_survey(tmp_path, table, columns=COLUMNS | extra, holdout_items=0.25)
    survey = Corpus.open(folder).survey()
    check_splits(folder, card, survey)
    assert card["items"]["test"] == 3
    assert card["dropped"][OF_ROW] > 0
    assert card["rows_read"] == card["rows_kept"] + sum(card["dropped"].values())
    assert card["rows_kept"] == sum(split["answers"] for split in card["splits"].values())
    assert card["rows_kept"] == int((survey.people[[q.id for q in survey.questions]] != NO_ANSWER).to_numpy().sum())


def test_who_answered_held_out_items_alone_leaves_training_and_is_counted(tmp_path: Path) -> None:
    table = respondents().assign(trust=1.0, warm=50.0)
    table.loc[table.index % 2 == 0, "trust"] = np.nan
    folder, card = build_survey(tmp_path, table, holdout_items=0.5)
    held = {name for name, role in card[ITEM_ROLES].items() if role != "seen"}
    assert len(held) == 1
    silent = card["noted"].get("respondent who answered held-out questions alone, left out", 0)
    assert (silent > 0) == (held == {"warm"})
    assert len(Corpus.open(folder).survey().people) == len(table) - silent


@pytest.mark.parametrize("share", [None, 0.1])
def test_us_is_built_with_its_own_roles_or_another_share(tmp_path: Path, share: float | None) -> None:
    folder = tmp_path / "built"
    card = build("us", None, folder, Options(sample=1000, rows=200, holdout_items=share))
    check_splits(folder, card, Corpus.open(folder).survey())
    assert card["items"]["test"] == (10 if share is None else 5)
    assert card["dropped"][OF_PERSON] > 0
    assert card["years"]["CCES"] == [2016]
    assert ["therm_dem", "therm_gop"] in card["sisters"]
    texts = {item.question.text: card[ITEM_ROLES][item.question.id] for item in ITEMS}
    for task in ("sft", "dpo"):
        for split, rows in load_from_disk(folder / task).items():
            asked = {texts[prompt[1]["content"].splitlines()[0]] for prompt in rows["prompt"]}
            assert asked <= ALLOWED.get(split, {"seen", "validation", "test"})
            assert split != "test" or "test" in asked


def test_where_no_question_is_asked_nothing_can_be_held_out(tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(json.dumps({"prompt": f"{n}?", "completion": "Yes."}) for n in range(20)))
    with pytest.raises(BenchmarkError, match=r"--holdout-items is for answers to questions .* these data have sft"):
        build("own", source, tmp_path / "built", Options(holdout_items=0.2))
    source.write_text("\n".join(map(json.dumps, survey_rows(20))))
    with pytest.raises(BenchmarkError, match="--all-test keeps everybody out of training already"):
        build("own", source, tmp_path / "built", Options(holdout_items=0.2, all_test=True))


def test_check_names_what_would_be_held_out(tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, survey_rows(20))))
    shown = CliRunner().invoke(app, ["data", "check", str(source), "--holdout-items", "0.3", "--seed", "1"])
    assert shown.exit_code == 0, shown.output
    roles = build("own", source, tmp_path / "built", Options(holdout_items=0.3, seed=1))[ITEM_ROLES]
    told = pd.Series(shown.output.splitlines()).str.strip()
    for role, words in (("test", "for the test: "), ("validation", "to choose by: ")):
        names = next(line.removeprefix(words) for line in told if line.startswith(words)).split(", ")
        assert set(names) == {name for name, its in roles.items() if its == role}
