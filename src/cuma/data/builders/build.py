"""`cuma data build`: which builder makes which benchmark."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from cuma.data.builders import packaged_surveys
from cuma.data.builders.base import Built, Options
from cuma.data.builders.built_folder import write
from cuma.data.builders.reading import existing
from cuma.data.surveys.survey import check_names
from cuma.errors import BenchmarkError

PACKAGED = ("gss", "wvs")
"""Benchmarks whose data come with the extra `quickstart`: no source is named."""
FROM_FILES = {
    "wvb": "WorldValuesBench: the wave-7 CSV of the World Values Survey beside WVB's metadata, or WVB's own TSV tree",
    "community": "Community Alignment: the CSV or parquet file",
    "prism": "PRISM: the folder with survey.jsonl and conversations.jsonl",
    "global_opinions": "GlobalOpinionQA: the CSV file",
    "own": "your own JSONL, CSV, parquet or `datasets` folder",
}
"""Name → what --source is."""


def build(name: str, source: Path | None, output: Path, options: Options) -> dict[str, Any]:
    """Build a benchmark into a folder and return its card.

    Raises:
        BenchmarkError: unknown name, a source that is missing or not what was expected, a folder that holds something
            else.
    """
    check_names("benchmark", [name], (*PACKAGED, *FROM_FILES))
    return write(_builder(name, source)(options), output, options)


def _builder(name: str, source: Path | None) -> Callable[[Options], Built]:
    if name in PACKAGED:
        if source is not None:
            raise BenchmarkError(f"{name} comes in a package: leave out --source.")
        return partial(packaged_surveys.build, name)
    if source is None:
        raise BenchmarkError(f"{name} needs --source: {FROM_FILES[name]}.")
    return partial(import_module(f"cuma.data.builders.{name}").build, existing(source))
