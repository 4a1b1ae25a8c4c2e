"""Verbs that tell what is here: list, env."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Listed(StrEnum):
    """What `cuma list` can show."""

    RECIPES = "recipes"
    BENCHMARKS = "benchmarks"
    BACKBONES = "backbones"


def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """Show the recipes, benchmarks or backbones that come with cuma."""
    for name, text in _listed(what):
        typer.echo(f"{name:28} {text}".rstrip())


def _listed(what: Listed) -> list[tuple[str, str]]:
    if what is Listed.RECIPES:
        from cuma.recipes.load import load_recipe, packaged_recipes

        return [(name, load_recipe(name).description) for name in packaged_recipes()]
    if what is Listed.BENCHMARKS:
        from cuma.data.catalog import FROM_FILES, PACKAGED

        packaged = [(name, "packaged: nothing to download") for name in PACKAGED]
        return packaged + [(name, f"cuma data build, from {text}") for name, text in FROM_FILES.items()]
    from cuma.models.backbones import BACKBONES

    return [(name, "") for name in sorted(BACKBONES)]


def env() -> None:
    """Show versions and hardware, for a bug report."""
    from cuma.runs.machine import hardware, versions

    for name, value in {**versions(), **hardware()}.items():
        typer.echo(f"{name:28} {value}")
