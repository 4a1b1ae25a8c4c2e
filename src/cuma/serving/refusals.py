"""Errors in OpenAI's form. Their texts name fields and kinds, never a value, which may be about a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cuma.errors import BusyError, CumaError, UnknownModelError, suggestion
from cuma.serving.guard import error_body
from cuma.serving.schemas import UNSUPPORTED, ChatRequest, CompletionRequest, OpinionsRequest, Strict

STATUSES: dict[type[CumaError], int] = {BusyError: 429, UnknownModelError: 404}
"""Errors of ours that are no plain 422."""
BODIES: dict[str, type[Strict]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/opinions": OpinionsRequest,
}
"""What each endpoint takes, to say which fields there are."""
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text}
    for status, text in (
        (401, "No valid API key"), (404, "No such model"), (408, "The request came too slowly"), (413, "Too large"),
        (421, "Not under this name"), (422, "Not a valid request"), (429, "Too many requests"),
        (500, "The server failed"), (503, "The server is going down"),
    )
}  # fmt: skip


def add_errors(app: FastAPI) -> None:
    """Let the app answer in OpenAI's form whatever goes wrong."""

    @app.exception_handler(CumaError)
    async def ours(_: Request, error: CumaError) -> JSONResponse:
        status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 422)
        code = "model_not_found" if status == 404 else None
        headers = {"Retry-After": "1"} if status == 429 else None
        return JSONResponse(error_body(status, _clean(str(error)), code), status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = tuple(BODIES[request.url.path].model_fields) if request.url.path in BODIES else ()
        told = problems(error.errors(), fields)
        return JSONResponse(error_body(422, told, param=told.partition(":")[0] or None), 422)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        body = error_body(error.status_code, f"{error.detail}. The endpoints are listed in /openapi.json.")
        return JSONResponse(body, error.status_code, error.headers)


def problems(errors: Sequence[Any], fields: tuple[str, ...] = ()) -> str:
    """What pydantic found wrong, in one sentence without any value. fields: what the body may hold."""
    return "; ".join([_problem(entry, fields) for entry in errors][:5]) + "."


def _problem(entry: dict[str, Any], fields: tuple[str, ...]) -> str:
    """One thing that is wrong: where and what, never the value, which may be about a person.

    Of the place only what a client wrote is told: pydantic puts its names of alternatives ("function-after[…]") there.
    """
    place = [str(part) for part in entry["loc"] if "[" not in str(part)] or ["body"]
    name = place[-1]
    if entry["type"] == "extra_forbidden" and name not in UNSUPPORTED and len(place) == 2 and fields:
        return _clean(f"{name}: there is no such field. {suggestion(name, fields)}").rstrip(".")
    where = ".".join(part for part in place if part != "body") or "the body"
    unknown = "this server cannot do that; leave it out" if name in UNSUPPORTED else "there is no such field"
    what = {"extra_forbidden": unknown, "json_invalid": "not valid JSON"}.get(
        entry["type"], entry["msg"].removeprefix("Value error, ")
    )
    return _clean(f"{where}: {what}").rstrip(".")


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:1000]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For an endpoint's documentation."""
    return {status: REFUSALS[status] for status in statuses}
