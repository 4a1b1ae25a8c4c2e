"""The server as a stranger meets it: load, people who leave, keys, limits, and what it writes down."""

from __future__ import annotations

import json
import logging
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cuma.errors import ServingError
from cuma.serving.engine import Capacity, Engine
from cuma.serving.guard import Keys, Rates, is_loopback
from cuma.serving.run import check_binding
from cuma.serving.service import Limits
from helpers.load import differing, measure, requests
from helpers.served import THAI, idle, serving, tiny_answerer

CHAT, OPINIONS = "/v1/chat/completions", "/v1/opinions"
KEY, OTHER = "the-first-key-of-two", "the-second-key-of-two"
BODY = {"messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 2, "profile": THAI}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[httpx2.Client, Engine]]:
    limits = Limits(max_body_bytes=20_000, max_profiles=3, requests_per_minute=0)
    with serving([tiny_answerer()], limits=limits) as (url, engine), httpx2.Client(base_url=url, timeout=60) as client:
        yield client, engine


def metric(client: httpx2.Client, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


# ---- load -----------------------------------------------------------------------------------------------------------


def test_mixed_people_at_once_get_what_each_gets_alone(served: tuple[httpx2.Client, Engine]) -> None:
    """`make load` does this with 1,000 requests."""
    client, engine = served
    bodies = requests(64, prefix_words=40, max_tokens=4)
    together, alone = measure(str(client.base_url), bodies, concurrency=32)
    assert len(together.replies) == len(bodies)
    assert differing(together, alone) == []
    texts = {reply["message"]["content"] for reply in together.replies.values()}
    assert len(texts) > len(bodies) // 2, "the people must matter, or this test says nothing"
    assert idle(engine)
    assert metric(client, "cuma_tokens_total", kind="cached") > 0


def test_a_full_queue_is_told_and_the_rest_is_answered() -> None:
    with serving([tiny_answerer()], capacity=Capacity(max_batch=1, max_queue=2)) as (url, engine):
        bodies = [BODY | {"max_tokens": 60, "n": 3}, BODY | {"max_tokens": 60, "n": 2}]
        with httpx2.Client(base_url=url, timeout=60) as client:
            first = client.post(CHAT, json=bodies[0])
            assert (first.status_code, first.json()["error"]["type"]) == (429, "rate_limit_error")
            assert int(first.headers["Retry-After"]) >= 1
            assert client.post(CHAT, json=bodies[1]).status_code == 200
        assert idle(engine)


# ---- people who leave -----------------------------------------------------------------------------------------------


LEAVERS = 50


@pytest.mark.parametrize("stream", [True, False])
def test_clients_that_leave_free_their_slots(stream: bool, served: tuple[httpx2.Client, Engine]) -> None:
    client, engine = served
    before = metric(client, "cuma_disconnects_total")
    body = json.dumps(BODY | {"max_tokens": 400, "stream": stream}).encode()
    lines = ["Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    head = "\r\n".join([f"POST {CHAT} HTTP/1.1", *lines])
    connections = []
    for _ in range(LEAVERS):
        connection = socket.create_connection((client.base_url.host, client.base_url.port))
        connection.sendall(head.encode() + body)
        connections.append(connection)
    end = time.monotonic() + 20
    while not engine.running and time.monotonic() < end:
        time.sleep(0.01)
    for connection in connections:
        connection.close()
    assert idle(engine, seconds=20)
    end = time.monotonic() + 20
    while metric(client, "cuma_disconnects_total") < before + LEAVERS and time.monotonic() < end:
        time.sleep(0.05)
    assert metric(client, "cuma_disconnects_total") == before + LEAVERS
    assert client.post(CHAT, json=BODY).status_code == 200


# ---- keys, limits, names --------------------------------------------------------------------------------------------


def test_with_keys_nothing_about_models_is_told_without_one() -> None:
    limited = serving([tiny_answerer()], keys=[KEY, OTHER], limits=Limits(requests_per_minute=3))
    with limited as (url, _), httpx2.Client(base_url=url, timeout=60) as client:
        for path in ("/v1/models", "/v1/models/tiny", "/metrics", "/openapi.json", "/nowhere"):
            assert client.get(path).status_code == 401, path
        for header in ("", "Bearer", f"Bearer {KEY}x", f"Basic {KEY}", f"Bearer {KEY[:-1]}", "Bearer \xff"):
            raw = {"Authorization": header.encode("latin-1")}
            assert client.post(CHAT, json=BODY, headers=raw).status_code == 401, header
        assert client.get("/").status_code == client.get("/health").status_code == 200
        mine, yours = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER))
        codes = [client.post(CHAT, json=BODY, headers=mine).status_code for _ in range(5)]
        assert codes == [200, 200, 200, 429, 429]
        assert client.post(CHAT, json=BODY, headers=yours).status_code == 200, "each key has a rate of its own"


def test_a_rate_fills_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("cuma.serving.guard.time.monotonic", lambda: now[0])
    rates = Rates(per_minute=2)
    assert [rates.wait("a") == 0 for _ in range(3)] == [True, True, False]
    assert rates.wait("a") == pytest.approx(30)
    assert rates.wait("b") == 0
    now[0] += 30
    assert [rates.wait("a") == 0 for _ in range(2)] == [True, False]


def test_off_this_machine_a_key_is_required() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "::", "example.org")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    with pytest.raises(ServingError, match="CUMA_API_KEY"):
        check_binding("0.0.0.0", [])
    with pytest.raises(ServingError, match="fewer than 16"):
        Keys(["short"])
    check_binding("0.0.0.0", [KEY])
    check_binding("127.0.0.1", [])


def test_a_page_elsewhere_cannot_reach_a_server_without_keys(served: tuple[httpx2.Client, Engine]) -> None:
    client, _ = served
    assert client.post(CHAT, json=BODY, headers={"Host": "evil.example"}).status_code == 421
    form = client.post(CHAT, content=json.dumps(BODY), headers={"Content-Type": "text/plain"})
    assert form.status_code == 422, "what a form can send without asking is not read as JSON"
    assert "access-control-allow-origin" not in client.options(CHAT).headers


@pytest.mark.parametrize(
    ("path", "change", "status", "words"),
    [
        (CHAT, {"messages": []}, 422, "messages"),
        (CHAT, {"profil": {}}, 422, "Did you mean 'profile'"),
        (CHAT, {"profile": {"contry": "Peru"}}, 422, "Did you mean 'country'"),
        (CHAT, {"profile": {"country": "P" * 300}}, 422, "profile"),
        (CHAT, {"profile": 5}, 422, "profile"),
        (CHAT, {"temperature": 3}, 422, "temperature"),
        (CHAT, {"model": "nobody"}, 404, "Available: tiny"),
        (CHAT, {"messages": [{"role": "user", "content": "x" * 30_000}]}, 413, "larger than 20000 bytes"),
        (CHAT, {"messages": [{"role": "user", "content": "why? " * 600}]}, 422, "at most"),
        (CHAT, {"messages": [{"role": "tool", "content": "x"}]}, 422, "role"),
        (CHAT, {"stream_options": {}}, 422, "stream: true"),
        (OPINIONS, {"profiles": [None] * 4}, 422, "one request may ask 3"),
        (OPINIONS, {"options": ["only"]}, 422, "options"),
        (OPINIONS, {"profiles": None}, 422, "population"),
        (OPINIONS, {"profiles": None, "population": [{"weight": 0}]}, 422, "every weight is 0"),
        ("/v1/completions", {"prompt": [10**7]}, 422, "vocabulary"),
        ("/v1/completions", {"prompt": ""}, 422, "empty"),
        ("/v1/nothing", {}, 404, "openapi.json"),
    ],
)
def test_bad_requests_are_refused_in_words(
    path: str, change: dict[str, Any], status: int, words: str, served: tuple[httpx2.Client, Engine]
) -> None:
    bodies = {CHAT: BODY, OPINIONS: {"question": "Tea?", "options": ["Yes", "No"], "profiles": [None]}}
    reply = served[0].post(path, json=bodies.get(path, {}) | change)
    assert reply.status_code == status
    message = reply.json()["error"]["message"]
    assert words in message
    assert not re.search(r"function-|tagged-union|constrained|\[", message)  # pydantic's own names


def test_what_is_no_json_or_no_text_is_refused(served: tuple[httpx2.Client, Engine]) -> None:
    client, kind = served[0], {"Content-Type": "application/json"}
    half = '{"messages": [{"role": "user", "content": "\\ud800"}]}'
    for content in ("{", "[]", "null", "NaN", '{"temperature": NaN}', half, b"\xff\xfe", b"", "[" * 5000):
        reply = client.post(CHAT, content=content, headers=kind)
        assert reply.status_code in (400, 422), content
        assert reply.json()["error"]["type"] == "invalid_request_error"


# ---- what is written down -------------------------------------------------------------------------------------------

CANARIES = ("Zoroastrian", "Kiribati", "kanarienvogel", "Xylophagous")


def test_planted_words_are_in_no_log_metric_trace_or_error(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Profiles, prompts, options, unknown keys, URLs and headers, on good, bad and failing requests, while every
    library is at its most talkative."""
    caplog.set_level(logging.DEBUG)
    answerer = tiny_answerer()
    profile = {"religion": CANARIES[0], "country": CANARIES[1]}
    text = f"{CANARIES[2]} {CANARIES[3]}"
    told = []
    with serving([answerer]) as (url, engine):
        logging.getLogger("uvicorn").setLevel(logging.DEBUG)
        client = httpx2.Client(base_url=url, timeout=60)
        logging.getLogger("httpx2").disabled = logging.getLogger("httpcore2").disabled = True  # the client's own
        good = {"messages": [{"role": "user", "content": text}], "profile": profile, "max_tokens": 2}
        layer = answerer.model.get_base_model().model.layers[0].mlp

        def fail(*_: Any) -> None:
            raise RuntimeError(f"cannot digest {text} of {profile}")

        def wrong(*_: Any, **__: Any) -> None:
            raise ValueError(f"nobody expected {text} of {profile}")

        assert client.post(CHAT, json=good).status_code == 200
        asked = {"question": text, "options": [CANARIES[2], "no"], "profiles": [profile, text]}
        assert client.post(OPINIONS, json=asked).status_code == 200
        assert client.post(CHAT, json=good | {CANARIES[2]: 1}).status_code == 422
        assert client.post(CHAT, json=good | {"profile": {CANARIES[2]: CANARIES[0]}}).status_code == 422
        assert client.post(f"/v1/{CANARIES[3]}?{CANARIES[0]}={CANARIES[1]}", json=good).status_code == 404
        assert client.get(f"/v1/models/{CANARIES[2]}", headers={"X": CANARIES[0]}).status_code == 404
        hook = layer.register_forward_pre_hook(fail)
        told.append(client.post(CHAT, json=good))
        told.append(client.post(OPINIONS, json=asked))
        hook.remove()
        monkeypatch.setattr("cuma.serving.service.Service.chat", wrong)
        told.append(client.post(CHAT, json=good))
        assert [reply.status_code for reply in told] == [500, 500, 500]
        written = [client.get("/metrics").text, *(reply.text for reply in told)]
        assert idle(engine)
        client.close()
    output = capfd.readouterr()
    written += [output.out, output.err, caplog.text, *(str(record.__dict__) for record in caplog.records)]
    assert "POST /v1/chat/completions 200" in caplog.text, "something must be logged, or this test says nothing"
    for words in CANARIES:
        assert not [each for each in written if words.casefold() in each.casefold()], words
