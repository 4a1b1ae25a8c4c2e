"""The process that another engine asks: the same vectors, prompts and refusals as cuma's own server has."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cuma.data.surveys.prompts import NO_PERSONA
from cuma.models.backbones import load_backbone
from cuma.people.profiles import Profile
from cuma.serving.companion import Companion
from cuma_vllm.companion import Companion as Client
from cuma_vllm.companion import command_of
from cuma_vllm.errors import CompanionError, PersonError
from cuma_vllm.front import encoded, refuse_fields, rewritten
from cuma_vllm.person import KEY
from helpers.served import encoder
from helpers.tiny import adapted, llama

JAPAN = {"country": "Japan", "age": 30}
SECRET = "Zanzibarkestrel"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on SmolLM2 by name; no weights of it are ever loaded here."""
    folder = tmp_path_factory.mktemp("companion") / "adapter"
    base = llama()
    base.name_or_path = base.config._name_or_path = "smollm2-135m"
    adapted(base, profile_dim=encoder().dim, profile_encoder=dict(encoder().spec)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def companion(adapter: Path) -> Companion:
    return Companion(str(adapter))


def vector(answer: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(answer["vector"]), dtype="<f4")


def test_it_says_what_is_served_and_loads_no_model(companion: Companion, adapter: Path) -> None:
    hello = companion.hello()
    assert hello["adapter"] == str(adapter.resolve())
    assert (Path(hello["base"]) / "model.safetensors").is_file()
    assert hello["chat_template"] == load_backbone("smollm2-135m").tokenizer.chat_template
    assert companion._answerer.model is None


@pytest.mark.parametrize("who", [JAPAN, "A fisherman", None, "", {}, {"country": None}, json.dumps(JAPAN)])
def test_the_vectors_are_the_encoders(companion: Companion, who: Any) -> None:
    answer = companion.ask({"op": "profile", "profile": who})
    assert np.array_equal(vector(answer), encoder()([Profile.parse(who)])[0].numpy())


@pytest.mark.parametrize("who", [7, [], [JAPAN], {"countri": SECRET}, {"country": [SECRET]}, SECRET * 400, True])
def test_wrong_profiles_are_refused_without_repeating_them(companion: Companion, who: Any) -> None:
    refusal = companion.ask({"op": "profile", "profile": who})["refused"]
    assert "profile" in refusal
    assert SECRET not in refusal
    assert "function-" not in refusal


def test_a_conversation_stays_what_it_is_where_the_router_reads_the_person(companion: Companion) -> None:
    messages = [{"role": "developer", "content": NO_PERSONA}, {"role": "user", "content": "Why?", "name": "x"}]
    answer = companion.ask({"op": "chat", "profile": JAPAN, "messages": messages})
    assert answer["messages"] == [{"role": "system", "content": NO_PERSONA}, messages[1]]


def test_where_the_prompt_says_who_asks_a_persona_comes_first(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Companion(str(adapter))
    object.__setattr__(told._answerer.source, "profile_in", "both")
    answer = told.ask({"op": "chat", "profile": JAPAN, "messages": [{"role": "user", "content": "Why?"}]})
    assert answer["messages"][0] == {"role": "system", "content": "You are a 30-year-old person living in Japan."}
    assert vector(answer).any()


def test_opinions_add_up(companion: Companion) -> None:
    """Two people, three orders each; where A is likeliest in each order, everybody is indifferent."""
    body = {"question": "Why?", "options": ["a", "b", "c"], "profiles": [JAPAN, None]}
    put = companion.ask({"op": "opinions", "body": body})
    assert len(put["prompts"]) == len(put["vectors"]) == 6
    assert put["vectors"][0] == put["vectors"][2] != put["vectors"][3]
    tokenizer = load_backbone("smollm2-135m").tokenizer
    assert [tokenizer.decode([letter]) for letter in put["letters"]] == ["A", "B", "C"]
    logprobs = [np.log([0.4, 0.2, 0.2]).tolist()] * 6
    reply = companion.ask({"op": "shares", "body": body, "logprobs": logprobs})["reply"]
    assert reply["population"]["probabilities"] == pytest.approx([1 / 3] * 3)
    assert [entry["option_mass"] for entry in reply["data"]] == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(
    ("body", "told"),
    [([], "body"), ({"question": "Q"}, "options"), ({"profils": [SECRET]}, "profils: there is no such field"),
     ({"question": "Q", "options": ["a", "b"], "profiles": [None] * 65}, "64"),
     ({"question": "Q", "options": ["a", "b"], "profiles": [None], "routing": True}, "routing")],
)  # fmt: skip
def test_wrong_questions_are_refused(companion: Companion, body: Any, told: str) -> None:
    refusal = companion.ask({"op": "opinions", "body": body})["refused"]
    assert told in refusal
    assert SECRET not in refusal


# ---- from the other side: the plug-in's client and front, which know no vLLM ----------------------------------------


@pytest.fixture(scope="module")
def client(adapter: Path) -> Any:
    running = Client(command_of(sys.executable, str(adapter)))
    yield running
    running.close()


def test_a_body_gets_the_vector_in_the_place_of_the_profile(client: Client) -> None:
    body = {"messages": [{"role": "user", "content": "Why? \u00e4"}], "profile": JAPAN, "vllm_xargs": {"other": 1}}
    fields = json.loads(rewritten(client, json.dumps(body).encode()))
    assert "profile" not in fields
    assert fields["messages"] == body["messages"]
    assert fields["vllm_xargs"]["other"] == 1
    found = np.frombuffer(base64.b64decode(fields["vllm_xargs"][KEY]), dtype="<f4")
    assert np.array_equal(found, encoder()([Profile(**JAPAN)])[0].numpy())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'"profile"', b"[" * 10**5])
def test_what_is_no_object_is_left_to_vllm(client: Client, body: bytes) -> None:
    assert rewritten(client, body) == body


@pytest.mark.parametrize(
    "fields",
    [{"profil": 1}, {"Profile": 1}, {"profiles": 1}, {"routing": True}, {"vllm_xargs": {KEY: ""}, "profile": ""}],
)
def test_what_vllm_would_ignore_is_refused(client: Client, fields: dict[str, Any]) -> None:
    with pytest.raises(PersonError):
        rewritten(client, json.dumps({"prompt": "Why?", **fields}).encode())


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(PersonError, match="surrogate"):
        encoded({"prompt": "\ud800"})
    refuse_fields({"profile": 1, "prompt": "x", "routing": False})


def test_a_companion_that_died_comes_back(client: Client) -> None:
    client._process.kill()
    client._process.wait()
    assert client.ask("profile", profile=JAPAN)["vector"]


def test_what_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(CompanionError, match="--cuma-python"):
        Client(["/nowhere/python"])
    with pytest.raises(CompanionError, match=r"run\.json|run"):
        Client(command_of(sys.executable, str(tmp_path)))


def test_nothing_is_written_and_input_that_ends_ends_it(adapter: Path) -> None:
    lines = json.dumps({"id": 1, "op": "profile", "profile": {"country": SECRET}}) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "cuma.serving.companion", str(adapter)], input=lines, capture_output=True, text=True,
        timeout=200, check=True,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == 2
    assert SECRET not in done.stdout + done.stderr
