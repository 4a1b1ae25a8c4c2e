"""The benchmarks by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cuma.data.surveys.gss import load_gss, load_gss_all
from cuma.data.surveys.survey import Survey, check_names
from cuma.data.surveys.wvs import load_wvs
from cuma.errors import BenchmarkError

BENCHMARKS: dict[str, Callable[..., Survey]] = {
    "gss": load_gss,
    "gss-all": load_gss_all,
    "wvs": load_wvs,
}
BUILT = {
    "wvb": "wvb",
    "prism": "prism",
    "ca": "community",
    "community": "community",
    "global_opinions": "global_opinions",
}
"""Benchmarks that must be built first: what people and recipes call them → what `cuma data build` does."""


def is_folder(name: str) -> bool:
    """Whether a benchmark is named by the folder that it was built into."""
    return "/" in name or "\\" in name or Path(name).is_dir()


def check_benchmark(name: str) -> None:
    """Raises `BenchmarkError` for an unknown name, with the known ones, and for data or a folder to be built first."""
    if name in BUILT and not is_folder(name):
        raise BenchmarkError(
            f"{name} has to be built first; only {', '.join(BENCHMARKS)} come with cuma. Obtain its files, build a "
            f"folder with `cuma data build {BUILT[name]} --source FILES --output FOLDER`, and name that: "
            "data.benchmark=FOLDER, or --benchmark FOLDER."
        )
    if not is_folder(name):
        check_names("benchmark", [name], BENCHMARKS)
    elif not Path(name).expanduser().is_dir():
        raise BenchmarkError(f"The folder {name} does not exist. Make it with `cuma data build`.")


def load_benchmark(name: str, seed: int = 0) -> Survey:
    """The benchmark `name`, split by `seed`.

    Raises `BenchmarkError` for an unknown name (with the known ones) and for data that are not installed.
    """
    check_benchmark(name)
    # A built folder is none: `cuma.answering.materials.survey_of` opens those.
    check_names("benchmark", [name], BENCHMARKS)
    return BENCHMARKS[name](seed=seed)
