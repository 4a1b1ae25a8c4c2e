"""Questions of a file: one way, one order, a scale or names; what cannot be asked is left out item by item."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.builders.own import Understood, understand
from cuma.data.builders.own_items import NO_ORDER, OTHER_WAY, RESERVED, ROW_ORDERS, SEVERAL_CODES, TOO_MANY
from cuma.data.corpus import Corpus
from cuma.data.surveys.cells import survey_cells

ORDERS = [["Rail", "Road", "Air"], ["Road", "Air", "Rail"], ["Air", "Rail", "Road"], ["Air", "Road", "Rail"]]
SOUND = [{"question": "Is trust high?", "options": ["Yes", "No"], "answer": ("Yes", "No")[i % 2]} for i in range(30)]


def read(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Understood:
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return understand(folder / "mine.jsonl", **options)


def answers(found: Understood) -> list[str]:
    return [row.values["options"][row.values["answer"]] for row in found.rows]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"options": [str(n) for n in range(27)], "answer": n} for n in range(27)], TOO_MANY),
        ([{"question_id": "group", "options": ["a", "b"], "answer": "a"}], RESERVED),
        ([{"options": o, "answer": o[0], "ordinal": True} for o in ORDERS], NO_ORDER),
        ([{"options": ["a", "b"], "answer": 0, "answer_codes": c} for c in ("from_zero", "from_one")], SEVERAL_CODES),
    ],
)
def test_a_question_that_training_would_refuse_is_left_out_by_name_and_the_others_stay(
    tmp_path: Path, rows: list[dict[str, Any]], reason: str
) -> None:
    rows = [{"question": "What else?", **row} for row in rows]
    found = read(tmp_path, [*SOUND, *rows])
    assert found.ledger.dropped == {reason: len(rows)}
    card = build("own", tmp_path / "mine.jsonl", tmp_path / "built", Options())
    assert list(card["questions_left_out"].values()) == [reason]
    survey = Corpus.open(tmp_path / "built").survey()
    assert len(survey_cells(survey, "train", ("seen",), profile_in_prompt=False)) == 2


def test_other_words_or_options_under_one_id_are_counted_and_most_rows_stay(tmp_path: Path) -> None:
    rows = [{**row, "question_id": "q"} for row in SOUND]
    rows[3]["question"], rows[4]["options"], rows[4]["answer"] = "Is it?", ["Yes", "No", "Perhaps"], "Yes"
    found = read(tmp_path, rows)
    assert found.ledger.dropped == {OTHER_WAY: 2}
    assert len(found.rows) == 28


def test_options_in_random_order_are_put_in_one(tmp_path: Path) -> None:
    rng, rows = random.Random(0), []
    for number in range(60):
        options = ["Good", "Fair", "Poor"]
        rng.shuffle(options)
        rows.append({"question": "How is it?", "options": options, "answer": ("Good", "Fair", "Poor")[number % 3]})
    found = read(tmp_path, rows)
    assert answers(found) == ["Good", "Fair", "Poor"] * 20
    assert found.items[0].options in (("Good", "Fair", "Poor"), ("Poor", "Fair", "Good"))  # a scale finds its order
    assert found.items[0].ordinal
    assert found.ledger.noted["options in another order than in most rows of the question, put in that order"] > 0


def test_a_scale_shown_from_both_ends_is_one_scale(tmp_path: Path) -> None:
    steps = ["Cold", "Mild", "Hot"]
    rows = [{"question": "How?", "options": steps[:: 1 - 2 * (n % 2)], "answer": steps[n % 3], "ordinal": True}
            for n in range(12)]  # fmt: skip
    found = read(tmp_path, rows)
    assert answers(found) == steps * 4
    assert not found.ledger.dropped


def test_numbers_under_orders_that_differ_are_read_only_if_somebody_says_how(tmp_path: Path) -> None:
    rows = [{"question": "What?", "options": ORDERS[n % 4], "answer": n % 3} for n in range(24)]
    assert read(tmp_path, rows).ledger.dropped == {ROW_ORDERS: 24}
    found = read(tmp_path, rows, answer_codes="from_zero")
    assert answers(found) == [ORDERS[n % 4][n % 3] for n in range(24)]


def test_shares_go_with_their_options(tmp_path: Path) -> None:
    rows = [{"question": "What?", "options": o, "distribution": [0.5, 0.3, 0.2], "group": str(n)}
            for n, o in enumerate([ORDERS[0], ORDERS[0], ORDERS[1]])]  # fmt: skip
    found = read(tmp_path, rows)
    assert found.items[0].options == tuple(ORDERS[0])
    assert [row.values["distribution"] for row in found.rows] == [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.2, 0.5, 0.3]]


@pytest.mark.parametrize(
    ("options", "ordinal"),
    [
        ([str(n) for n in range(1, 11)], True),
        (["Very bad", "Bad", "So so", "Good", "Very good"], True),
        (["1. Agree", "2. Neither", "3. Disagree"], True),
        (["0", "25", "50", "75", "100"], True),
        (["Very dissatisfied", "Dissatisfied", "Neutral", "Satisfied", "Very satisfied"], True),
        (["1. Male", "2. Female", "3. Other"], False),
        (["Rail", "Road", "Air"], False),
    ],
)
def test_a_scale_is_guessed_from_its_options_and_the_guess_is_told(
    tmp_path: Path, options: list[str], ordinal: bool
) -> None:
    rows = [{"question": "How?", "options": options, "answer": option} for option in options]
    (item,) = (found := read(tmp_path, rows)).items
    assert (item.ordinal, item.ordinal_guessed) == (ordinal, True)
    assert all(row.values["ordinal"] is ordinal for row in found.rows)
    assert any("`ordinal` left out" in what for what in found.ledger.noted)
    flags = [1.0, "1", True, "TRUE", "yes", None] * 2
    found = read(tmp_path, [{**row, "ordinal": flag} for row, flag in zip(rows, flags, strict=False)])
    assert (found.items[0].ordinal, found.items[0].ordinal_guessed) == (True, False)


def test_most_rows_say_whether_options_are_a_scale_and_that_they_differ_is_told(tmp_path: Path) -> None:
    rows = [{"question": "How?", "options": ["Low", "High", "Other"], "answer": "Low", "ordinal": flag}
            for flag in (True, "yes", False)]  # fmt: skip
    found = read(tmp_path, rows)
    assert found.items[0].ordinal
    assert found.ledger.noted["question: its rows differ in `ordinal`, most of them count"] == 1


def test_codes_are_said_for_a_file_or_for_a_question(tmp_path: Path) -> None:
    rows = [{"question": "How?", "options": ["a", "b", "c", "d"], "answer": n} for n in (1, 2, 3)]
    assert not read(tmp_path, rows).rows
    assert answers(read(tmp_path, rows, answer_codes="from_one")) == ["a", "b", "c"]
    found = read(tmp_path, [{**row, "answer_codes": "from_zero"} for row in rows], answer_codes="from_one")
    assert answers(found) == ["b", "c", "d"]
    assert not any("numbers read as codes" in what for what in found.ledger.noted)


def test_zero_and_one_on_yes_and_no_are_indices_and_that_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, [{**row, "answer": n % 2} for n, row in enumerate(SOUND)])
    assert answers(found) == ["Yes", "No"] * 15
    assert any("0 read as its first option, which is Yes" in what for what in found.ledger.noted)
