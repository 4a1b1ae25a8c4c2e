"""Verbs that tell what is here: list, show, env."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Listed(StrEnum):
    """What `cuma list` can show."""

    RECIPES = "recipes"
    BENCHMARKS = "benchmarks"
    BACKBONES = "backbones"
    KEYS = "keys"
    FIELDS = "fields"
    METRICS = "metrics"


def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """Show what there is: recipes, benchmarks, backbones, a recipe's keys, a profile's fields, metrics."""
    for name, text in _listed(what):
        typer.echo(f"{name:28} {text}".rstrip())


def show(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a name from `cuma list recipes`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example training.learning_rate=1e-3.")
    ] = None,
) -> None:
    """Print a whole recipe, every key with its meaning and default: a file to change and to train."""
    from cuma.recipes.load import load_recipe
    from cuma.recipes.reference import explained

    typer.echo(explained(load_recipe(recipe, overrides or ())), nl=False)


def _listed(what: Listed) -> list[tuple[str, str]]:
    if what is Listed.RECIPES:
        from cuma.recipes.load import load_recipe, packaged_recipes

        return [(name, load_recipe(name).description) for name in packaged_recipes()]
    if what is Listed.BENCHMARKS:
        from cuma.data.catalog import FROM_FILES, PACKAGED

        packaged = [(name, "packaged: nothing to download") for name in PACKAGED]
        return packaged + [(name, f"cuma data build, from {text}") for name, text in FROM_FILES.items()]
    if what is Listed.KEYS:
        from cuma.recipes.reference import recipe_keys

        return [(key.path, f"{key.meaning} [{key.values}; default {key.default_text}]") for key in recipe_keys()]
    if what is Listed.FIELDS:
        from cuma.people.profiles import Profile
        from cuma.recipes.reference import attribute_meanings

        return list(attribute_meanings(Profile).items())
    if what is Listed.METRICS:
        from cuma.metrics.meanings import MEANINGS

        return [(f"{name} {better}", text) for name, (better, text) in MEANINGS.items()]
    from cuma.models.backbones import BACKBONES

    return [(name, "") for name in sorted(BACKBONES)]


def env() -> None:
    """Show versions and hardware, for a bug report."""
    from cuma.runs.machine import hardware, versions

    for name, value in {**versions(), **hardware()}.items():
        typer.echo(f"{name:28} {value}")
