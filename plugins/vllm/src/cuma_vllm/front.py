"""`profile` in OpenAI's requests, as `cuma serve` takes it: read, encoded, and handed to the engine as a vector.

An ASGI middleware inside vLLM's own server, behind its authentication. Bodies of other endpoints pass untouched; they
cannot be told who asks, and the engine refuses requests that do not say it.
"""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cuma_vllm.companion import Companion
from cuma_vllm.errors import CompanionError, PersonError
from cuma_vllm.person import KEY

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ROUTES = ("/v1/chat/completions", "/v1/completions")
LARGEST = 2**24
"""Bytes of a body that is read; vLLM sets no limit of its own."""
XARGS = "vllm_xargs"
ASKING = ThreadPoolExecutor(1, thread_name_prefix="cuma-companion")


class Front:
    """Rewrites the bodies of `ROUTES` where the server has a companion (`app.state.cuma_companion`)."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """ASGI."""
        companion = getattr(scope["app"].state, "cuma_companion", None) if scope["type"] == "http" else None
        if companion is None or scope["method"] != "POST" or scope["path"].rstrip("/") not in ROUTES:
            await self._app(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            await refuse(send, 413, f"The request is larger than {LARGEST} bytes.")
            return
        try:
            body = await asyncio.get_running_loop().run_in_executor(ASKING, rewritten, companion, body)
        except PersonError as error:
            await refuse(send, 400, str(error))
            return
        except CompanionError as error:
            await refuse(send, 503, str(error))
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        scope = {**scope, "headers": [*headers, (b"content-length", str(len(body)).encode())]}
        await self._app(scope, replay(body, receive), send)


def rewritten(companion: Companion, body: bytes) -> bytes:
    """A body with the vector in the place of the profile; one that is no JSON object is vLLM's to refuse.

    Raises:
        PersonError: what it says about who asks cannot be read. CompanionError: nobody there to read it.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if not isinstance(fields, dict):
        return body
    encoded(fields)
    refuse_fields(fields)
    profile = fields.pop("profile", None)
    fields.pop("routing", None)
    xargs = fields.get(XARGS) or {}
    if isinstance(xargs, dict) and KEY in xargs:
        if profile is not None:
            raise PersonError(f"profile and {XARGS}.{KEY} both say who asks. Send one of them.")
        return encoded(fields)
    messages = fields.get("messages")
    if isinstance(messages, list) and all(isinstance(message, dict) for message in messages):
        answer = companion.ask("chat", profile=profile, messages=messages)
        fields["messages"] = answer["messages"]
    else:
        answer = companion.ask("profile", profile=profile)
    if answer["vector"] is not None and isinstance(xargs, dict):
        fields[XARGS] = {**xargs, KEY: answer["vector"]}
    return encoded(fields)


def encoded(fields: dict[str, Any]) -> bytes:
    """A body's bytes. Raises PersonError for half a surrogate pair, which JSON allows and vLLM's engine does not."""
    try:
        return json.dumps(fields, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise PersonError("The body holds half of a surrogate pair, which is no text.") from None


def refuse_fields(fields: dict[str, Any]) -> None:
    """Raise a PersonError for what vLLM would ignore in silence: routing, and `profile` under a name much like it."""
    if fields.get("routing"):
        raise PersonError("routing: this engine does not tell which experts spoke; leave it out.")
    alike = difflib.get_close_matches("profile", [name for name in fields if name != "profile"], n=1, cutoff=0.8)
    if alike:
        raise PersonError("There is a field whose name is almost profile. Who asks goes into the field profile.")


async def whole_body(receive: Receive) -> bytes | None:
    """A request's body; None if it is too large. A client that left leaves what came."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > LARGEST:
            return None
        if not message.get("more_body", False):
            break
    return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives the body first and then whatever comes: the client's leaving, which frees its blocks."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def error_body(status: int, text: str) -> dict[str, Any]:
    """An error in OpenAI's form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": text, "type": kind, "param": None, "code": status}}


async def refuse(send: Send, status: int, text: str) -> None:
    """Answer with an error."""
    body = json.dumps(error_body(status, text)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
