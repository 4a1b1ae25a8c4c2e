"""500 bodies that schemathesis makes from the server's own OpenAPI document, allowed and not: never a 5xx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from starlette.testclient import TestClient

from cuma.serving.app import build_app
from cuma.serving.engine import Engine
from cuma.serving.service import Limits
from helpers.served import idle, tiny_answerer

ENDPOINTS = {"/v1/chat/completions": 170, "/v1/completions": 170, "/v1/opinions": 160}
"""Path → bodies."""
NEVER = settings(
    database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine([tiny_answerer()]) as running:
        yield running


@pytest.mark.parametrize("path", ENDPOINTS)
def test_no_body_makes_the_server_fail(path: str, engine: Engine) -> None:
    application = build_app(engine, limits=Limits(max_tokens=2, max_profiles=3, requests_per_minute=0))
    document = schemathesis.openapi.from_asgi("/openapi.json", application, headers={"Host": "localhost"})
    operation = document[path]["POST"]
    statuses: Counter[int] = Counter()
    with TestClient(application, base_url="http://localhost", raise_server_exceptions=False) as client:
        for mode, share in ((schemathesis.GenerationMode.POSITIVE, 0.5), (schemathesis.GenerationMode.NEGATIVE, 0.5)):
            count = int(ENDPOINTS[path] * share)

            @seed(0)
            @settings(NEVER, max_examples=count)
            @given(case=operation.as_strategy(generation_mode=mode))
            def bodies(case: Any) -> None:
                reply = case.call(session=client, headers={"Host": "localhost"})
                statuses[reply.status_code] += 1
                assert reply.status_code < 500, reply.text
                if reply.status_code >= 400:
                    assert reply.json()["error"]["message"]

            bodies()
    assert sum(statuses.values()) >= ENDPOINTS[path] * 0.9
    assert statuses[200] > 0, "some bodies must be good, or this test says little"
    assert statuses[422] > 0
    assert idle(engine)
    assert engine.failures == 0
