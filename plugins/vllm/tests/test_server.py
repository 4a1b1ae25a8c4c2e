"""Over HTTP, as people ask: the replies are cuma's, nobody gets another's, bad input is a 400, and nobody is logged."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.engines import TIE
from support.server import Server, serving

CHAT, COMPLETIONS, OPINIONS = "/v1/chat/completions", "/v1/completions", "/v1/opinions"
CANARY = "Zanzibarkestrel"


@pytest.fixture(scope="module")
def server(reference: Path, cuma_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("server") / "log"
    options = ("--max-model-len", "512", "--max-num-seqs", "32", "--block-size", "32")
    with serving(reference / "server" / "adapter", cuma_python, log, *options) as running:
        yield running


@pytest.fixture(scope="module")
def expected(reference: Path) -> dict[str, Any]:
    return json.loads((reference / "server" / "expected.json").read_text())


def differs(reply: dict[str, Any], known: dict[str, Any]) -> str:
    """What is wrong with a reply, up to the first near tie; "" if nothing is."""
    choice = reply["choices"][0]
    near = [place for place, ahead in enumerate(known["ahead"]) if ahead <= TIE]
    until = near[0] if near else len(known["tokens"])
    if choice["token_ids"][:until] != known["tokens"][:until]:
        return "tokens"
    found = [token["logprob"] for token in choice["logprobs"]["content"]][:until]
    worst = max((abs(a - b) for a, b in zip(found, known["logprobs"], strict=False)), default=0.0)
    return "" if worst < 1e-3 else f"log-probabilities, by {worst}"  # other people's differ by whole units


def test_a_thousand_requests_none_lost_none_anothers(server: Server, expected: dict[str, Any]) -> None:
    """Twelve people, three long beginnings, 32 at once, each as transformers with cuma answers it alone."""
    rng = random.Random(0)
    asked = [rng.choice(expected["chat"]) for _ in range(1000)]

    def ask(known: dict[str, Any]) -> str:
        reply = server.client.post(CHAT, json={**known["body"], "return_token_ids": True})
        return differs(reply.json(), known) if reply.status_code == 200 else reply.text

    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(ask, asked))
    assert not [text for text in found if text]
    assert server.metric("vllm:prefix_cache_hits_total") > 1000, "the long beginnings were computed every time"
    assert server.idle()


def test_opinions_are_cumas(server: Server, expected: dict[str, Any]) -> None:
    people = [known["body"]["profile"] for known in expected["chat"][::9]]
    body = {"question": "May one lie to a friend?", "options": expected["opinions"]["options"], "profiles": people,
            "ordinal": True}  # fmt: skip
    reply = server.client.post(OPINIONS, json=body)
    assert reply.status_code == 200, reply.text
    for found, known in zip(reply.json()["data"], expected["opinions"]["data"], strict=True):
        assert found["probabilities"] == pytest.approx(known["probabilities"], abs=1e-5)
        assert found["option_mass"] == pytest.approx(known["option_mass"], rel=1e-4)
    assert reply.json()["population"]["probabilities"] == pytest.approx(
        expected["opinions"]["population"]["probabilities"], abs=1e-5
    )


BASE: dict[str, Any] = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 2}
VECTOR = base64.b64encode(bytes(384 * 4)).decode()
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {**BASE, "profile": {"countri": "Peru"}}, "Did you mean 'country'"),
    (CHAT, {**BASE, "profile": {"gender": "Female"}}, "Did you mean 'sex'"),
    (CHAT, {**BASE, "profile": 7}, "profile"),
    (CHAT, {**BASE, "profile": ["Peru"]}, "profile"),
    (CHAT, {**BASE, "profile": {"country": ["Peru"]}}, "profile"),
    (CHAT, {**BASE, "profile": "x" * 3000}, "2000"),
    (CHAT, {**BASE, "profil": {"country": "Peru"}}, "field profile"),
    (CHAT, {**BASE, "routing": True}, "leave it out"),
    (CHAT, {**BASE, "vllm_xargs": {"cuma_profile": "no base64!"}}, "base64"),
    (CHAT, {**BASE, "vllm_xargs": {"cuma_profile": "AAAA"}}, "whole number"),
    (CHAT, {**BASE, "vllm_xargs": {"cuma_profile": [1.0, 2.0]}}, "384"),
    (CHAT, {**BASE, "vllm_xargs": {"cuma_profile": base64.b64encode(b"\xff" * 1536).decode()}}, "NaN"),
    (CHAT, {**BASE, "vllm_xargs": {"cuma_profile": VECTOR}, "profile": {"age": 30}}, "one of them"),
    (CHAT, {**BASE, "use_beam_search": True, "n": 2}, "cuma_profile is missing"),
    (COMPLETIONS, {"prompt": "Why", "profile": {"countri": "Peru"}}, "country"),
    (OPINIONS, {"question": "Q", "options": ["a", "b"], "profiles": [{"countri": "Peru"}]}, "country"),
    (OPINIONS, {"question": "Q", "options": ["a"], "profiles": [None]}, "options"),
    (OPINIONS, {"question": "Q", "options": ["a", "b"], "profiles": [None], "routing": True}, "leave it out"),
    (OPINIONS, {"question": "Q " * 2000, "options": ["a", "b"], "profiles": [None]}, "512"),
    ("/v1/responses", {"input": "Why?"}, "cuma_profile is missing"),
    ("/v1/messages", {"max_tokens": 2, "model": "adapter", "messages": BASE["messages"]}, "cuma_profile is missing"),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_what_is_wrong_is_a_400_that_names_the_fix(number: int, server: Server) -> None:
    path, body, fix = WRONG[number]
    reply = server.client.post(path, json=body)
    assert reply.status_code == 400, reply.text
    assert fix in reply.text
    assert "Peru" not in reply.text, "the value was repeated"


def test_a_raw_vector_is_a_person(server: Server) -> None:
    """Zeros are nobody in particular, as no profile is."""
    body = {**BASE, "temperature": 0, "max_tokens": 8}
    raw, none = (
        server.client.post(CHAT, json={**body, **who}) for who in ({"vllm_xargs": {"cuma_profile": VECTOR}}, {})
    )
    assert raw.json()["choices"][0]["message"] == none.json()["choices"][0]["message"]


def test_two_hundred_odd_bodies_and_no_5xx(server: Server, expected: dict[str, Any]) -> None:
    rng = random.Random(1)
    bad = [r.status_code for r in (_odd(server, rng, expected) for _ in range(200)) if r.status_code >= 500]
    assert not bad
    assert server.client.post(CHAT, json=BASE).status_code == 200


ODD: list[Any] = [
    None,
    0,
    -1,
    1e308,
    10**400,
    True,
    "",
    "\ud800",
    "x" * 5000,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    [None],
    "NaN",
]


def _odd(server: Server, rng: random.Random, expected: dict[str, Any]) -> httpx.Response:
    """A good body with one to three fields replaced, or its bytes cut or stirred."""
    path = rng.choice([CHAT, COMPLETIONS, OPINIONS])
    body: dict[str, Any] = {
        CHAT: {**BASE, "profile": rng.choice(expected["chat"])["body"]["profile"]},
        COMPLETIONS: {"prompt": "Why", "max_tokens": 2, "profile": {"age": 30}},
        OPINIONS: {"question": "Q", "options": ["a", "b"], "profiles": [{"age": 30}, None]},
    }[path]
    for _ in range(rng.randint(1, 3)):
        body[rng.choice([*body, "vllm_xargs", "cache_salt", "profile", "messages", "logprobs", "stop"])] = rng.choice(
            ODD
        )
    raw = bytearray(json.dumps(body).encode())
    if rng.random() < 0.3:
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return server.client.post(path, content=bytes(raw), headers={"content-type": "application/json"})


def test_who_leaves_frees_its_blocks(server: Server) -> None:
    body = {**BASE, "profile": {"age": 30}, "stream": True, "max_tokens": 400, "ignore_eos": True}
    for _ in range(5):
        with server.client.stream("POST", CHAT, json=body) as reply:
            next(reply.iter_lines())
    assert server.idle()


def test_without_the_key_nobody_is_read(server: Server) -> None:
    for path in (CHAT, COMPLETIONS, OPINIONS):
        reply = server.client.post(path, json={"profile": 7}, headers={"Authorization": "Bearer wrong"})
        assert reply.status_code == 401


def test_a_request_salt_adds(server: Server) -> None:
    """The same person with another salt computes everything anew."""
    body = {**BASE, "messages": [{"role": "user", "content": "salt " * 100}], "profile": {"country": "Ghana"}}

    def cached(**more: Any) -> int:
        before = server.metric("vllm:prefix_cache_hits_total")
        assert server.client.post(CHAT, json={**body, **more}).status_code == 200
        return int(server.metric("vllm:prefix_cache_hits_total") - before)

    assert cached() == 0
    assert cached() > 0
    assert cached(cache_salt="another") == 0
    assert cached(cache_salt="another") > 0
    assert cached(profile={"country": "Togo"}) == 0


def test_nobody_is_logged_or_measured(server: Server) -> None:
    """Run last: words planted wherever a client can put one, and a person's vector, at the log level DEBUG."""
    vector = base64.b64encode(json.dumps([CANARY]).encode().ljust(1536, b"\x01")).decode()
    planted: list[tuple[str, dict[str, Any]]] = [
        (CHAT, {**BASE, "profile": {"country": CANARY}}),
        (CHAT, {**BASE, "profile": CANARY}),
        (CHAT, {**BASE, "profile": {CANARY: "x"}}),
        (CHAT, {**BASE, "profile": {"country": [CANARY]}}),
        (CHAT, {**BASE, "profile": {"country": CANARY}, "temperature": 99}),
        (CHAT, {**BASE, "profile": {"country": CANARY}, "vllm_xargs": CANARY}),
        (CHAT, {**BASE, "vllm_xargs": {"cuma_profile": vector}}),
        (COMPLETIONS, {"prompt": "Why", "max_tokens": 2, "profile": {"country": CANARY}, "n": 0}),
        (OPINIONS, {"question": "Q", "options": ["a", "b"], "profiles": [{"country": CANARY}, {"age": [CANARY]}]}),
        (f"{CHAT}?profile={CANARY}", {**BASE, "profile": {"country": CANARY}}),
    ]
    for path, body in planted:
        assert server.client.post(path, json=body).status_code < 500
    assert server.idle()
    told = server.log.read_text() + server.client.get("/metrics").text
    assert CANARY not in told
    assert vector[:40] not in told
