"""The server: OpenAI's endpoints with a profile, opinions, the page, health and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

import cuma
from cuma.answering.answerer import Answerer
from cuma.people.profiles import FIELDS
from cuma.serving import openai_forms
from cuma.serving.engine import Engine
from cuma.serving.generation import Order
from cuma.serving.guard import Guard, Keys, error_body
from cuma.serving.opinions import Opinion, reply_of
from cuma.serving.prometheus import CONTENT_TYPE, Metrics
from cuma.serving.refusals import REFUSALS, add_errors, refusals
from cuma.serving.schemas import ChatRequest, CompletionRequest, Generating, OpinionsRequest
from cuma.serving.service import Limits, Service
from cuma.serving.stream import FAILURES, EventStream, Writing, collected, unless_gone

T = TypeVar("T")
PAGE = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STARTED = int(time.time())


def build_app(engine: Engine, *, limits: Limits | None = None, keys: Sequence[str] = ()) -> FastAPI:
    """The server over a running engine. With `keys`, every request but those for the page and /health needs one.

    Raises ServingError for a key that is too short.
    """
    service, metrics = Service(engine, limits), Metrics(engine)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.prepare.shutdown(cancel_futures=True)

    app = FastAPI(
        title="cuma", version=cuma.__version__, lifespan=life, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="An OpenAI-compatible server whose requests may say who asks.",
    )  # fmt: skip
    add_errors(app)
    _add_pages(app, service, metrics)
    _add_generation(app, service, metrics)
    _add_opinions(app, service, metrics)
    app.add_middleware(Guard, keys=Keys(keys), limits=service.limits, metrics=metrics)
    return app


# ---- the page, models, health, metrics ------------------------------------------------------------------------------


def _add_pages(app: FastAPI, service: Service, metrics: Metrics) -> None:
    for path, (name, kind) in PAGE.items():
        app.add_api_route(path, _file(name, kind), include_in_schema=False, response_class=Response)

    @app.get("/health", responses=refusals(503))
    async def health() -> Response:
        """Whether the server can answer, and how busy it is."""
        engine = service.engine
        status = {"status": "ok" if engine.alive else "failed", "version": cuma.__version__}
        return JSONResponse(
            {**status, "running": engine.running, "waiting": engine.waiting}, 200 if engine.alive else 503
        )

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/v1/models", responses=refusals(401, 421))
    async def models() -> dict[str, Any]:
        """The models, with what the page needs to know of each."""
        found = [
            _described(answerer, STARTED, service.limits.max_tokens) for answerer in service.engine.answerers.values()
        ]
        return {"object": "list", "data": found}

    @app.get("/v1/models/{name}", responses=refusals(401, 404, 421, 422))
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        return _described(service.answerer(name), STARTED, service.limits.max_tokens)


def _described(answerer: Answerer, created: int, max_tokens: int) -> dict[str, Any]:
    """An entry of /v1/models. `cuma` holds what the run recorded of the people that it was trained on, as its model
    card does: questions, the values of profile fields, and groups large enough to be named."""
    source, config = answerer.source, answerer.config
    population = source.card
    return {
        "id": answerer.name,
        "object": "model",
        "created": created,
        "owned_by": "cuma",
        "cuma": {
            "label": source.info.get("label", answerer.name),
            "base_model": answerer.backbone.name if source.info else answerer.backbone.name.rpartition("/")[2],
            "profile_in": source.profile_in,
            "profile_fields": list(FIELDS) if answerer.reads_profile else [],
            "field_values": population.get("profile_fields", {}),
            "people": population.get("profiles", []),
            "questions": [
                {key: question[key] for key in ("text", "options", "ordinal")}
                for question in population.get("questions", [])
            ],
            "experts": config.num_experts if config else 0,
            "max_tokens": max_tokens,
            "top_k": config.top_k if config else 0,
        },
    }


def _file(name: str, kind: str) -> Callable[[], Any]:
    """A handler that answers with one of the page's files."""
    content = (files("cuma.serving") / "page" / name).read_bytes()

    async def handler() -> Response:
        return Response(content, media_type=kind, headers={"Content-Security-Policy": PAGE_POLICY})

    return handler


# ---- chat and completions -------------------------------------------------------------------------------------------


def _client(request: Request) -> str:
    return str(request.scope["state"]["client"])


Client = Annotated[str, Depends(_client)]


def _add_generation(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.post("/v1/chat/completions", responses=REFUSALS)
    async def chat(request: Request, body: ChatRequest, client: Client) -> Response:
        """Go on with a conversation, as a model that knows who asks."""
        orders = await _prepared(service, service.chat, body, client)
        return await _generate(request, service, metrics, body, orders, "chat.completion")

    @app.post("/v1/completions", responses=REFUSALS)
    async def completions(request: Request, body: CompletionRequest, client: Client) -> Response:
        """Go on with a text."""
        orders = await _prepared(service, service.completions, body, client)
        return await _generate(request, service, metrics, body, orders, "text_completion")


async def _prepared(service: Service, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(service.prepare, function, *arguments)


async def _generate(
    request: Request, service: Service, metrics: Metrics, body: Generating, orders: list[Order], kind: str
) -> Response:
    form = openai_forms.Form(orders[0].answerer, kind, orders[0].top_logprobs is not None, body.choices)
    writing = Writing(service.engine, orders, metrics)
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return EventStream(writing, form, with_usage)
    try:
        done = await unless_gone(request.receive, collected(writing))
    finally:
        writing.cancel()
    if done is None:
        metrics.disconnects.inc()
        return Response(status_code=499)  # nobody reads it; nginx's number for a client that left
    failed = [draft.end.reason for draft in done if draft.end and draft.end.reason in ("error", "cancelled")]
    if failed:
        status = 500 if "error" in failed else 503
        return JSONResponse(error_body(status, FAILURES[failed[0]]), status)
    return JSONResponse(form.whole(done))


# ---- opinions -------------------------------------------------------------------------------------------------------


def _add_opinions(app: FastAPI, service: Service, metrics: Metrics) -> None:
    @app.post("/v1/opinions", responses=REFUSALS)
    async def opinions(request: Request, body: OpinionsRequest) -> Response:
        """How people would answer a closed question: option probabilities for each, and for the population."""
        asking = await _prepared(service, service.asking, body)

        async def answer() -> list[Opinion]:
            done: list[Any] = []
            for part in asking.parts():
                done += await asyncio.wrap_future(service.engine.call(part, admitted=bool(done)))
            return asking.opinions(done)

        answers = await unless_gone(request.receive, answer())
        if answers is None:
            metrics.disconnects.inc()
            return Response(status_code=499)
        metrics.people.labels(asking.answerer.name).inc(asking.people)
        return JSONResponse(reply_of(asking.answerer.name, body, answers))
