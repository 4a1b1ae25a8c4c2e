"""Reading a served model's answers, and the log that keeps them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai.types.chat import ChatCompletion

from cuma.data.surveys.prompts import LETTERS
from cuma.errors import EndpointRequestError
from cuma.evaluation.answer_log import AnswerLog, fingerprint
from cuma.evaluation.predict import merge_orders
from cuma.evaluation.remote import MOST, RemoteModel, letters_in, offered
from cuma.models.endpoint import Endpoint
from helpers.judging import Server, completion, running

PROMPT = [{"role": "user", "content": "May one lie?\nA. Yes\nB. No"}]


def answer(tops: dict[str, float] | list[tuple[str, float]]) -> ChatCompletion:
    pairs = tops.items() if isinstance(tops, dict) else tops
    listed = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in pairs]
    content = [{**listed[0], "top_logprobs": listed}]
    return ChatCompletion.model_validate(completion(["A"], {"content": content, "refusal": None}))


def test_a_letter_is_a_token_that_is_nothing_else() -> None:
    found = letters_in(answer({"A": 0.4, " A": 0.1, "B": 0.2, "Answer": 0.1, "a": 0.05, "C": 0.04, " ": 0.01}), 2)
    assert found == pytest.approx([0.5, 0.2])
    assert letters_in(answer({"The": 1.0}), 3) == [0, 0, 0]
    assert letters_in(ChatCompletion.model_validate(completion(["A"])), 2) is None


def test_tokens_that_read_alike_add_up() -> None:
    """A letter with and without a space before it, one byte, and vocabularies' own signs for a space."""
    alike = [
        ("A", 0.2),
        ("A", 0.1),
        (" A", 0.05),
        ("▁A", 0.04),
        ("ĠA", 0.03),
        ("B", 0.2),
        ("A.", 0.1),
        ("▁", 0.1),
        ("I", 0.1),
    ]
    assert letters_in(answer(alike), 2) == pytest.approx([0.42, 0.2])


class Says(Server):
    """Replies in turn, or a status."""

    def __init__(self, *said: Any) -> None:
        super().__init__(lambda *_: "")
        self.turns = list(said)

    def respond(self, body: dict[str, Any], text: str, key: str) -> tuple[int, str, dict[str, str]]:
        with self.lock:
            turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if isinstance(turn, int):
            return turn, json.dumps({"error": {"message": text}}), {"retry-after-ms": "1"}
        if isinstance(turn, dict):
            return 200, json.dumps(turn), {}
        return 200, json.dumps(completion(turn if isinstance(turn, list) else [turn])), {}


def endpoint(server: Server, **options: Any) -> Endpoint:
    how = {"max_requests": 100, "timeout": 5.0, "api_key_env": "OPENAI_API_KEY"} | options
    return Endpoint("m", role="model", base_url=server.url, **how)


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_server_that_knows_no_log_probabilities_is_asked_for_samples(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuma.models.endpoint.RETRIES", 0)
    with running(Says(status)) as server:
        assert offered(endpoint(server), PROMPT) == "samples"
    with running(Says("A")) as server:
        assert offered(endpoint(server), PROMPT) == "samples"  # it took the question and gave none


def test_a_server_that_fails_is_not_taken_for_one_that_knows_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cuma.models.endpoint.RETRIES", 0)
    with running(Says(500)) as server, pytest.raises(EndpointRequestError, match="500") as caught:
        offered(endpoint(server), PROMPT)
    assert caught.value.status == 500


def test_samples_are_collected_one_by_one_where_a_server_ignores_n(tmp_path: Path) -> None:
    row = {"prompt": PROMPT, "order": [1, 0], "profile": {}}
    with running(Says("A", "B. No", "I cannot say", ["A", "B", "A", "A", "A"])) as server:
        remote = RemoteModel(endpoint(server), "samples", samples=4)
        (said,) = remote.answer([row], AnswerLog(tmp_path / "log", "x"), None)
        asked = [body["n"] for body in server.bodies]
    assert asked == [4, 3, 2, 1]
    np.testing.assert_allclose(said, [0.25, 0.5])  # B is option 0; one reply named no letter


def test_more_options_than_the_server_names_tokens_are_sampled_and_the_rest_is_counted(tmp_path: Path) -> None:
    few = {"prompt": PROMPT, "order": list(range(MOST)), "profile": {}}
    many = {"prompt": [*PROMPT, *PROMPT], "order": list(range(26)), "profile": {}}
    listed = answer({"B": 0.5, "Z": 0.25, "Q": 0.125}).model_dump()
    with running(Says(listed, ["Z", "(z)", "Y. Yes", "no"])) as server:
        remote = RemoteModel(endpoint(server), "logprobs", samples=4, workers=1)
        said = remote.answer([few, many], AnswerLog(tmp_path / "log", "x"), None)
        asked = [body.get("top_logprobs") for body in server.bodies]
    assert asked == [20, None]
    assert {LETTERS[place]: said[0][place] for place in np.flatnonzero(said[0])} == pytest.approx(
        {"B": 0.5, "Q": 0.125}
    )
    assert {LETTERS[place]: said[1][place] for place in np.flatnonzero(said[1])} == {"Y": 0.25, "Z": 0.5}
    assert remote.facts([few, many], said) == {
        "answers": "logprobs", "samples": 4, "sampled_rows": 1, "beyond_top": MOST - 2, "silent": 0,
    }  # fmt: skip


def test_no_letter_at_all_is_uniform_and_has_no_mass() -> None:
    import pandas as pd

    keys = pd.DataFrame({"group": ["g", "g"], "question_id": ["q", "q"]})
    merged = merge_orders(keys, [np.zeros(4), np.array([0.4, 0.0, 0.0, 0.4])])
    np.testing.assert_allclose(merged["probabilities"][0], [0.375, 0.125, 0.125, 0.375])
    assert merged["option_mass"][0] == pytest.approx(0.4)


def test_the_log_goes_on_after_a_torn_line_and_starts_anew_for_other_questions(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "answers.jsonl"
    value = [0.1 + 0.2, 1e-300, 1 / 3]
    log = AnswerLog(file, fingerprint("questions"))
    log.put("0", value)
    log.put("1", {"nested": value})
    with file.open("a") as stream:
        stream.write('{"key": "2", "val')
    again = AnswerLog(file, fingerprint("questions"))
    assert len(again) == 2
    assert (again.get("0"), again.get("1"), again.get("2")) == (value, {"nested": value}, None)  # to the last bit
    again.put("2", value)
    assert len(AnswerLog(file, fingerprint("questions"))) == 3
    other = AnswerLog(file, fingerprint("others"))
    assert len(other) == 0
    other.close()
    assert not file.exists()
