"""Timing that survives a busy machine: A and B by turns in one process, and the median of the paired ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

RESAMPLES = 2000
SHORTEST = 0.004
"""Seconds; what is faster is repeated until it takes that long, or the clock would be measured."""
AGAIN = "ours, again"
"""The A/A control: the same function as "ours" under another name."""


def interleaved(runs: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each run in each round. Every round runs all of them, starting one further each time."""
    repeats = {name: _repeats(run) for name, run in runs.items()}
    names, seconds = list(runs), {name: [] for name in runs}
    for turn in range(rounds):
        start = turn % len(names)
        for name in [*names[start:], *names[:start]]:
            seconds[name].append(_time(runs[name], repeats[name]))
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, to: str, seed: int = 0) -> dict[str, float]:
    """Median over rounds of time(name) / time(to), with a 95 % percentile bootstrap over rounds."""
    pairs = np.array(seconds[name]) / np.array(seconds[to])
    draws = np.random.default_rng(seed).choice(pairs, (RESAMPLES, len(pairs)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {"ratio": float(np.median(pairs)), "low": float(low), "high": float(high), "n": len(pairs)}


def _repeats(run: Callable[[], Any]) -> int:
    run()  # warm-up
    return max(1, round(SHORTEST / _time(run, 1)))


def _time(run: Callable[[], Any], repeats: int) -> float:
    _wait()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    _wait()
    return (time.perf_counter() - start) / repeats


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
