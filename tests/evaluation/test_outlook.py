"""What is said before an evaluation starts is what then happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cuma.answering.letters import SurveyTokens
from cuma.answering.materials import load_survey
from cuma.evaluation.answer_log import AnswerLog
from cuma.evaluation.outlook import TIMED, span, tell_prompts, tell_time
from cuma.evaluation.predict import LocalModel
from cuma.evaluation.question_sheet import sheet_of
from cuma.evaluation.subject import subject_of_model, with_orders
from cuma.models.backbones import load_backbone
from helpers.paper import write_base


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 second"), (40.4, "40 seconds"), (100, "2 minutes"), (5399, "90 minutes"), (9000, "2.5 hours")],
)
def test_spans_of_time_in_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def rows(cells: int, orders: int = 2) -> list[dict[str, Any]]:
    prompt = [{"role": "user", "content": "Yes?\nA. Yes\nB. No"}]
    places = ((0, 1), (1, 0))
    return [
        {"group": f"g{cell}", "question_id": "q", "order": places[order], "prompt": prompt}
        for cell in range(cells)
        for order in range(orders)
    ]


def test_how_many_prompts_and_how_to_ask_fewer(capsys: pytest.CaptureFixture[str]) -> None:
    tell_prompts(rows(3), "mine", True, ", about 4 minutes")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "mine: 6 prompts, about 4 minutes. Fewer: --option-orders fixed asks 3, each question in one order of its "
        "options.\n"
    )
    tell_prompts(rows(3, orders=1), "mine", True)
    tell_prompts(rows(3), "mine", False)
    assert capsys.readouterr().err == "mine: 3 prompts.\nmine: 6 prompts.\n"


def test_the_batches_that_are_timed_are_kept(tmp_path: Path) -> None:
    base = load_backbone(str(write_base(tmp_path / "base")))
    asking = LocalModel(base.model, SurveyTokens(base.tokenizer), None, batch_size=2)
    log = AnswerLog(tmp_path / "answers.jsonl", "these")
    asked = rows(8)
    assert tell_time(asking, asked, log, False).startswith(", about ")
    assert len(log) == 1 + TIMED
    assert tell_time(asking, asked, log, False).startswith(", 3 of 8 batches are answered, about ")
    assert len(log) == 2 * (1 + TIMED)
    assert tell_time(asking, asked, log, False) == ", 6 of 8 batches are answered"
    assert asking.answer(asked, None, log)[0][0] == pytest.approx(asking.answer(asked)[0][0])


def test_fewer_orders_ask_fewer_prompts_and_are_recorded(tmp_path: Path) -> None:
    subject = subject_of_model("smollm2-135m", "gss", "none", tmp_path / "run")
    assert with_orders(subject, None) is subject
    assert subject.protocol == {"prompting": "none"}
    fixed = with_orders(subject, "fixed")
    assert fixed.protocol == {"prompting": "none", "option_orders": "fixed"}
    counts = [len(sheet_of(one.recipe, *load_survey(one.recipe)).rows) for one in (subject, fixed)]
    assert counts[0] == 2 * counts[1]
