"""Timing that survives a busy machine: A and B by turns in one process, and the median of the paired ratios.

Two clocks. "wall" is what a user waits for; it wants a machine that does nothing else. "cpu" counts the seconds that
this process's threads computed: the same figure on a quiet machine with one thread, and still right when others take
turns with it, but blind to threads that wait for one another.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
FEWEST = 5
RESAMPLES = 2000
SHORTEST = 0.05
"""Seconds that a sample lasts at least: of what is faster it is the median of several calls."""
AGAIN = "ours, again"
"""The A/A control: the same function as "ours" under another name."""
ROUTED = "ours, with router"
"""Ours computing its gates, where "ours" is given them."""


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int, clock: str, limit: float) -> dict[str, list[float]]:
    """Seconds of each run in each round, in `order`.

    Stops after `limit` seconds, whatever the clock, but not before the fifth round: the table says how many there were.
    """
    tell, end, names = CLOCKS[clock], time.perf_counter() + limit, list(runs)
    repeats = {name: _repeats(run, tell) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with _no_garbage_collection():
        for turn in range(rounds):
            if turn >= FEWEST and time.perf_counter() > end:
                break
            for name in (names[place] for place in order(len(names), turn)):
                seconds[name].append(_time(runs[name], repeats[name], tell))
            gc.collect()
    return seconds


def order(count: int, turn: int) -> list[int]:
    """Who goes when in a round: a Latin square balanced for what went just before (Williams, 1949).

    Over `count` rounds (twice as many if it is odd) everybody takes every place, and follows every other equally often.
    In a plain rotation ours would always follow the same rival, and find its caches.
    """
    zigzag = [place // 2 if place % 2 == 0 else count - 1 - place // 2 for place in range(count)]
    row = [(place + turn) % count for place in zigzag]
    return row[::-1] if turn // count % 2 else row


def ratio(seconds: Mapping[str, list[float]], name: str, to: str, seed: int = 0) -> dict[str, float]:
    """Median over rounds of time(name) / time(to), with a 95 % percentile bootstrap over rounds."""
    pairs = np.array(seconds[name]) / np.array(seconds[to])
    draws = np.random.default_rng(seed).choice(pairs, (RESAMPLES, len(pairs)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {"ratio": float(np.median(pairs)), "low": float(low), "high": float(high), "n": len(pairs)}


def _repeats(run: Callable[[], Any], tell: Callable[[], float]) -> int:
    run()  # warm-up
    return max(1, int(np.ceil(SHORTEST / _time(run, 2, tell))))


def _time(run: Callable[[], Any], repeats: int, tell: Callable[[], float]) -> float:
    """Median of `repeats` calls, so that a hiccup of the system within them does not count."""
    found = []
    for _ in range(repeats):
        start = tell()
        run()
        _wait()
        found.append(tell() - start)
    return float(np.median(found))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Within it Python collects between rounds only, and never looks at what was there before."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
