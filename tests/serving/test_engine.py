"""The scheduler: a reply is what it would be alone, whoever else is there, comes, goes or fails."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from cuma.answering.answerer import Answerer
from cuma.errors import BusyError
from cuma.serving.engine import Capacity, Engine
from cuma.serving.generation import Ended, Event, Order, TokenText
from cuma.serving.sampling import Sampling
from helpers.served import idle, tiny_answerer
from helpers.tiny import people

PEOPLE = people(7, dim=384)
TIE = 1e-3
"""Logits that are nearer to each other may change places by rounding."""


@pytest.fixture(scope="module")
def answerer() -> Answerer:
    return tiny_answerer()


@pytest.fixture(scope="module")
def engine(answerer: Answerer) -> Iterator[Engine]:
    with Engine([answerer]) as running:
        yield running


def order(answerer: Answerer, number: int, **options: Any) -> Order:
    """A prompt, a person, a length and a seed that only the number decides."""
    generator = torch.Generator().manual_seed(number)
    length = int(torch.randint(2, 40, (1,), generator=generator))
    prompt = torch.randint(3, 40_000, (length,), generator=generator).tolist()
    sampling = Sampling(temperature=0.0 if number % 2 else 1.0, seed=number)
    who = PEOPLE[number % len(PEOPLE)][None]
    return Order(answerer, prompt, who, **({"max_tokens": 3 + number % 9, "sampling": sampling} | options))


def ask(engine: Engine, orders: Sequence[Order]) -> list[tuple[list[int], Ended]]:
    """(tokens, end) of each, all asked at once."""
    queues: list[queue.Queue[Event]] = [queue.Queue() for _ in orders]
    engine.submit(orders, [each.put for each in queues])
    return [_result(each) for each in queues]


def _result(events: queue.Queue[Event]) -> tuple[list[int], Ended]:
    tokens: list[int] = []
    while True:
        event = events.get(timeout=60)
        if isinstance(event, Ended):
            return tokens, event
        tokens.append(event.choice.token)


def test_sixty_four_at_once_say_what_each_says_alone(engine: Engine, answerer: Answerer) -> None:
    orders = [order(answerer, number) for number in range(64)]
    together = ask(engine, orders)
    alone = [ask(engine, [each])[0] for each in orders]
    for number, ((many, end), (one, _)) in enumerate(zip(together, alone, strict=True)):
        assert end.reason in ("length", "stop")
        assert many == one or _near_tie(answerer, orders[number], many, one), number
    assert len({tuple(tokens) for tokens, _ in together}) > 32, "they must differ, or this test says nothing"
    assert idle(engine)


def _near_tie(answerer: Answerer, asked: Order, many: list[int], one: list[int]) -> bool:
    """True if a greedy reply begins to differ where the two likeliest tokens are as good as equal."""
    place = next(n for n, (a, b) in enumerate(zip(many, one, strict=False)) if a != b)
    ids = torch.tensor([[*asked.prompt, *one[:place]]])
    with torch.no_grad():
        logits = answerer.model(input_ids=ids, profile_embeds=asked.embeds).logits[0, -1]
    first, second = logits.topk(2).values
    return asked.sampling.temperature == 0 and bool(first - second <= TIE)


def test_greedy_is_what_generate_writes(engine: Engine, answerer: Answerer) -> None:
    for number in (1, 3, 5):
        asked = order(answerer, number, max_tokens=10)
        ids = torch.tensor([asked.prompt])
        written = answerer.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), profile_embeds=asked.embeds, max_new_tokens=10,
            do_sample=False,
        )  # fmt: skip
        assert ask(engine, [asked])[0][0] == written[0, ids.shape[1] :].tolist()


def test_two_models_are_served_by_one_thread(answerer: Answerer) -> None:
    other = tiny_answerer("other", seed=5)
    with Engine([answerer, other]) as both:
        orders = [order(each, number) for number in range(6) for each in (answerer, other)]
        together = ask(both, orders)
        assert [tokens for tokens, _ in together] == [ask(both, [each])[0][0] for each in orders]
    assert together[0][0] != together[1][0]


# ---- what is kept of earlier requests -------------------------------------------------------------------------------


def test_a_known_beginning_is_not_read_again_and_changes_nothing(answerer: Answerer) -> None:
    asked = order(answerer, 3, max_tokens=6)
    longer = Order(answerer, [*range(100, 160), *asked.prompt], asked.embeds, 6, asked.sampling)
    with Engine([answerer]) as keeping, Engine([answerer], Capacity(prefix_bytes=0)) as forgetting:
        first, second = ask(keeping, [longer])[0], ask(keeping, [longer])[0]
        plain = ask(forgetting, [longer])[0]
    assert (first[1].cached_tokens, second[1].cached_tokens) == (0, len(longer.prompt) - 1)
    assert plain[1].cached_tokens == 0
    assert first[0] == second[0] == plain[0]


def test_nobody_gets_what_was_kept_of_somebody_else(answerer: Answerer) -> None:
    """Same tokens, another person: another reply, and nothing taken over. Another client: nothing taken over either."""
    prompt, sampling = list(range(100, 180)), Sampling(temperature=0)
    orders = [Order(answerer, prompt, PEOPLE[n][None], 8, sampling) for n in range(4)]
    with Engine([answerer]) as keeping, Engine([answerer], Capacity(prefix_bytes=0)) as forgetting:
        kept = [ask(keeping, [each])[0] for each in orders]
        assert [tokens for tokens, _ in kept] == [ask(forgetting, [each])[0][0] for each in orders]
        assert [end.cached_tokens for _, end in kept] == [0] * 4
        stranger = Order(answerer, prompt, PEOPLE[0][None], 8, sampling, client="another")
        assert ask(keeping, [stranger])[0][1].cached_tokens == 0
        assert ask(keeping, orders[:1])[0][1].cached_tokens == len(prompt) - 1
    assert len({tuple(tokens) for tokens, _ in kept}) == 4, "the people must matter, or this test says nothing"


def test_what_is_kept_stays_within_its_limit(answerer: Answerer) -> None:
    with Engine([answerer], Capacity(prefix_bytes=200_000)) as small:
        for number in range(30):
            ask(small, [Order(answerer, list(range(number, number + 60)), PEOPLE[number % 7][None], 2)])
            assert small._prefixes.bytes <= 200_000
        assert small._prefixes.bytes > 0


# ---- a full house, and those who leave ------------------------------------------------------------------------------


def test_a_full_queue_refuses_all_or_none(answerer: Answerer) -> None:
    with Engine([answerer], Capacity(max_batch=2, max_queue=4)) as small:
        gate = threading.Event()
        held = small.call(gate.wait)
        while small.waiting:  # until the call runs
            pass
        orders = [order(answerer, number) for number in range(4)]
        queues: list[queue.Queue[Event]] = [queue.Queue() for _ in orders]
        small.submit(orders[:3], [each.put for each in queues[:3]])
        with pytest.raises(BusyError, match="3 requests wait already, of at most 4"):
            small.submit(orders[:2], [print, print])
        small.submit(orders[3:], [queues[3].put])
        with pytest.raises(BusyError):
            small.call(print)
        gate.set()
        held.result(timeout=10)
        assert all(_result(each)[1].reason in ("length", "stop") for each in queues)


class Listener:
    """Leaves after some tokens."""

    def __init__(self, after: int) -> None:
        self.after, self.said, self.end = after, 0, threading.Event()
        self.generation: Any = None
        self.reason = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, TokenText):
            self.said += 1
            if self.said >= self.after:
                self.generation.cancel()
        else:
            self.reason = event.reason
            self.end.set()


def test_a_hundred_who_leave_or_fail_leave_nothing_behind(answerer: Answerer) -> None:
    """Cancelled while they wait, are read or speak, and forwards that raise: the replies of those who stayed are what
    they are alone, no slot leaks, memory does not grow."""
    probes = [order(answerer, number, max_tokens=8) for number in range(5)]
    with Engine([answerer], Capacity(max_batch=8, max_queue=400, prefix_bytes=0)) as engine:
        expected = [ask(engine, [probe])[0][0] for probe in probes]
        sizes = []
        for _ in range(5):
            listeners = [Listener(after=1 + number % 6) for number in range(20)]
            for number, listener in enumerate(listeners):
                (listener.generation,) = engine.submit([order(answerer, number, max_tokens=60)], [listener])
                if number % 5 == 0:
                    listener.generation.cancel()
            queues: list[queue.Queue[Event]] = [queue.Queue() for _ in probes]
            engine.submit(probes, [each.put for each in queues])
            assert [_result(each)[0] for each in queues] == expected
            assert all(listener.end.wait(30) for listener in listeners)
            assert {listener.reason for listener in listeners} <= {"cancelled", "stop"}
            _fail_once(engine, answerer)
            assert ask(engine, probes[:1])[0][0] == expected[0], "nothing of the failed forward is left"
            assert idle(engine)
            gc.collect()
            sizes.append(engine.bytes)
        assert engine.failures == 5
        assert [len(lane.slots) for lane in engine._lanes.values()] == [0]
        assert len(set(sizes[1:])) == 1, "memory is flat"


def _fail_once(engine: Engine, answerer: Answerer) -> None:
    """The third forward from now raises, in the middle of a layer."""
    layer = answerer.model.get_base_model().model.layers[1].mlp
    calls = iter(range(100))

    def failing(*_: Any) -> None:
        if next(calls) == 2:
            raise RuntimeError("out of memory, and then some")

    hook = layer.register_forward_pre_hook(failing)
    ended = ask(engine, [order(answerer, 11, max_tokens=20), order(answerer, 13, max_tokens=20)])
    hook.remove()
    assert "error" in {end.reason for _, end in ended}


def test_one_reply_whose_numbers_are_not_finite_ends_alone(answerer: Answerer) -> None:
    with Engine([answerer], Capacity(prefix_bytes=0)) as engine:
        expected = ask(engine, [order(answerer, 1)])[0][0]
        hook = answerer.model.get_base_model().lm_head.register_forward_hook(_spoil_all_but_the_first)
        (good, end), (_, failed) = ask(engine, [order(answerer, 1), order(answerer, 3, max_tokens=20)])
        hook.remove()
        assert (end.reason, failed.reason, good) == ("length", "error", expected)
        assert (engine.failures, engine.alive) == (1, True)
        assert idle(engine)


def _spoil_all_but_the_first(_: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    spoilt = output.clone()
    spoilt[1:] = float("nan")
    return spoilt


def test_closing_ends_what_runs(answerer: Answerer) -> None:
    events: queue.Queue[Event] = queue.Queue()
    engine = Engine([answerer], Capacity(max_batch=1))
    engine.submit([order(answerer, 1, max_tokens=300)] * 3, [events.put] * 3)
    events.get(timeout=30)
    engine.close()
    reasons: list[str] = []
    while not events.empty():
        event = events.get()
        reasons += [event.reason] if isinstance(event, Ended) else []
    assert reasons == ["cancelled"] * 3
    with pytest.raises(BusyError, match="going down"):
        engine.submit([order(answerer, 1)], [print])
