"""The benchmarks by name: one table of those that come in a package, one of those that are built from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cuma.errors import BenchmarkError, suggestion

if TYPE_CHECKING:
    from cuma.data.surveys.survey import Survey


@dataclass(frozen=True)
class Packaged:
    """A survey whose data come with the extra `quickstart`. Functions are named "module:function"."""

    survey: str
    """Loads it: takes the split's seed, gives a `Survey`."""
    to_build: str | None = None
    """Loads what `cuma data build` writes; takes `holdout` too, which says of a profile whether its group is unseen.
    None: it is not built."""


PACKAGED = {
    "gss": Packaged("cuma.data.surveys.gss:load_gss", to_build="cuma.data.surveys.gss:load_gss_items"),
    "gss-all": Packaged("cuma.data.surveys.gss:load_gss_all"),
    "us": Packaged("cuma.data.surveys.us:load_us", to_build="cuma.data.surveys.us:load_us"),
    "wvs": Packaged("cuma.data.surveys.wvs:load_wvs", to_build="cuma.data.surveys.wvs:load_wvs"),
}
FROM_FILES = {
    "wvb": "WorldValuesBench: the wave-7 CSV of the World Values Survey beside WVB's metadata, or WVB's own TSV tree",
    "community": "Community Alignment: the CSV or parquet file",
    "prism": "PRISM: the folder with survey.jsonl and conversations.jsonl",
    "global_opinions": "GlobalOpinionQA: the CSV file",
    "opinionqa": "OpinionQA: the folder human_resp",
    "subpop": "SubPOP: the .jsonl or .csv file",
    "own": "your own JSONL, CSV, parquet or `datasets` folder; with --questionnaire SPSS, Stata, SAS and Excel too",
}
"""Name → what --source is. The function `build` of the module of that name in `cuma.data.builders` reads it."""
ALIASES = {"ca": "community"}
"""What recipes and papers also call them."""
BUILDABLE = (*(name for name, packaged in PACKAGED.items() if packaged.to_build), *FROM_FILES)
"""What `cuma data build` takes."""


def is_folder(name: str) -> bool:
    """Whether a benchmark is named by the folder that it was built into."""
    return "/" in name or "\\" in name or Path(name).is_dir()


def check_benchmark(name: str) -> None:
    """Raises `BenchmarkError` for an unknown name, with the known ones, and for data or a folder to be built first."""
    builder = ALIASES.get(name, name)
    if is_folder(name):
        if not Path(name).expanduser().is_dir():
            raise BenchmarkError(f"The folder {name} does not exist. Make it with `cuma data build`.")
    elif builder in FROM_FILES and builder != "own":
        raise BenchmarkError(
            f"{name} has to be built first; only {', '.join(PACKAGED)} come with cuma. Obtain its files, build a "
            f"folder with `cuma data build {builder} --source FILES --output FOLDER`, and name that: "
            "data.benchmark=FOLDER, or --benchmark FOLDER."
        )
    elif name not in PACKAGED:
        raise BenchmarkError(f"Unknown benchmark {name!r}. {suggestion(name, PACKAGED)}")


def load_benchmark(name: str, seed: int = 0) -> Survey:
    """The packaged benchmark `name`, split by `seed`. (`cuma.answering.materials.survey_of` opens built folders.)

    Raises `BenchmarkError` for an unknown name (with the known ones) and for data that are not installed.
    """
    check_benchmark(name)
    if name not in PACKAGED:
        raise BenchmarkError(f"{name} is a folder, no packaged benchmark. {suggestion(name, PACKAGED)}")
    return function_named(PACKAGED[name].survey)(seed=seed)


def function_named(name: str) -> Callable[..., Survey]:
    """The function "module:function"."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
