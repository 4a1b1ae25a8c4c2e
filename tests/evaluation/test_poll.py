"""What people are expected to answer: the server's numbers, asked once each, and the same bytes after a kill."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cuma.answering.answerer import Answerers
from cuma.answering.loading import Source
from cuma.cli import app
from cuma.data.surveys.survey import Question
from cuma.errors import ProfileError, RunError, UnsupportedError
from cuma.evaluation.answer_log import AnswerLog
from cuma.evaluation.poll import Poll, PollRows, kept_answers, progress_folder
from cuma.evaluation.predict import LocalModel
from cuma.people.profiles import Profile
from helpers.folders import base_folder, lora_folder, mixture_folder, run_folder
from helpers.served import serving

QUESTIONS = (
    Question("tea", "Do you like tea?", ("Yes", "No"), ordinal=False),
    Question("happy", "Are you happy?", ("Very", "Rather", "Not very", "Not at all"), ordinal=True),
)
PEOPLE = [{"country": "Peru", "age": 30}, {"country": "Japan", "age": 55}, {}, {"country": "Peru", "age": 30}]
PROFILES = [Profile.parse(person) for person in PEOPLE]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def mixture(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixture_folder(base, tmp_path_factory.mktemp("mixture"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = [{"question_id": one.id, "question": one.text, "options": "|".join(one.options)} for one in QUESTIONS]
    pd.DataFrame(rows).to_csv(tmp_path / "questions.csv", index=False)
    pd.DataFrame(PEOPLE).assign(person_id=list("abcd")).to_csv(tmp_path / "people.csv", index=False)
    return tmp_path


def words(folder: Path, target: Path, *more: str) -> list[str]:
    names = ["--questions", str(folder / "questions.csv"), "--people", str(folder / "people.csv")]
    return ["predict", str(target), *names, "--device", "cpu", *more]


@pytest.mark.parametrize("kind", ["mixture", "lora", "plain"])
def test_every_kind_of_model_says_what_the_server_says(
    kind: str, base: Path, mixture: Path, files: Path, tmp_path: Path
) -> None:
    target = {"mixture": mixture, "plain": base}.get(kind) or lora_folder(base, tmp_path / "lora")
    shown = CliRunner().invoke(app, words(files, target, "--output", str(tmp_path / "a.csv"), "--with-profile"))
    assert shown.exit_code == 0, shown.output
    found = pd.read_csv(tmp_path / "a.csv").set_index(["question_id", "person_id"])
    assert found.loc[("tea", "a"), "country"] == "Peru"
    assert pd.isna(found.loc[("tea", "c"), "country"])
    said = []
    with serving([Answerers(device="cpu").load(Source.find(str(target)))]) as (url, _):
        for question in QUESTIONS:
            body = {"question": question.text, "options": list(question.options), "profiles": PEOPLE}
            reply = httpx2.post(f"{url}/v1/opinions", json=body, timeout=120).json()
            population = pd.read_csv(tmp_path / "a-population.csv").set_index("question_id").loc[question.id]
            np.testing.assert_allclose(population["model"], reply["population"]["probabilities"], atol=1e-5)
            for person, opinion in zip("abcd", reply["data"], strict=True):
                row = found.loc[(question.id, person)]
                own = row[[f"p_{place + 1}" for place in range(len(question.options))]].to_numpy(float)
                np.testing.assert_allclose(own, opinion["probabilities"], atol=1e-5)
                assert row["option_mass"] == pytest.approx(opinion["option_mass"], abs=1e-5)
                said.append(own[0])
    assert np.isnan(found.loc[("tea", "a"), "p_3"])
    assert np.ptp(said[:3]) > 1e-3, "people must matter, or this test says nothing"


def test_people_of_one_profile_are_asked_once_whatever_the_batches(mixture: Path, tmp_path: Path) -> None:
    answerer = Answerers(device="cpu").load(mixture)
    rows = PollRows(QUESTIONS, list(dict.fromkeys(PROFILES)), in_prompt=False)
    assert len(rows) == 3 * (2 + 4) == len(rows[:])
    assert rows[7]["order"] == [1, 2, 3, 0]
    kinds = []
    for size in (2, 64):
        poll = Poll(answerer, QUESTIONS, PROFILES, batch_size=size)
        kinds.append(poll.expected(AnswerLog(tmp_path / f"{size}", poll.key()), None))
        assert len((tmp_path / f"{size}").read_text().splitlines()) == 1 + -(-18 // size)
    for one, other in zip(*kinds, strict=True):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
        assert (one.probabilities[0] == one.probabilities[3]).all()


KILLED_IN_ITS_FOURTH_BATCH = """
import os, signal, sys
from cuma.cli import app
from cuma.evaluation.predict import LocalModel
batch, left = LocalModel._batch, iter(range(3))
def three_batches(self, *args):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, *args)
LocalModel._batch = three_batches
app(sys.argv[1:])
"""


def test_a_killed_poll_goes_on_and_ends_with_the_same_bytes(
    mixture: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    assert CliRunner().invoke(app, words(files, mixture, "--output", str(whole), "--batch-size", "2")).exit_code == 0
    again = words(files, mixture, "--output", str(cut), "--batch-size", "2")
    command = [sys.executable, "-W", "ignore", "-c", KILLED_IN_ITS_FOURTH_BATCH, *again]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    log = progress_folder(cut) / "answers.jsonl"
    kept = log.read_text()
    assert len(kept.splitlines()) == 4
    assert not cut.exists()
    assert [word for word in ("Peru", "Japan", "tea", "happy", "country") if word in kept] == []
    with log.open("a") as file:
        file.write('{"key": "6", "val')  # a kill in the middle of a line
    batches, counted = LocalModel._batch, []
    monkeypatch.setattr(LocalModel, "_batch", lambda self, *args: (counted.append(1), batches(self, *args))[1])
    shown = CliRunner().invoke(app, again)
    assert shown.exit_code == 0, shown.output
    assert len(counted) == 9 - 3
    assert cut.read_bytes() == whole.read_bytes()
    estimates = [tmp_path / f"{name}-population.parquet" for name in ("whole", "cut")]
    assert estimates[0].read_bytes() == estimates[1].read_bytes()
    assert not progress_folder(cut).exists()


def interrupted(output: Path, key: str) -> None:
    with kept_answers(output, key) as log:
        log.put("0", [0.5])
        raise KeyboardInterrupt


def test_other_people_start_a_log_anew_and_a_second_writer_is_refused(mixture: Path, tmp_path: Path) -> None:
    answerer = Answerers(device="cpu").load(mixture)
    output, keys = tmp_path / "a.csv", []
    for profiles in (PROFILES, PROFILES[:2], PROFILES):
        keys.append(Poll(answerer, QUESTIONS, profiles).key())
    assert keys[0] == keys[2] != keys[1]
    with pytest.raises(KeyboardInterrupt):
        interrupted(output, keys[0])
    with kept_answers(output, keys[0]) as log:
        assert log.get("0") == [0.5]
        other = "import sys; from pathlib import Path; from cuma.runs.writer_lock import writing\n"
        other += "with writing(Path(sys.argv[1])): pass"
        command = [sys.executable, "-c", other, str(progress_folder(output))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "is in use by process" in done.stderr
    with kept_answers(output, keys[1]) as log:
        assert log.get("0") is None


def test_what_must_not_answer_people_does_not(tmp_path: Path) -> None:
    control = run_folder(tmp_path / "control", "data.shuffle_profiles=true")
    with pytest.raises(UnsupportedError, match="control"):
        Source.find(str(control))
    with pytest.raises(RunError, match="not trained yet"):
        Source.find(str(run_folder(tmp_path / "new", status="created")))


def test_a_model_that_reads_no_profile_says_so_before_anything_is_asked(base: Path, tmp_path: Path) -> None:
    semantic = mixture_folder(base, tmp_path / "semantic", router_input="semantic")
    source = Source.find(str(semantic))
    answerer = Answerers(device="cpu").load(Source(source.folder, source.adapter, source.backbone, "nowhere"))
    with pytest.raises(ProfileError, match="reads no profile"):
        Poll(answerer, QUESTIONS, PROFILES)
