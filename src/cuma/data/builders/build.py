"""`cuma data build`: which builder makes which benchmark."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from cuma.data.builders import packaged_surveys
from cuma.data.builders.base import Built, Options
from cuma.data.builders.built_folder import check_output, write
from cuma.data.builders.reading import existing
from cuma.data.catalog import BUILDABLE, FROM_FILES
from cuma.data.surveys.survey import check_names
from cuma.errors import BenchmarkError


def build(name: str, source: Path | None, output: Path, options: Options) -> dict[str, Any]:
    """Build a benchmark into a folder and return its card.

    Raises:
        BenchmarkError: unknown name, a source that is missing or not what was expected, a folder that holds something
            else.
    """
    check_names("benchmark", [name], BUILDABLE)
    if name != "own" and (options.questionnaire or options.all_test):
        raise BenchmarkError(f"--questionnaire and --all-test are for own data, not for {name}. Leave them out.")
    if name != "own" and options.further:
        raise BenchmarkError(f"Several sources are for own data; {name} takes one --source, or none.")
    builder = _builder(name, source)
    check_output(output)
    built = builder(options)
    if options.holdout_share and "distribution" not in built.tasks:
        raise BenchmarkError(
            "A share of the groups in --holdout-groups is for shares of whole groups (task distribution); these data "
            f"have {', '.join(built.tasks)}. Name the groups as --holdout-groups FIELD=VALUE."
        )
    if options.holdout_items is not None and not built.tasks.keys() & {"survey", "distribution"}:
        raise BenchmarkError(
            "--holdout-items is for answers to questions (tasks survey and distribution); these data have "
            f"{', '.join(built.tasks)}. Leave it out."
        )
    return write(built, output, options)


def _builder(name: str, source: Path | None) -> Callable[[Options], Built]:
    if name not in FROM_FILES:
        if source is not None:
            raise BenchmarkError(f"{name} comes in a package: leave out --source.")
        return partial(packaged_surveys.build, name)
    if source is None:
        raise BenchmarkError(f"{name} needs --source: {FROM_FILES[name]}.")
    return partial(import_module(f"cuma.data.builders.{name}").build, existing(source))
