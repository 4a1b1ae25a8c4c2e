"""The same real model measured in four ways: alone, as a LoRA run, as a CuMA run, and behind a server."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from typer.testing import CliRunner

from cuma.answering.materials import Materials
from cuma.cli import app
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.data.catalog import load_benchmark
from cuma.data.surveys.prompts import question_orders
from cuma.data.surveys.survey import NO_ANSWER
from cuma.errors import AdapterError, EndpointError, EndpointRequestError, RequestLimitError, RunError
from cuma.evaluation.asking import asking_of, load_model
from cuma.evaluation.collapse import evaluate_collapse
from cuma.evaluation.differences import evaluate_differences
from cuma.evaluation.evaluate import evaluate_run, evaluate_subject
from cuma.evaluation.evaluate_server import Server, evaluate_server, subject_of_server
from cuma.evaluation.gradients import evaluate_gradients, group_batches, largest_groups
from cuma.evaluation.predict import LocalModel
from cuma.evaluation.subject import Subject, subject_of_model, subject_of_run
from cuma.recipes.load import load_recipe
from cuma.runs.folder import Run, read_json
from cuma.training.train import train_run
from helpers.judging import completion, running
from helpers.served_model import ModelServer

SMALL = (
    "adapter.last_layers=1",
    "training.max_steps=4",
    "training.learning_rate=2e-2",
    "training.warmup_steps=0",
    "training.per_device_train_batch_size=4",
    "training.curve_steps=[]",
    "training.save_steps=100",
    "evaluation.batch_size=4",
)


HELD_OUT = "strong Republican"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Real respondents of four groups, one of them held out, a question: a built folder."""
    gss = load_benchmark("gss")
    sizes = gss.people["group"].value_counts()
    by_size = sorted(gss.groups, key=lambda group: -sizes[group.id])
    chosen = [group for group in by_size if group.profile.party != HELD_OUT][:3]
    chosen.append(next(group for group in by_size if group.profile.party == HELD_OUT))
    rows = []
    for group in chosen:
        for number, person in enumerate(gss.people[gss.people["group"] == group.id].head(120).to_dict("records")):
            for question in gss.questions[:1]:
                if person[question.id] != NO_ANSWER:
                    told = {"question": question.text, "options": list(question.options), "ordinal": False}
                    who = {"group": group.id, "person_id": f"{group.id} {number}", "profile": group.profile.fields}
                    rows.append({**told, "answer": int(person[question.id]), **who})
    folder = tmp_path_factory.mktemp("four-groups")
    source = folder / "mine.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    build("own", source, folder / "built", Options(holdout=(("party", HELD_OUT),)))
    return str(folder / "built")


def trained(name: str, benchmark: str, folder: Path, materials: Materials | None = None) -> Run:
    recipe = load_recipe(f"quickstart/gss/{name}", (*SMALL, f"data.benchmark={benchmark}"))
    return train_run(recipe, folder, materials)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def materials(benchmark: str) -> Materials:
    return Materials.load(load_recipe("quickstart/gss/cuma", (*SMALL, f"data.benchmark={benchmark}")))


@pytest.fixture(scope="module")
def cuma(benchmark: str, home: Path, materials: Materials) -> Subject:
    run = trained("cuma", benchmark, home / "cuma", materials)
    subject = subject_of_run(run.path)
    evaluate_subject(subject, materials)
    return subject


@pytest.fixture(scope="module")
def alone(benchmark: str, home: Path, materials: Materials) -> Subject:
    subject = subject_of_model("smollm2-135m", benchmark, "persona", home / "alone")
    evaluate_subject(subject, materials)
    return subject


@pytest.fixture(scope="module")
def routed(cuma: Subject, materials: Materials) -> Iterator[LocalModel]:
    """The CuMA run's model, ready to be served."""
    with load_model(cuma, materials) as model:
        yield asking_of(model, cuma.recipe, materials, materials.survey)


@pytest.fixture(scope="module")
def undisturbed(routed: LocalModel, benchmark: str, home: Path) -> tuple[Subject, int]:
    """The CuMA run's model behind a server, evaluated, and how many requests that took."""
    with running(ModelServer(routed)) as served:
        server = server_of(served, profile_field=True, workers=2)
        subject = subject_of_server(server, benchmark, "none", home / "undisturbed")
        evaluate_server(server, subject)
        return subject, len(served.bodies)


def table(subject: Subject) -> pd.DataFrame:
    return pd.read_parquet(subject.folder / "predictions.parquet")


def scores(subject: Subject) -> dict[str, Any]:
    return read_json(subject.folder / "scores.json")


def said(subject: Subject, column: str = "probabilities") -> np.ndarray:
    return np.stack(table(subject)[column].to_list())


def server_of(running_server: Any, **options: Any) -> Server:
    return Server(running_server.url, "the-model", **options)


# ---- what is written ------------------------------------------------------------------------------------------------


def test_a_model_that_is_no_run_gets_one_that_says_how_it_was_asked(alone: Subject, benchmark: str) -> None:
    run = Run.open(alone.run.path)
    assert (run.info["kind"], run.info["status"]) == ("measured", "evaluated")
    assert run.info["backbone"]["hub_id"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    again = load_recipe(run.path / "recipe.yaml")
    assert again == alone.recipe
    assert (again.data.profile_in, again.data.benchmark) == ("prompt", benchmark)
    found = scores(alone)
    assert found["asked"] == {"prompting": "persona", "answers": "logits", "samples": None}
    rows = table(alone)
    assert {"person", "group", "seen", "question_id", "answer", "probabilities", "option_mass", "n"} <= set(rows)
    sizes = rows.groupby(["group", "question_id"])["person"].transform("nunique")
    assert (rows["n"] == sizes).all()
    sides = [side for side in ("seen", "unseen") if side in found]
    assert sides == ["seen", "unseen"]
    for side in sides:
        assert set(found["by_question"][side]) == {question["id"] for question in found["questions"]}
        assert set(found["by_group"][side]) == set(rows[rows["seen"] == (side == "seen")]["group"])
        assert found[side]["steerability"]["value"] is not None


def test_told_nothing_a_model_says_the_same_to_everybody_and_nothing_steers_it(
    alone: Subject, benchmark: str, home: Path, materials: Materials
) -> None:
    subject = subject_of_model("smollm2-135m", benchmark, "none", home / "nothing")
    forwarded: list[int] = []
    counter = materials.backbone.model.lm_head.register_forward_hook(lambda *call: forwarded.append(len(call[-1])))
    evaluate_subject(subject, materials)
    counter.remove()
    assert sum(forwarded) == 2, "asked once in each order of the letters, not once for each group"
    rows = table(subject)
    assert "unsteered" not in rows.columns
    for _, question in rows.groupby("question_id"):
        told = np.stack(question["probabilities"].to_list())
        np.testing.assert_allclose(told, np.broadcast_to(told[0], told.shape), atol=1e-6)
    # And that is what the persona's model says when it is told nothing.
    np.testing.assert_allclose(said(alone, "unsteered"), said(subject), atol=1e-5)
    assert scores(subject)["seen"]["steerability"]["value"] is None
    shots = subject_of_model("smollm2-135m", benchmark, "few_shot", home / "shots")
    evaluate_subject(shots, materials)
    assert set(table(shots)["seen"]) == {True}  # nobody of a held-out group can be shown
    assert np.abs(said(shots) - said(subject)[: len(said(shots))]).max() > 1e-3


def test_another_persons_lora_is_measured_as_the_run_it_came_from(
    benchmark: str, home: Path, materials: Materials, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained("lora", benchmark, home / "lora", materials)
    own = subject_of_run(run.path)
    evaluate_subject(own, materials)
    shutil.copytree(run.adapter, home / "somebodys")
    (home / "somebodys" / "cuma_manifest.json").unlink()  # as PEFT saves adapters
    other = subject_of_model(str(home / "somebodys"), benchmark, "persona", home / "measured-lora")
    evaluate_subject(other, materials)
    np.testing.assert_allclose(said(other), said(own), atol=1e-5)
    assert Run.open(home / "measured-lora").info["adapter"]["peft_type"] == "LORA"
    repository = home / "models--someone--lora"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    shutil.copytree(home / "somebodys", repository / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home))
    hub = subject_of_model("someone/lora", benchmark, "persona", home / "hub-lora", batch_size=7, revision="0" * 40)
    assert hub.source.adapter == (repository / "snapshots" / ("0" * 40)).resolve()
    assert (hub.recipe.backbone.model_name_or_path, hub.recipe.backbone.revision) == ("smollm2-135m", None)
    assert (hub.recipe.evaluation.batch_size, hub.run.info["label"]) == (7, "lora (persona)")
    (home / "somebodys" / "adapter_model.safetensors").unlink()
    with pytest.raises(AdapterError, match="safetensors"):
        subject_of_model(str(home / "somebodys"), benchmark, "persona", home / "no-weights")


def test_a_mixtures_folder_is_measured_with_its_own_router(
    cuma: Subject, benchmark: str, home: Path, materials: Materials
) -> None:
    other = subject_of_model(str(cuma.run.adapter), benchmark, "none", home / "measured-cuma")
    evaluate_subject(other, materials)
    np.testing.assert_allclose(said(other), said(cuma), atol=1e-5)
    both = subject_of_run(cuma.run.path, prompting="persona")
    assert (both.recipe.data.profile_in, both.prompting) == ("both", "persona")
    evaluate_subject(both, materials)
    assert both.folder != cuma.folder
    assert np.abs(said(both) - said(cuma)).max() > 1e-3


def test_a_folder_of_another_model_is_refused(alone: Subject, benchmark: str) -> None:
    with pytest.raises(RunError, match="another run"):
        subject_of_model("smollm2-135m", benchmark, "none", alone.run.path)


# ---- behind a server ------------------------------------------------------------------------------------------------


def test_the_same_model_behind_a_server_has_the_same_scores(
    cuma: Subject, routed: LocalModel, benchmark: str, home: Path
) -> None:
    with running(ModelServer(routed)) as served:
        server = server_of(served, profile_field=True)
        subject = subject_of_server(server, benchmark, "none", home / "served")
        evaluate_server(server, subject)
        people = [body.get("profile") for body in served.bodies]
        words = ["--endpoint", served.url, "--model", "the-model", "--benchmark", benchmark, "--profile-field"]
        words += ["--output-dir", str(home / "served"), "--against", str(cuma.run.path)]
        shown = CliRunner().invoke(app, ["evaluate", *words])
        assert len(served.bodies) == len(people)  # what is finished is not asked again
    assert shown.exit_code == 0, shown.output
    assert "option probabilities from logprobs" in shown.stdout
    assert read_json(subject.folder / "differences.json")["differences"]["cuma"]["seen"]
    assert any(people)
    assert {} in people  # the questions without anybody
    assert subject.run.info["requests"] == {"sent": len(people), "failed": 0}
    assert scores(subject)["asked"] | {"host": None} == {
        "prompting": "none", "answers": "logprobs", "samples": None, "silent": 0, "host": None, "sampled_rows": 0,
        "beyond_top": 0,
    }  # fmt: skip
    np.testing.assert_allclose(said(subject), said(cuma), atol=2e-3)  # letters outside the 20 likeliest tokens count 0
    np.testing.assert_allclose(said(subject, "unsteered"), said(cuma, "unsteered"), atol=2e-3)
    for side in ("seen", "unseen"):
        one, other = (scores(each)[side]["soft_emd"]["value"] for each in (subject, cuma))
        assert one == pytest.approx(other, abs=2e-3)


def test_a_served_model_that_is_told_nothing_is_asked_once_a_question(
    routed: LocalModel, benchmark: str, home: Path
) -> None:
    with running(ModelServer(routed)) as served:
        server = server_of(served)
        subject = subject_of_server(server, benchmark, "none", home / "served-nothing")
        evaluate_server(server, subject)
        assert len(served.bodies) == 3  # a trial, then both orders of the letters
    assert table(subject)["group"].nunique() > 2


def test_samples_agree_up_to_sampling_error_and_say_so(
    cuma: Subject, routed: LocalModel, benchmark: str, home: Path
) -> None:
    with running(ModelServer(routed, logprobs=False)) as served:
        server = server_of(served, profile_field=True, samples=400)
        subject = subject_of_server(server, benchmark, "none", home / "sampled")
        evaluate_server(server, subject)
    asked = scores(subject)["asked"]
    assert (asked["answers"], asked["samples"]) == ("samples", 400)
    # Two letter orders of 400 replies each, of which the share `option_mass` names a letter.
    mass = table(cuma)["option_mass"].min()
    error = np.sqrt(0.25 / (2 * 400 * mass))
    assert np.abs(said(subject) - said(cuma)).max() < 5 * error
    assert table(subject)["option_mass"].mean() == pytest.approx(table(cuma)["option_mass"].mean(), abs=0.05)


def test_a_server_that_fails_half_way_is_asked_only_what_is_missing_and_ends_with_the_same_scores(
    routed: LocalModel, undisturbed: tuple[Subject, int], benchmark: str, home: Path
) -> None:
    whole, asked = undisturbed
    with running(ModelServer(routed)) as served:
        server = server_of(served, profile_field=True, workers=2)
        served.fail_after = asked // 2
        broken = subject_of_server(server, benchmark, "none", home / "broken")
        with pytest.raises(EndpointRequestError, match="401") as caught:
            evaluate_server(server, broken)
        assert "Democrat" not in str(caught.value)
        assert not broken.run.evaluations()
        served.fail_after = None
        before = len(served.bodies)
        evaluate_server(server, broken)
        assert 0 < len(served.bodies) - before < asked
        evaluate_server(server, broken)  # nothing is asked again
        assert len(served.bodies) - before < asked
        limited = server_of(served, profile_field=True, max_requests=3)
        bounded = subject_of_server(limited, benchmark, "none", home / "limited")
        with pytest.raises(RequestLimitError, match="max_requests=3"):
            evaluate_server(limited, bounded)
    pd.testing.assert_frame_equal(table(whole), table(broken))
    assert scores(whole) == scores(broken)
    assert not list(broken.folder.glob("*.jsonl"))


class Holding(ModelServer):
    """Keeps whoever asks waiting after `answered` requests, until `go_on` is set."""

    def __init__(self, asking: LocalModel, answered: int) -> None:
        super().__init__(asking)
        self.answered, self.go_on = answered, Event()

    def respond(self, body: dict[str, Any], text: str, key: str) -> tuple[int, str, dict[str, str]]:
        if len(self.bodies) > self.answered:
            self.go_on.wait(60)
        return super().respond(body, text, key)


def test_an_evaluation_of_a_server_killed_half_way_asks_only_what_is_missing_and_ends_with_the_same_scores(
    routed: LocalModel, undisturbed: tuple[Subject, int], benchmark: str, home: Path
) -> None:
    whole, requests = undisturbed
    with running(Holding(routed, answered=6)) as served:  # whether there are log-probabilities, and five prompts
        words = ["evaluate", "--endpoint", served.url, "--model", "the-model", "--benchmark", benchmark]
        words += ["--profile-field", "--workers", "2", "--output-dir", str(home / "killed")]
        command = [sys.executable, "-W", "ignore", "-c", "from cuma.cli import main; main()", *words]
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline, lines = time.monotonic() + 200, 0
        while (lines < 6 or len(served.bodies) < 8) and killed.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            lines = sum(len(log.read_text().splitlines()) for log in (home / "killed").rglob("answers.jsonl"))
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        served.go_on.set()
        before = len(served.bodies)
        shown = CliRunner().invoke(app, words)
        assert shown.exit_code == 0, shown.output
        assert len(served.bodies) - before == requests - 5
    (folder,) = Run.open(home / "killed").evaluations()
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "predictions.parquet"), table(whole), check_exact=True)
    assert read_json(folder / "scores.json") == scores(whole)


def test_profiles_and_peoples_answers_go_to_other_machines_only_when_that_is_said(
    benchmark: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    for prompting, field, what in (
        ("persona", False, "profiles"),
        ("few_shot", False, "answers"),
        ("none", True, "prof"),
    ):
        server = Server("https://api.example.org/v1", "m", profile_field=field)
        with pytest.raises(EndpointError, match=what):
            subject_of_server(server, benchmark, prompting, home / "remote")  # type: ignore[arg-type]
    assert not (home / "remote").exists()
    subject_of_server(Server("https://api.example.org/v1", "m"), benchmark, "none", home / "remote")
    assert "sk-secret" not in (home / "remote" / "run.json").read_text()


def test_a_model_that_never_says_a_letter_is_an_error_and_not_uniform(
    routed: LocalModel, benchmark: str, home: Path
) -> None:
    class Silent(ModelServer):
        def _answer(self, body: dict[str, Any]) -> dict[str, Any]:

            return completion(["I would rather not say."] * body["n"])

    with running(Silent(routed, logprobs=False)) as served:
        server = server_of(served, samples=2)
        with pytest.raises(EndpointError, match="hold no letter"):
            evaluate_server(server, subject_of_server(server, benchmark, "none", home / "silent"))


# ---- going on -------------------------------------------------------------------------------------------------------


KILLED_IN_ITS_THIRD_BATCH = """
import os, signal, sys
from cuma.cli import app
from cuma.evaluation.predict import LocalModel
batch, left = LocalModel._batch, iter(range(2))
def two_batches(self, *args):
    if next(left, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
    return batch(self, *args)
LocalModel._batch = two_batches
app(["evaluate", sys.argv[1]])
"""


def test_an_evaluation_killed_half_way_goes_on_and_ends_with_the_same_scores(
    cuma: Subject, materials: Materials, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(cuma.run.path, home / "again", ignore=shutil.ignore_patterns("evaluations"))
    trained_on = {**cuma.run.info["data"], "source": "what it was trained on"}
    Run.open(home / "again").update(status="trained", data=trained_on)
    killed = [sys.executable, "-W", "ignore", "-c", KILLED_IN_ITS_THIRD_BATCH, str(home / "again")]
    done = subprocess.run(killed, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    (log,) = (home / "again" / "evaluations").glob("*/answers.jsonl")
    assert len(log.read_text().splitlines()) == 3
    with log.open("a") as file:
        file.write('{"key": "8", "value": {"said": [[0.')  # a kill in the middle of a line
    batches, counted = LocalModel._batch, []
    monkeypatch.setattr(LocalModel, "_batch", lambda self, *args: (counted.append(1), batches(self, *args))[1])
    evaluate_run(home / "again", materials)
    assert len(counted) == 1
    again = subject_of_run(home / "again")
    pd.testing.assert_frame_equal(table(again), table(cuma), check_exact=True)
    assert scores(again) == scores(cuma)
    routing = [pd.read_parquet(one.folder / "routing.parquet") for one in (again, cuma)]
    pd.testing.assert_frame_equal(*routing, check_exact=True)
    assert not log.exists()
    assert again.run.info["data"] == trained_on


# ---- what follows ---------------------------------------------------------------------------------------------------


def test_runs_are_compared_in_pairs(cuma: Subject, alone: Subject) -> None:
    found = evaluate_differences(cuma, [alone.run.path], draws=200)
    assert read_json(cuma.folder / "differences.json") == found
    difference = found["differences"]["alone"]["seen"]["soft_emd"]
    one, other = (scores(each)["seen"]["soft_emd"]["value"] for each in (cuma, alone))
    assert difference["value"] == pytest.approx(one - other, abs=1e-12)
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert 0 < difference["p"] == difference["p_holm"] <= 1


def test_collapse_is_measured_from_the_predictions(alone: Subject) -> None:
    found = evaluate_collapse(alone)
    assert read_json(alone.folder / "collapse.json") == found
    assert set(found["sides"]) == {"seen", "unseen"}
    assert found["sides"]["seen"]["spread"] == scores(alone)["seen"]["spread"]


def test_batches_of_a_group_differ_by_their_people_alone(materials: Materials) -> None:
    survey = materials.survey
    group = largest_groups(survey)[0]
    batches = group_batches(survey, group, 0, in_prompt=False)
    asked = [[str(row["prompt"]) for row in rows] for rows in batches]
    assert asked[0] == asked[1] == asked[2]  # every question in every order
    assert len(set(asked[0])) == sum(len(question_orders(question)) for question in survey.with_roles(("seen",)))
    assert len({str([row["weights"] for row in rows]) for rows in batches}) == len(batches)
    for rows in batches:
        for one in (row for row in rows if row["question_id"] == rows[0]["question_id"]):
            assert sum(one["weights"]) == pytest.approx(1)
            assert sorted(one["weights"]) == sorted(rows[0]["weights"])


def test_gradients_are_compared_where_they_meet(cuma: Subject, alone: Subject, materials: Materials) -> None:
    before = {name: tensor.clone() for name, tensor in materials.backbone.model.state_dict().items()}
    found = evaluate_gradients(cuma, materials)
    assert read_json(cuma.folder / "gradients.json") == found
    assert found["n_groups"] == len(found["groups"]) >= 2
    assert found["adapter"] is None
    layer = materials.backbone.model.get_decoder().layers[-1].self_attn
    assert found["dense"]["parameters"] == layer.q_proj.weight.numel() + layer.v_proj.weight.numel()
    for kind in ("dense", "expert", "router"):
        matrix = np.array(found[kind]["cosine"])
        np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-5)
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
        assert found[kind]["between"]["value"] <= found[kind]["within"]["value"] + 0.2
    untouched = evaluate_gradients(alone, materials)
    assert untouched["expert"] is None
    assert untouched["dense"]["between"]["value"] > -1
    assert not any(parameter.requires_grad for parameter in materials.backbone.model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in materials.backbone.model.state_dict().items())
