"""What a real model writes, how varied that is, and what a judge makes of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cuma.answering.letters import SurveyTokens
from cuma.cli import EXIT_ERROR, app
from cuma.cli.evaluation_output import print_win_rate
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.catalog import load_benchmark
from cuma.data.corpus import Corpus
from cuma.errors import BenchmarkError, EndpointRequestError, InvalidVerdictsError, RunError
from cuma.evaluation import replies
from cuma.evaluation.answer_log import AnswerLog
from cuma.evaluation.predict import LocalModel
from cuma.evaluation.replies import evaluate_replies, paired, prompts, replies_of
from cuma.evaluation.subject import Subject, subject_of_model
from cuma.evaluation.win_rate import check_win_rate, evaluate_win_rate, summary
from cuma.models.backbones import load_backbone
from cuma.runs.folder import Run, read_json
from helpers.judging import Server, completion, prefers, running, serving
from helpers.paper import write_benchmark
from helpers.tiny import llama

COUNTRIES = ("Japan", "Peru", "Kenya", "India")
COUNT = 4


def built(folder: Path, numbers: range) -> str:
    """People of four countries, each with a prompt of their own and a reply that they preferred."""
    rows = [
        {
            "prompt": f"May one lie about {number} things?",
            "chosen": "It depends." if number % 2 else "Never, whatever the reason may be.",
            "rejected": "Yes.",
            "profile": {"country": COUNTRIES[number % 4]},
            "person_id": f"secret-id-{number}",
        }
        for number in numbers
    ]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    build("own", folder / "mine.jsonl", folder / "built", Options())
    return str(folder / "built")


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> str:
    return built(tmp_path_factory.mktemp("preferences"), range(60))


@pytest.fixture(scope="module")
def told(preferences: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """SmolLM2's own replies, eight tokens long."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(replies, "MAX_TOKENS", 8)
        subject = subject_of_model("smollm2-135m", preferences, "persona", tmp_path_factory.mktemp("runs") / "model")
        evaluate_replies(subject, COUNT)
    return subject


def test_prompts_are_those_of_test_people_and_say_who_asks(preferences: str) -> None:
    corpus = Corpus.open(preferences)
    asked = prompts(corpus.survey(), corpus, 100, in_prompt=True, seed=0)
    test = corpus.rows("dpo")["test"]  # type: ignore[index]
    assert len(asked) == len(test) > COUNT
    system, user = asked[0]["prompt"]
    assert system["role"] == "system"
    assert system["content"].startswith("You are a person living in")
    assert user["content"].startswith("May one lie")
    assert prompts(corpus.survey(), corpus, 3, in_prompt=False, seed=1) == prompts(
        corpus.survey(), corpus, 3, in_prompt=False, seed=1
    )
    gss = load_benchmark("gss")
    openly = prompts(gss, None, 5, in_prompt=False, seed=0)
    assert len(openly) == 5
    assert all(row["prompt"][-1]["content"].endswith(replies.OPEN) for row in openly)


def test_replies_are_the_models_own_and_name_nobody(told: Subject) -> None:
    table = replies_of(told.folder)
    assert len(table) == COUNT
    assert table["reply"].str.len().min() > 0
    assert "secret-id" not in table.to_csv()
    found = read_json(told.folder / "replies.json")
    assert (found["texts"], found["max_tokens"]) == (COUNT, 8)
    assert not list(told.folder.glob("*.jsonl"))


def test_of_world_values_bench_only_lettered_prompts_are_replied_to(tmp_path: Path) -> None:
    corpus = Corpus.open(write_benchmark("wvb", tmp_path))
    asked = prompts(corpus.survey(), corpus, 500, in_prompt=False, seed=0)
    splits = corpus.rows("sft")
    assert splits is not None
    lettered = {row["prompt"][-1]["content"] for split in splits.values() for row in split if row["form"] == "letter"}
    assert asked
    assert {row["prompt"][-1]["content"] for row in asked} <= lettered


def test_a_template_that_refuses_system_messages_is_told_who_asks_as_in_the_survey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = copy.deepcopy(load_backbone("smollm2-135m").tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    )
    model = llama()
    given = []
    monkeypatch.setattr(model, "generate", lambda **batch: given.append(batch) or batch["input_ids"])
    rows = [
        {"prompt": [{"role": "system", "content": who}, {"role": "user", "content": "What now?"}], "profile": None}
        for who in ("You are from Peru.", "You are a farmer from Peru.")
    ]
    asking = LocalModel(model, SurveyTokens(tokenizer), None)
    replies._generated(asking, rows, AnswerLog(tmp_path / "log.jsonl", "x"), "replies")
    (batch,) = given
    texts = [
        tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert texts == [f"{row['prompt'][0]['content']}\n\nWhat now?" for row in rows]
    assert not batch["attention_mask"][0, 0]  # padded on the left


def test_replying_goes_on_where_it_stopped(
    told: Subject, preferences: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def write(rows: list[dict[str, Any]], log: Any, progress: str) -> list[str]:
        for row in rows:
            if log.get(str(row["row"])) is None:
                if len(written) == 2 and not (tmp_path / "again").exists():
                    raise KeyboardInterrupt
                written.append(row["row"])
                log.put(str(row["row"]), f"reply {row['row']}")
        return [log.get(str(row["row"])) for row in rows]

    subject = subject_of_model("smollm2-135m", preferences, "none", tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        evaluate_replies(subject, COUNT, write)
    (tmp_path / "again").mkdir()
    evaluate_replies(subject, COUNT, write)
    assert len(written) == len(set(written)) == COUNT
    assert replies_of(subject.folder)["reply"].str.startswith("reply ").all()


def test_a_judge_that_always_says_a_gives_exactly_one_half(told: Subject, tmp_path: Path) -> None:
    with serving(lambda *_: "Because.\n[[A:CODE]]") as server:
        found = evaluate_win_rate(told, server.judge(tmp_path), COUNT)
    assert found["win_rate"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["position_consistency"] == 0
    assert found["against"] == "what people preferred"
    assert found["n"]["judged"] == COUNT
    assert read_json(told.folder / "win_rate.json") == found


def test_a_judge_is_shown_the_person_and_the_preferred_reply(told: Subject, tmp_path: Path) -> None:
    with serving(
        prefers(lambda reply: float(reply in ("It depends.", "Never, whatever the reason may be.")))
    ) as server:
        found = evaluate_win_rate(told, server.judge(tmp_path), COUNT)
        shown = server.shown
    assert found["win_rate"]["value"] == 0
    assert all(any(country in one["person"] for country in COUNTRIES) for one in shown)
    assert sum(group["n"] for group in found["by_group"].values()) == COUNT


@pytest.mark.parametrize("status", [429, 500])
def test_a_judge_that_fails_is_an_error_and_leaves_no_rate(
    told: Subject, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cuma.models.endpoint.RETRIES", 1)
    (told.folder / "win_rate.json").unlink(missing_ok=True)
    with serving(lambda *_: status) as server, pytest.raises(EndpointRequestError, match=str(status)):
        evaluate_win_rate(told, server.judge(tmp_path), COUNT)
    assert not (told.folder / "win_rate.json").exists()


def test_a_judge_that_talks_nonsense_is_an_error(told: Subject, tmp_path: Path) -> None:
    with serving(lambda *_: "[[A:CODE]] is better than [[B:CODE]]") as server, pytest.raises(InvalidVerdictsError):
        evaluate_win_rate(told, server.judge(tmp_path), COUNT)


def test_against_another_run_the_same_prompts_are_compared(told: Subject, preferences: str, tmp_path: Path) -> None:
    other = subject_of_model("smollm2-135m", preferences, "none", tmp_path / "other")
    evaluate_replies(other, 3, lambda rows, *_: ["marzipan"] * len(rows))
    with serving(prefers(lambda reply: float(reply == "marzipan"))) as server:
        found = evaluate_win_rate(told, server.judge(tmp_path), COUNT, Run.open(other.run.path))
    assert found["win_rate"]["value"] == 0
    assert found["against"] == "other"
    assert found["n"]["judged"] <= 3


def echo(rows: list[dict[str, Any]], *_: Any) -> list[str]:
    """A model that repeats what it is asked."""
    return [f"Do you ask: {row['prompt'][-1]['content']}" for row in rows]


def test_a_run_on_other_data_is_compared_where_its_prompts_are_the_same(preferences: str, tmp_path: Path) -> None:
    """Its rows have other numbers; a prompt is known by what it says and who asks it."""
    longer = built(tmp_path, range(-40, 60))
    mine = subject_of_model("smollm2-135m", preferences, "persona", tmp_path / "mine")
    other = subject_of_model("smollm2-135m", longer, "none", tmp_path / "other")
    evaluate_replies(mine, 100, lambda rows, *_: ["marzipan"] * len(rows))
    evaluate_replies(other, 100, echo)
    with serving(prefers(lambda reply: float(reply == "marzipan"))) as server:
        found = evaluate_win_rate(mine, server.judge(tmp_path), 100, other.run)
        shown = server.shown
    assert 0 < found["n"]["judged"] < len(replies_of(mine.folder))
    for one in shown:
        assert f"Do you ask: {one['prompt'][-1]['content']}" in (one["reply A"], one["reply B"])


def test_a_run_without_replies_to_these_prompts_is_refused_before_anything_is_written(
    preferences: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "_on_this_machine", lambda _: pytest.fail("it is too early for that"))
    strangers = built(tmp_path, range(100, 160))
    other = subject_of_model("smollm2-135m", strangers, "persona", tmp_path / "other")
    evaluate_replies(other, 100, echo)
    with serving(lambda *_: "[[A:CODE]]") as server:
        words = ["evaluate", "smollm2-135m", "--benchmark", preferences, "--output-dir", str(tmp_path / "mine")]
        words += ["--replies", "100", "--judge", "tiny", "--judge-url", server.url, "--against", str(other.run.path)]
        result = CliRunner().invoke(app, words)
    assert result.exit_code == EXIT_ERROR
    assert "answers a prompt that is asked here" in result.stderr
    assert not server.bodies


def test_old_replies_do_not_say_what_they_answer_until_the_command_runs_again(
    preferences: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (subject_of_model("smollm2-135m", preferences, "none", tmp_path / name) for name in ("mine", "other"))
    for one in (mine, other):
        evaluate_replies(one, COUNT, echo)
    file = other.folder / "replies.parquet"
    whole = pd.read_parquet(file)
    whole.drop(columns="prompt_hash").to_parquet(file)
    with serving(lambda *_: "[[A:CODE]]") as server:
        with pytest.raises(RunError, match="do not say which prompts"):
            evaluate_win_rate(mine, server.judge(tmp_path), COUNT, other.run)
        evaluate_replies(other, COUNT, lambda *_: pytest.fail("they are there already"))
        assert pd.read_parquet(file)[list(whole)].equals(whole)
        assert evaluate_win_rate(mine, server.judge(tmp_path), COUNT, other.run)["n"]["judged"] == COUNT
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path / "elsewhere"))
    with pytest.raises(RunError, match="another machine"):  # whose secret is another: no guess can be checked there
        check_win_rate(mine, server.judge(tmp_path), COUNT, other.run)


def test_one_command_replies_and_judges(
    told: Subject, preferences: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "MAX_TOKENS", 8)
    monkeypatch.setattr("cuma.judge.judge.cache_folder", lambda: tmp_path)
    monkeypatch.setattr(replies, "_on_this_machine", lambda _: pytest.fail("these replies are there already"))
    with serving(lambda *_: "[[A:CODE]]") as server:
        words = ["evaluate", "smollm2-135m", "--benchmark", preferences, "--output-dir", str(told.run.path)]
        words += ["--replies", str(COUNT), "--judge", "tiny", "--judge-url", server.url]
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert f"{COUNT} replies" in result.stdout
    assert "Win rate: of the replies to fewer than 11 people, too few to show." in result.stdout
    assert read_json(told.folder / "win_rate.json")["win_rate"]["value"] == 0.5


def test_a_win_rate_is_shown_over_enough_people_only(capsys: pytest.CaptureFixture[str]) -> None:
    rate = {"value": 0.123, "low": 0.1, "high": 0.2}
    found = {
        "against": "them", "judge": "tiny", "win_rate": rate, "length_controlled_win_rate": rate, "p": 0.5,
        "position_consistency": 1.0, "invalid": 0, "failures": 0, "requests": 22, "n": {"judged": 11, "people": 11},
    }  # fmt: skip
    print_win_rate(found)
    assert "Win rate against them, by tiny: 0.123 [0.100, 0.200]" in capsys.readouterr().out
    print_win_rate({**found, "n": {"judged": 10, "people": 10}})
    shown = capsys.readouterr().out
    assert "too few to show" in shown
    assert "0.123" not in shown


class Replies(Server):
    """A model that says one thing."""

    def __init__(self) -> None:
        super().__init__(lambda *_: "")

    def respond(self, *_: Any) -> tuple[int, str, dict[str, str]]:
        return 200, json.dumps(completion(["Perhaps."])), {}


def elsewhere(server: Server) -> str:
    """The server's address, as one that is not this machine's loopback."""
    return server.url.replace("127.0.0.1", "0.0.0.0")


@pytest.fixture
def two_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUMA_CACHE", str(tmp_path))
    monkeypatch.setenv("MODEL_KEY", "of-the-model")
    monkeypatch.setenv("JUDGE_KEY", "of-the-judge")


@pytest.mark.usefixtures("two_keys")
def test_model_and_judge_get_their_own_key_and_their_own_consent(preferences: str, tmp_path: Path) -> None:
    with running(Replies()) as model, serving(lambda *_: "[[A:CODE]]") as judge:
        words = ["evaluate", "--endpoint", elsewhere(model), "--model", "m", "--api-key-env", "MODEL_KEY"]
        words += ["--benchmark", preferences, "--output-dir", str(tmp_path / "run"), "--send-profiles"]
        words += ["--replies", "3", "--judge", "tiny", "--judge-url", elsewhere(judge), "--judge-key-env", "JUDGE_KEY"]
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == EXIT_ERROR
        assert "--judge-send-profiles" in refused.stderr
        assert not model.bodies + judge.bodies  # before anything is asked
        done = CliRunner().invoke(app, [*words, "--judge-send-profiles"])
        assert done.exit_code == 0, done.output
    assert set(model.keys) == {"Bearer of-the-model"}
    assert set(judge.keys) == {"Bearer of-the-judge"}


@pytest.mark.usefixtures("two_keys")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--judge m --judge-key-env NOT_SET", "NOT_SET is not set"),
        ("--judge m --judge-key-env JUDGE_KEY --judge-send-profiles --against no/such/run", "no run.json"),
        ("--judge m --judge-key-env JUDGE_KEY --benchmark gss", "--against"),  # nobody preferred anything
    ],
)
def test_what_would_keep_replies_from_being_judged_is_told_before_they_are_written(
    words: str, message: str, preferences: str, tmp_path: Path
) -> None:
    with running(Replies()) as model:
        fixed = ["evaluate", "--endpoint", model.url, "--model", "m", "--benchmark", preferences, "--replies", "3"]
        fixed += ["--output-dir", str(tmp_path / "run"), "--judge-url", "http://0.0.0.0:1/v1", "--judge-send-profiles"]
        result = CliRunner().invoke(app, [*fixed, *words.split()])
    assert result.exit_code == EXIT_ERROR
    assert message in result.stderr
    assert not model.bodies


def test_what_has_nothing_to_be_compared_with_is_refused() -> None:
    alone = pd.DataFrame({"row": [0], "person": [0], "group": ["g"], "reply": ["x"], "chosen": [None]})
    with pytest.raises(BenchmarkError, match="--against"):
        paired(alone, None)


def test_intervals_draw_people_with_all_their_pairs() -> None:
    table = pd.DataFrame({"person": [n // 10 for n in range(200)], "group": "g", "reply": "same", "reference": "long"})
    scores = tuple(float(n // 10 % 2) for n in range(200))  # a person's ten pairs agree: twenty people, not two hundred
    found = summary(table, scores)
    assert found["win_rate"]["value"] == 0.5
    assert found["win_rate"]["high"] - found["win_rate"]["low"] > 0.3
    assert found["n"] == {"pairs": 200, "judged": 200, "people": 20}
    assert found["p"] > 0.5
    assert summary(table, (*scores[:-1], None))["n"]["judged"] == 199
