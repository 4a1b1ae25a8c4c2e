"""Who may ask, how much and how often; and what is noted of a request: its route, status and time, nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from cuma.errors import ServingError
from cuma.serving.prometheus import Metrics
from cuma.serving.service import Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger("cuma.serving")

ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/opinions", "/v1/models")
OPEN = ("/", "/page.css", "/page.js", "/health")
"""Answered without a key: nothing there is about anybody."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
BODY_SECONDS = 30
"""How long a client may take to send its request."""
SHORTEST_KEY = 16
"""Characters of a key below which it could be guessed."""
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


class Keys:
    """API keys, kept as hashes and compared in constant time."""

    def __init__(self, keys: Iterable[str]) -> None:
        """Raises ServingError for a key that is too short."""
        keys = [key.strip() for key in keys if key.strip()]
        if any(len(key) < SHORTEST_KEY for key in keys):
            raise ServingError(
                f"An API key has fewer than {SHORTEST_KEY} characters. `openssl rand -hex 24` makes a good one."
            )
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def client(self, authorization: str) -> str | None:
        """Who sends this header ("Bearer …"): a name that says nothing about the key; None: nobody that we know."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        client = None
        for digest in self._digests:  # all of them, so that the time taken says nothing
            if hmac.compare_digest(given, digest):
                client = hashlib.sha256(b"client" + digest).hexdigest()[:16]
        return client if scheme.lower() == "bearer" else None


class Rates:
    """A bucket for each client that fills with `per_minute` requests a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> float:
        """Take one request; the seconds to wait if there is none."""
        if not self._per_minute:
            return 0.0
        now = time.monotonic()
        level, then = self._buckets.get(client, (float(self._per_minute), now))
        level = min(self._per_minute, level + (now - then) * self._per_minute / 60)
        self._buckets[client] = (level - 1 if level >= 1 else level, now)
        return 0.0 if level >= 1 else (1 - level) * 60 / self._per_minute


class Guard:
    """The outermost ASGI layer."""

    def __init__(self, app: Any, keys: Keys, limits: Limits, metrics: Metrics) -> None:
        self._app, self._keys, self._limits, self._metrics = app, keys, limits, metrics
        self._rates = Rates(limits.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        try:
            await self._answer(scope, receive, sending)
        except Exception as error:
            # What an exception says may be what somebody wrote; its kind is all that is noted.
            log.error("an unexpected %s while answering %s", type(error).__name__, _route(scope))
            if not status:
                await _refuse(sending, 500, "Something went wrong on the server. It is not your request's fault.")
        finally:
            seconds, route = time.monotonic() - start, _route(scope)
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            log.info("%s %s %d %.3f s", _method(scope), route, status, seconds)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if not self._keys and _host(headers.get(b"host", "")) not in LOCAL_NAMES:
            # Without a key this server is for this machine; a page elsewhere must not reach it under its own name.
            await _refuse(send, 421, "This server answers to localhost only.")
            return
        client = self._keys.client(headers.get(b"authorization", "")) if self._keys else ""
        if client is None and scope["path"] not in OPEN:
            await _refuse(send, 401, "A valid API key is needed: Authorization: Bearer KEY.", "invalid_api_key")
            return
        scope.setdefault("state", {})["client"] = client or ""
        if scope["method"] == "POST":
            wait = self._rates.wait(client or "")
            if wait:
                text = f"More than {self._limits.requests_per_minute} requests a minute. Wait {wait:.0f} s."
                await _refuse(send, 429, text, "rate_limit_exceeded", retry_after=wait)
                return
        if scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = await self._body(headers, receive, send)
        if body is not None:
            await self._app(scope, _replayed(body, receive), send)

    async def _body(self, headers: dict[bytes, str], receive: Receive, send: Send) -> bytes | None:
        """The request's body; None if it was refused, or the client left."""
        most = self._limits.max_body_bytes
        length = headers.get(b"content-length", "0")
        chunks: list[bytes] = []
        too_long = length.isdecimal() and int(length[:20]) > most
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not too_long:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunks.append(message.get("body", b""))
                    too_long = sum(map(len, chunks)) > most
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            await _refuse(send, 408, f"The request took longer than {BODY_SECONDS} s to arrive.")
            return None
        if too_long:
            await _refuse(send, 413, f"The request is larger than {most} bytes.")
            return None
        return b"".join(chunks)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach a server bound to `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def error_body(status: int, message: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def _refuse(
    send: Send, status: int, message: str, code: str | None = None, retry_after: float | None = None
) -> None:
    body = json.dumps(error_body(status, message, code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(retry_after))).encode()))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the request was not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives the body first, and then whatever comes: the client's leaving."""
    given = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


def _route(scope: Scope) -> str:
    """The route for logs and metrics. Paths and query strings are the client's words: only ours are repeated."""
    path = scope["path"]
    if path.startswith("/v1/models/"):
        return "/v1/models"
    return path if path in (*ROUTES, *OPEN, "/metrics", "/openapi.json") else "other"


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE") else "OTHER"
