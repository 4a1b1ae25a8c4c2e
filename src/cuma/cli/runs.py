"""Verbs that make runs and look at them: quickstart, train, report."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cuma.cli.shell import next_command

if TYPE_CHECKING:
    from cuma.recipes.schema import Recipe


class Benchmark(StrEnum):
    """Benchmarks that the quickstart has recipes for."""

    GSS = "gss"
    WVS = "wvs"


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/quickstart/gss/cuma.")]


def quickstart(
    benchmark: Annotated[Benchmark, typer.Option(help="US groups (gss) or countries (wvs).")] = Benchmark.GSS,
    fast: Annotated[bool, typer.Option("--fast", help="CuMA and LoRA only, and fewer steps.")] = False,
    output_dir: Annotated[Path, typer.Option(help="Where the runs and the page go.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training; the same seed gives the same table.")] = 0,
) -> None:
    """The method, end to end, on real people: a table and a page."""
    from cuma.cli.quickstart_run import run_quickstart

    run_quickstart(benchmark=benchmark.value, fast=fast, output_dir=output_dir, seed=seed)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or a name from `cuma list recipes`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example training.learning_rate=1e-3.")
    ] = None,
    output_dir: Annotated[Path | None, typer.Option(help="The run's folder; left out: runs/ and the name.")] = None,
    resume_from_checkpoint: Annotated[
        str,
        typer.Option(
            metavar="true|false|PATH",
            help="Go on from the newest whole checkpoint, from the stage's start, or from a checkpoint.",
        ),
    ] = "true",
) -> None:
    """Train a recipe, or continue where it stopped."""
    from cuma.recipes.load import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    folder = output_dir or Path("runs", loaded.name)
    from cuma.evaluation.curve import curve_point
    from cuma.training.train import train_run  # after the recipe is known to be sound: this takes seconds

    resume = {"true": True, "false": False}.get(resume_from_checkpoint.lower(), Path(resume_from_checkpoint))
    train_run(loaded, folder, curve=curve_point, resume_from_checkpoint=resume)
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        typer.echo(f"{folder}  {_next(loaded, folder)}")


def _next(recipe: Recipe, folder: Path) -> str:
    """What can be done with a trained run: it is measured where its data have test people, else talked to."""
    from cuma.answering.loading import Source
    from cuma.answering.materials import load_survey
    from cuma.evaluation.kinds import kind_of
    from cuma.runs.folder import Run

    if kind_of(*load_survey(recipe)) is not None:
        return next_command("cuma", "evaluate", folder)
    return next_command("cuma", "card" if Source.of_run(Run.open(folder)).barred else "chat", folder)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One or more runs' folders.")],
    output: Annotated[
        Path | None, typer.Option(help="The page; left out: report.html in the run, or beside the runs.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Name of the run that the others are compared with; left out: cuma, or the first mixture."),
    ] = None,
    benchmark: Annotated[
        str | None, typer.Option(help="Whose evaluations; left out: the only one that all runs share.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.")] = None,
) -> None:
    """Write one self-contained page about one or more runs, and its table as Markdown and LaTeX beside it."""
    from cuma.reports.render import DEFAULT_TITLE, write_report

    page = output or (runs[0] if len(runs) == 1 else runs[0].parent) / "report.html"
    write_report(runs, page, title=title or DEFAULT_TITLE, reference=reference, benchmark=benchmark)
    typer.echo(f"{page}  For a paper: {page.with_suffix('.tex')}, {page.with_suffix('.md')}")
