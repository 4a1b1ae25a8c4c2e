"""Timing that survives a busy machine: A and B by turns in one process, and the median of the paired ratios.

Two clocks. "wall" is what a user waits for; it wants a machine that does nothing else. "cpu" counts the seconds that
this process's threads computed: the same figure on a quiet machine with one thread, and still right when others take
turns with it, but blind to threads that wait for one another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
FEWEST = 5
RESAMPLES = 2000
SHORTEST = 0.004
"""Seconds; what is faster is repeated until it takes that long, or the clock would be measured."""
AGAIN = "ours, again"
"""The A/A control: the same function as "ours" under another name."""


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int, clock: str, limit: float) -> dict[str, list[float]]:
    """Seconds of each run in each round. Every round runs all of them, starting one further each time.

    Stops after `limit` seconds, whatever the clock, but not before the fifth round: the table says how many there were.
    """
    tell, end = CLOCKS[clock], time.perf_counter() + limit
    repeats = {name: _repeats(run, tell) for name, run in runs.items()}
    names, seconds = list(runs), {name: [] for name in runs}
    for turn in range(rounds):
        if turn >= FEWEST and time.perf_counter() > end:
            break
        start = turn % len(names)
        for name in [*names[start:], *names[:start]]:
            seconds[name].append(_time(runs[name], repeats[name], tell))
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, to: str, seed: int = 0) -> dict[str, float]:
    """Median over rounds of time(name) / time(to), with a 95 % percentile bootstrap over rounds."""
    pairs = np.array(seconds[name]) / np.array(seconds[to])
    draws = np.random.default_rng(seed).choice(pairs, (RESAMPLES, len(pairs)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {"ratio": float(np.median(pairs)), "low": float(low), "high": float(high), "n": len(pairs)}


def _repeats(run: Callable[[], Any], tell: Callable[[], float]) -> int:
    run()  # warm-up
    return max(1, round(SHORTEST / _time(run, 1, tell)))


def _time(run: Callable[[], Any], repeats: int, tell: Callable[[], float]) -> float:
    _wait()
    start = tell()
    for _ in range(repeats):
        run()
    _wait()
    return (tell() - start) / repeats


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
