"""Prometheus metrics of the server. Labels are routes, models and status codes: nothing that somebody wrote."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cuma.serving.engine import Engine
from cuma.serving.generation import Ended

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's counters, in a registry of its own."""

    def __init__(self, engine: Engine) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "cuma_requests", "Requests answered", ["route", "status"], registry=registry
        )  # exposed as cuma_requests_total
        self.seconds = Histogram(
            "cuma_request_seconds", "Time to the end of the answer", ["route"], buckets=SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "cuma_first_token_seconds", "Time to a reply's first token", buckets=SECONDS, registry=registry
        )
        self.tokens = Counter("cuma_tokens", "Tokens, by kind", ["model", "kind"], registry=registry)
        self.disconnects = Counter("cuma_disconnects", "Clients that left before the end", registry=registry)
        self.people = Counter("cuma_opinions", "People asked for their opinion", ["model"], registry=registry)
        Gauge("cuma_running", "Replies being written", registry=registry).set_function(lambda: engine.running)
        Gauge("cuma_waiting", "Requests in the queue", registry=registry).set_function(lambda: engine.waiting)
        Gauge("cuma_cache_bytes", "Keys and values in memory", registry=registry).set_function(lambda: engine.bytes)
        Gauge("cuma_failures", "Forwards that raised", registry=registry).set_function(lambda: engine.failures)

    def ended(self, model: str, end: Ended) -> None:
        """Count a reply's tokens."""
        for kind, count in (
            ("prompt", end.prompt_tokens - end.cached_tokens),
            ("cached", end.cached_tokens),
            ("completion", end.completion_tokens),
        ):
            self.tokens.labels(model, kind).inc(count)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
