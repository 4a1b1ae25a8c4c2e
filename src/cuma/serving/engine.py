"""The scheduler: one thread runs the models, and everybody's next tokens are computed together.

A prompt is read alone, in a slot of its own; then its reply joins the others, and each step is one forward with one row
for each reply, of whatever people (continuous batching). A row's tokens depend on its own slot, profile and random
numbers only; other rows can move its logits by rounding (about 1e-5), and nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from cuma.answering.answerer import Answerer
from cuma.errors import BusyError
from cuma.serving.generation import Event, Generation, Order
from cuma.serving.prefixes import Prefixes
from cuma.serving.slots import Slots

T = TypeVar("T")
log = logging.getLogger("cuma.serving")


@dataclass(frozen=True)
class Capacity:
    """How much at once."""

    max_batch: int = 32
    """Replies that are written at the same time."""
    max_queue: int = 128
    """Replies that may wait for their turn; further ones are refused."""
    prefix_bytes: int = 256 * 2**20
    """Keys and values kept for requests that begin alike; 0: none."""
    reads_per_step: int = 4
    """Prompts read before the running replies get their next token."""


class Lane:
    """The replies of one answerer that are being written; row i of a step is in slot i."""

    def __init__(self, answerer: Answerer) -> None:
        self.answerer = answerer
        self.slots = Slots(answerer.backbone.model.config.get_text_config().num_hidden_layers)
        self.rows: list[Generation] = []

    def add(self, generation: Generation, slot: int) -> None:
        """Put a reply into a slot, behind the others."""
        generation.slot = slot
        self.rows.append(generation)

    def remove(self, generation: Generation) -> None:
        """Free a reply's slot; the last one moves into it."""
        slot, generation.slot = generation.slot, -1
        self.slots.close(slot)
        last = self.rows.pop()
        if last is not generation:
            self.rows[slot] = last
            last.slot = slot


class Engine:
    """Runs answerers in a thread of its own. Close it, or use it in a `with` block."""

    def __init__(self, answerers: Iterable[Answerer], capacity: Capacity | None = None) -> None:
        self.capacity = capacity or Capacity()
        self.answerers = {answerer.name: answerer for answerer in answerers}
        self.failures = 0
        """Forwards that raised; the replies in them ended with "error"."""
        self._lanes = {name: Lane(answerer) for name, answerer in self.answerers.items()}
        self._prefixes = Prefixes(self.capacity.prefix_bytes)
        self._waiting: deque[Generation] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="cuma-engine", daemon=True)
        self._thread.start()

    # ---- from any thread ------------------------------------------------------------------------------------------

    def submit(self, orders: Sequence[Order], tells: Sequence[Callable[[Event], Any]]) -> list[Generation]:
        """Ask for replies: all of them, or none.

        Args:
            orders: what is asked for.
            tells: for each, what is called in the engine's thread with every event, `Ended` last; must not block.

        Raises:
            BusyError: too many replies wait already.
        """
        made = [Generation(order, tell) for order, tell in zip(orders, tells, strict=True)]
        with self._wake:
            self._refuse_if_full(len(made))
            self._waiting.extend(made)
            self._wake.notify()
        return made

    def call(self, function: Callable[[], T], *, admitted: bool = False) -> Future[T]:
        """Run something with the models between two steps, in the engine's thread.

        Args:
            function: what to run.
            admitted: True for a further part of something that was let in already.

        Raises:
            BusyError: too much waits already.
        """
        future: Future[T] = Future()
        with self._wake:
            self._refuse_if_full(0 if admitted else 1)
            self._calls.append((function, future))
            self._wake.notify()
        return future

    @property
    def alive(self) -> bool:
        """False once the engine's thread has ended: nobody will be answered any more."""
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        """Slots in use."""
        return sum(len(lane.rows) for lane in self._lanes.values())

    @property
    def waiting(self) -> int:
        """Replies and calls that wait for their turn."""
        return len(self._waiting) + len(self._calls)

    @property
    def bytes(self) -> int:
        """What the slots and the kept prefixes take."""
        return sum(lane.slots.bytes for lane in self._lanes.values()) + self._prefixes.bytes

    def close(self) -> None:
        """Stop after the step that runs; replies that are not finished end as cancelled."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _refuse_if_full(self, wanted: int) -> None:
        if self._closing:
            raise BusyError("The server is going down. Try again later.")
        if wanted and self.waiting + wanted > self.capacity.max_queue:
            raise BusyError(
                f"{self.waiting} requests wait already, of at most {self.capacity.max_queue}. Try again later."
            )

    # ---- in the engine's thread -------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _run(self) -> None:
        while self._wait():
            self._drop_cancelled()
            self._do_one_call()
            self._admit()
            for lane in self._lanes.values():
                if lane.rows:
                    self._guarded(lane, lane.rows, self._step)
        self._cancel_all()

    def _wait(self) -> bool:
        """Until there is something to do; False once the engine is to close."""
        with self._wake:
            while not (self._closing or self._waiting or self._calls or self.running):
                self._wake.wait(timeout=30)
                self._prefixes.tidy()
            return not self._closing

    def _drop_cancelled(self) -> None:
        for lane in self._lanes.values():
            for generation in [row for row in lane.rows if row.cancelled]:
                self._finish(lane, generation, "cancelled")
        with self._wake:
            gone = [generation for generation in self._waiting if generation.cancelled]
            for generation in gone:
                self._waiting.remove(generation)
        for generation in gone:
            generation.end("cancelled")

    def _do_one_call(self) -> None:
        with self._wake:
            if not self._calls:
                return
            function, future = self._calls.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except Exception as error:  # it is the caller's; the thread lives on
            future.set_exception(error)

    def _admit(self) -> None:
        """Read the next prompts, as far as there are slots."""
        for _ in range(self.capacity.reads_per_step):
            with self._wake:
                if not self._waiting or self.running >= self.capacity.max_batch:
                    return
                generation = self._waiting.popleft()
            lane = self._lanes[generation.order.answerer.name]
            self._guarded(lane, [generation], self._read)

    def _guarded(
        self, lane: Lane, rows: Sequence[Generation], work: Callable[[Lane, Sequence[Generation]], None]
    ) -> None:
        """Do `work`; if it raises, the replies in it end, their slots are freed, and the others go on."""
        rows = list(rows)
        try:
            lane.answerer.activate()
            work(lane, rows)
        except Exception as error:
            self._fail(lane, rows, error)

    def _fail(self, lane: Lane, rows: Sequence[Generation], error: Exception) -> None:
        self.failures += 1
        log.error("the model failed: %s at %s; %d replies end", type(error).__name__, _where(error), len(rows))
        for generation in rows:
            self._finish(lane, generation, "error")

    def _read(self, lane: Lane, rows: Sequence[Generation]) -> None:
        """Compute a prompt's keys and values, from the longest beginning that is known of this person, and choose the
        first token."""
        (generation,) = rows
        order = generation.order
        known = self._prefixes.find(order.owner, order.prompt)
        lane.add(generation, lane.slots.open(known))
        generation.cached = lane.slots.lengths[generation.slot]
        new = torch.tensor([list(order.prompt[generation.cached :])])
        logits = self._forward(lane, rows, new, first=generation.slot)
        if self._prefixes.wants(order.prompt):
            self._prefixes.put(order.owner, order.prompt, lane.slots.prefix(generation.slot, len(order.prompt)))
        self._choose(lane, rows, logits)

    def _step(self, lane: Lane, rows: Sequence[Generation]) -> None:
        """One token for every running reply of the lane."""
        last = torch.tensor([[generation.tokens[-1]] for generation in rows])
        self._choose(lane, rows, self._forward(lane, rows, last, first=0))

    def _forward(self, lane: Lane, rows: Sequence[Generation], new: Tensor, first: int) -> Tensor:
        """[B, V] logits after the `new` tokens [B, T] of the replies in the slots from `first` on."""
        model = lane.answerer.model
        device = next(model.parameters()).device
        window = lane.slots.window(first, len(rows), new.shape[1])
        inputs: dict[str, Any] = {
            "input_ids": new.to(device),
            "attention_mask": window.mask.long().to(device),
            "position_ids": window.positions.to(device),
        }
        if rows[0].order.embeds is not None:
            inputs["profile_embeds"] = torch.cat([row.order.embeds for row in rows if row.order.embeds is not None])
        if any(row.order.routing for row in rows) and lane.answerer.config is not None:
            with lane.answerer.recording():
                logits = self._logits(model, window, inputs)
            for place, row in enumerate(rows):
                if row.order.routing:
                    row.note_gates(model.routing(), place)
        else:
            logits = self._logits(model, window, inputs)
        for row in rows:
            lane.slots.lengths[row.slot] += new.shape[1]
        return logits

    @staticmethod
    def _logits(model: Any, window: Any, inputs: dict[str, Any]) -> Tensor:
        output = model(**inputs, past_key_values=window, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1].float().cpu()

    def _choose(self, lane: Lane, rows: Sequence[Generation], logits: Tensor) -> None:
        for generation, row in zip(rows, logits, strict=True):
            try:
                reason = generation.choose(row)
            except Exception as error:  # one reply's trouble is not the others'
                self._fail(lane, [generation], error)
            else:
                if reason is not None:
                    self._finish(lane, generation, reason)

    def _finish(self, lane: Lane, generation: Generation, reason: str) -> None:
        if generation.slot >= 0:
            order = generation.order
            tokens = [*order.prompt, *generation.tokens][: lane.slots.lengths[generation.slot]]
            if reason in ("stop", "length") and self._prefixes.wants(tokens):  # the next turn begins like this
                self._prefixes.put(order.owner, tokens, lane.slots.prefix(generation.slot, len(tokens)))
            lane.remove(generation)
        generation.end(reason)

    def _cancel_all(self) -> None:
        for lane in self._lanes.values():
            for generation in list(lane.rows):
                self._finish(lane, generation, "cancelled")
        while self._waiting:
            self._waiting.popleft().end("cancelled")
        while self._calls:
            self._calls.popleft()[1].cancel()
        self._prefixes.clear()


def _where(error: Exception) -> str:
    """File and line of an error, without its text, which may hold what somebody wrote."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
