"""Load on the server: many people at once, long shared beginnings, every answer compared with the one it gets alone.

    make load                                  # a tiny random model: what is tested is the server
    make load ARGS="--run runs/quickstart/gss/cuma --requests 64"   # a real model: how fast it is on this machine

Prints throughput and the 95th percentile of the time to an answer, at the given concurrency and one by one, measured in
the same process, interleaved in blocks. The two ways have a key each, so that neither finds what the other left in the
server's cache.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

from cuma.answering.answerer import Answerer, Answerers
from cuma.serving.engine import Engine
from helpers.served import serving, tiny_answerer

COUNTRIES = ["Peru", "Japan", "Kenya", "Norway", "Thailand", "Mexico", "Egypt", "India", "Poland", "Ghana"]
RELIGIONS = ["Buddhist", "Catholic", "Muslim", "non-religious"]
QUESTIONS = ["May one lie?", "Who should care for the old?", "What is a family?", "Is work a duty?", "Why vote?"]
TIE = 1e-3
KEYS = ("the-key-of-those-at-once", "the-key-of-one-by-one")


@dataclass
class Pass:
    """What one way of asking gave."""

    headers: dict[str, str]
    replies: dict[int, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0

    def told(self) -> str:
        p95 = float(np.quantile(self.seconds, 0.95))
        return f"{len(self.seconds) / self.wall:7.1f} requests/s, p95 {1000 * p95:7.1f} ms"


def requests(count: int, prefix_words: int, max_tokens: int, seed: int = 0) -> list[dict[str, Any]]:
    """Bodies of chat requests: few long beginnings, many people, greedy, with the two likeliest tokens told."""
    rng = random.Random(seed)
    words = [" ".join(rng.choices(["rice", "river", "law", "son", "debt", "vote"], k=prefix_words)) for _ in range(3)]
    bodies = []
    for _ in range(count):
        profile = {
            "country": rng.choice(COUNTRIES),
            "religion": rng.choice(RELIGIONS),
            "age": rng.randrange(20, 90, 10),
        }
        messages = [
            {"role": "system", "content": rng.choice(words)},
            {"role": "user", "content": rng.choice(QUESTIONS)},
        ]
        options = {"temperature": 0, "logprobs": True, "top_logprobs": 2, "max_tokens": max_tokens}
        bodies.append({"messages": messages, "profile": profile, **options})
    return bodies


def measure(url: str, bodies: list[dict[str, Any]], concurrency: int, block: int = 100) -> tuple[Pass, Pass]:
    """(at once, one by one), in alternating blocks."""
    together, alone = (Pass({"Authorization": f"Bearer {key}"}) for key in KEYS)
    limits = httpx2.Limits(max_connections=concurrency)
    with httpx2.Client(base_url=url, timeout=600, limits=limits) as client:

        def ask(number: int, into: Pass) -> None:
            start = time.perf_counter()
            reply = client.post("/v1/chat/completions", json=bodies[number], headers=into.headers)
            into.seconds.append(time.perf_counter() - start)
            reply.raise_for_status()
            into.replies[number] = reply.json()["choices"][0]

        for start in range(0, len(bodies), block):
            numbers = range(start, min(start + block, len(bodies)))
            began = time.perf_counter()
            with ThreadPoolExecutor(concurrency) as pool:
                list(pool.map(ask, numbers, [together] * len(numbers)))
            together.wall += time.perf_counter() - began
            began = time.perf_counter()
            for number in numbers:
                ask(number, alone)
            alone.wall += time.perf_counter() - began
    return together, alone


def differing(together: Pass, alone: Pass) -> list[int]:
    """Requests whose tokens differ, other than where the two likeliest were as good as equal."""
    wrong = []
    for number, reply in together.replies.items():
        pairs = zip(reply["logprobs"]["content"], alone.replies[number]["logprobs"]["content"], strict=False)
        first = next((one for many, one in pairs if many["token"] != one["token"]), None)
        if first is not None:
            best, second = (top["logprob"] for top in first["top_logprobs"])
            wrong += [number] if best - second > TIE else []
        elif reply["message"] != alone.replies[number]["message"]:
            wrong.append(number)
    return wrong


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--run", help="a run's folder; left out: a tiny random model")
    options.add_argument("--requests", type=int, default=1000)
    options.add_argument("--concurrency", type=int, default=32)
    options.add_argument("--prefix-words", type=int, default=120)
    options.add_argument("--max-tokens", type=int, default=12)
    given = options.parse_args()
    answerer: Answerer = Answerers(device="cpu").load(given.run) if given.run else tiny_answerer()
    bodies = requests(given.requests, given.prefix_words, given.max_tokens)
    with serving([answerer], keys=KEYS) as (url, engine):
        together, alone = measure(url, bodies, given.concurrency)
        lost, wrong = given.requests - len(together.replies), differing(together, alone)
        leaked = _leaked(engine)
    print(f"{given.requests} requests, {given.prefix_words}-word beginnings, {given.max_tokens} tokens each")
    print(f"  {given.concurrency:4d} at once   {together.told()}")
    print(f"  one by one   {alone.told()}")
    print(f"  throughput   {alone.wall / together.wall:.2f} times that of one by one")
    print(f"  lost {lost}, other than alone {len(wrong)}, slots leaked {leaked}")
    return int(bool(lost or wrong or leaked))


def _leaked(engine: Engine) -> int:
    return engine.running + engine.waiting


if __name__ == "__main__":
    sys.exit(main())
