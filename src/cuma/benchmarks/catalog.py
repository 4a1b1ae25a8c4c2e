"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable

from cuma.benchmarks.base import Survey, check_names
from cuma.benchmarks.gss import load_gss
from cuma.benchmarks.wvs import load_wvs

BENCHMARKS: dict[str, Callable[..., Survey]] = {
    "gss": load_gss,
    "wvs": load_wvs,
}


def check_benchmark(name: str) -> None:
    """Raises `BenchmarkError` for an unknown name, with the known ones."""
    check_names("benchmark", [name], BENCHMARKS)


def load_benchmark(name: str, seed: int = 0) -> Survey:
    """The benchmark `name`, split by `seed`.

    Raises `BenchmarkError` for an unknown name (with the known ones) and for data that are not installed.
    """
    check_benchmark(name)
    return BENCHMARKS[name](seed=seed)
