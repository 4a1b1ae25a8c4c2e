"""Replies on their way to the client: events from the engine's thread, and what happens when the client leaves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Response

from cuma.serving import openai_forms
from cuma.serving.engine import Engine
from cuma.serving.generation import Ended, Event, Generation, Order, TokenText
from cuma.serving.guard import Receive, Scope, Send, error_body
from cuma.serving.prometheus import Metrics

T = TypeVar("T")
FAILURES = {
    "error": "The model failed while it was writing. It is not your request's fault; it was not kept.",
    "cancelled": "The server is going down.",
}


async def collected(writing: Writing) -> list[openai_forms.Draft]:
    """All choices, whole."""
    drafts = [openai_forms.Draft() for _ in range(writing.count)]
    async for index, event in writing.events():
        if isinstance(event, TokenText):
            drafts[index].tokens.append(event)
        else:
            drafts[index].end = event
    return drafts


class Writing:
    """The choices of one request while the engine writes them, as events on the server's loop.

    Raises BusyError when the queue is full.
    """

    def __init__(self, engine: Engine, orders: Sequence[Order], metrics: Metrics) -> None:
        self.metrics, self._model, self._start = metrics, orders[0].answerer.name, time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.count = len(orders)
        tells = [self._teller(index) for index in range(len(orders))]
        self._generations: list[Generation] = engine.submit(orders, tells)

    def _teller(self, index: int) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (index, event))

        return tell

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """(choice, event) until every choice has ended."""
        open_choices, first = self.count, True
        while open_choices:
            index, event = await self._queue.get()
            if first:
                self.metrics.first_token.observe(time.monotonic() - self._start)
                first = False
            if isinstance(event, Ended):
                open_choices -= 1
                self.metrics.ended(self._model, event)
            yield index, event

    def cancel(self) -> None:
        """Nobody listens any more."""
        for generation in self._generations:
            generation.cancel()


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of `work`; None, with `work` cancelled, if the client leaves before."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_until_gone(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A reply as server-sent events. Starlette's own leaves it to the transport to notice that the client has gone."""

    def __init__(self, writing: Writing, form: openai_forms.Form, with_usage: bool) -> None:
        super().__init__(media_type="text/event-stream")
        self._writing, self._form, self._with_usage = writing, form, with_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            finished = await unless_gone(receive, self._write(send))
        except OSError:  # the connection broke while something was sent
            finished = None
        finally:
            self._writing.cancel()
        if finished is None:
            self._writing.metrics.disconnects.inc()

    async def _write(self, send: Send) -> bool:
        async def put(chunks: Sequence[bytes], more: bool = True) -> None:
            if chunks or not more:
                await send({"type": "http.response.body", "body": b"".join(chunks), "more_body": more})

        drafts = [openai_forms.Draft() for _ in range(self._writing.count)]
        for index in range(len(drafts)):
            await put(self._form.opening(index))
        async for index, event in self._writing.events():
            if isinstance(event, TokenText):
                await put(self._form.piece(index, event))
            elif event.reason in FAILURES:
                await put([openai_forms.event(error_body(500, FAILURES[event.reason]))])
            else:
                drafts[index].end = event
                await put(self._form.closing(index, event))
        await put([self._form.bill(drafts)] if self._with_usage else [])
        await put([openai_forms.DONE], more=False)
        return True
