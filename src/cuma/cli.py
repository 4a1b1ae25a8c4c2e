"""The command line: verbs only. Each verb imports what it needs itself, so that `cuma --help` is instant."""

from __future__ import annotations

import os
import traceback
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cuma.errors import CumaError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
CONTINUES = ("quickstart", "train")
"""Verbs that go on where an interrupted start stopped."""


class _Verbs(TyperGroup):
    """Turns our own errors and Ctrl-C into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CumaError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            _say(f"Error: {error}", "red")
            raise typer.Exit(EXIT_ERROR) from error
        except KeyboardInterrupt as interrupt:
            resumes = ctx.invoked_subcommand in CONTINUES
            _say("Stopped. The same command continues where it stopped." if resumes else "Stopped.", "yellow")
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


# Tracebacks never show local variables: they may hold what people said about themselves.
app = typer.Typer(cls=_Verbs, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


class Benchmark(StrEnum):
    """Benchmarks that the quickstart has recipes for."""

    GSS = "gss"
    WVS = "wvs"


class Listed(StrEnum):
    """What `cuma list` can show."""

    RECIPES = "recipes"
    BENCHMARKS = "benchmarks"
    BACKBONES = "backbones"


class Buildable(StrEnum):
    """What `cuma data build` can build."""

    GSS = "gss"
    WVS = "wvs"
    WVB = "wvb"
    COMMUNITY = "community"
    PRISM = "prism"
    GLOBAL_OPINIONS = "global_opinions"
    OWN = "own"


RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, such as runs/quickstart/gss/cuma.")]


def main() -> None:
    """Entry point of the `cuma` command."""
    # Deprecations inside libraries are for their authors and ours, not for somebody at a terminal.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")
    app()


def _say(text: str, style: str) -> None:
    """One line on standard error, in colour where the terminal has it."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(" ".join(text.split()), style=style), soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from cuma import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """One frozen language model that answers each person in the value system they live in."""


@app.command()
def quickstart(
    benchmark: Annotated[Benchmark, typer.Option(help="US groups (gss) or countries (wvs).")] = Benchmark.GSS,
    fast: Annotated[bool, typer.Option("--fast", help="CuMA and LoRA only, and fewer steps.")] = False,
    output_dir: Annotated[Path, typer.Option(help="Where the runs and the page go.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training; the same seed gives the same table.")] = 0,
) -> None:
    """The method, end to end, on real people: a table and a page."""
    from cuma.quickstart import run_quickstart

    run_quickstart(benchmark=benchmark.value, fast=fast, output_dir=output_dir, seed=seed)


@app.command()
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
    from cuma.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or ())
    folder = output_dir or Path("runs", loaded.name)
    from cuma.training.train import train_run  # after the recipe is known to be sound: this takes seconds

    resume = {"true": True, "false": False}.get(resume_from_checkpoint.lower(), Path(resume_from_checkpoint))
    train_run(loaded, folder, resume_from_checkpoint=resume)
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        typer.echo(f"{folder}  Next: cuma evaluate {folder}")


@app.command()
def evaluate(
    run: RunFolder,
    partial_profiles: Annotated[
        bool, typer.Option("--partial-profiles", help="Also with 0, 25, 50, 75 and 100 % of each profile's fields.")
    ] = False,
) -> None:
    """Let a run answer for the test people, and score its answers."""
    from cuma.runs import Run

    Run.open(run)  # a wrong folder is told at once, before seconds of imports
    from cuma.evaluation.evaluate import evaluate_partial, evaluate_run

    evaluate_run(run)
    if partial_profiles:
        _print_partial(evaluate_partial(run))
    typer.echo(f"{run}  Next: cuma report {run}")


def _print_partial(measured: dict[str, Any]) -> None:
    """A line for each share of the fields: soft EMD with its interval, seen and unseen groups."""
    from rich.console import Console
    from rich.table import Table

    sides = [side for side in ("seen", "unseen") if side in measured]
    table = Table("Fields known", *(f"Soft EMD, {side} groups" for side in sides))
    for place, share in enumerate(measured["shares"]):
        found = [measured[side][place] for side in sides]
        table.add_row(f"{share:.0%}", *(f"{m['value']:.3f} [{m['low']:.3f}, {m['high']:.3f}]" for m in found))
    Console().print(table)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One or more runs' folders.")],
    output: Annotated[
        Path | None, typer.Option(help="The page; left out: report.html in the run, or beside the runs.")
    ] = None,
) -> None:
    """Write one self-contained page about one or more runs."""
    from cuma.reports.render import write_report

    page = output or (runs[0] if len(runs) == 1 else runs[0].parent) / "report.html"
    write_report(runs, page)
    typer.echo(str(page))


@app.command(name="import-reference")
def import_reference_adapter(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="An adapter saved by the authors' released code.")],
    base: Annotated[str, typer.Option(help="The model it was trained on: a name, a folder or a Hub id.")],
    output: Annotated[Path, typer.Option(help="Where our adapter goes.")],
    top_k: Annotated[int | None, typer.Option(min=1, help="Experts a token, if its configuration is silent.")] = None,
) -> None:
    """Read an adapter of the authors' released code into ours; it computes the same."""
    from cuma.reference_import import import_reference

    config = import_reference(source, base, output, top_k=top_k)
    typer.echo(
        f"{output}  {config.num_experts} experts of rank {config.r}, {config.top_k} a token; its router reads "
        f"{config.profile_dim} numbers about the person."
    )


@app.command()
def card(run: RunFolder) -> None:
    """Write a run's model card, without publishing anything."""
    from cuma.reports.model_card import write_model_card

    typer.echo(str(write_model_card(run)))


@app.command()
def push(
    run: RunFolder,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="Such as your-name/your-repository.")],
    private: Annotated[bool, typer.Option("--private/--public", help="Who sees a repository that is made now.")] = True,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to, made if it is absent.")] = None,
    keep_card: Annotated[
        bool, typer.Option("--keep-card", help="Upload the card that lies in RUN/adapter, as you edited it.")
    ] = False,
) -> None:
    """Put a run's adapter and its model card on the Hugging Face Hub."""
    from cuma.publish import push_to_hub

    typer.echo(push_to_hub(run, repo_id, private=private, revision=revision, keep_card=keep_card))


data = typer.Typer(cls=_Verbs, no_args_is_help=True, help="Benchmarks and your own data: build, check, look.")
app.add_typer(data, name="data")
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="OURS=THEIRS", help="Own data: a column of another name, as profile.age=AGE."),
]


def _pairs(texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or []]
    if not all(ours and equals and theirs for ours, equals, theirs in pairs):
        raise typer.BadParameter("takes OURS=THEIRS, such as answer=q1_answer", param_hint="--column")
    return {ours.strip(): theirs.strip() for ours, _, theirs in pairs}


@data.command("build")
def data_build(
    name: Annotated[Buildable, typer.Argument(help="Which benchmark.", show_choices=True)],
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    source: Annotated[
        Path | None, typer.Option(help="The file or folder that you obtained; gss and wvs need none.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="So many people, or conversations, from all groups.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Render at most so many answers as conversations.")] = 50_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and the sample.")] = 0,
    holdout_groups: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=VALUE", help="Keep out for zero-shot tests, as country=Japan.")
    ] = None,
    group_by: Annotated[str, typer.Option(help="gss: the fields that make a group, as ethnicity,sex.")] = "",
    column: Columns = None,
    as_released: Annotated[bool, typer.Option("--as-released", help="wvb: the authors' text, its errors too.")] = False,
) -> None:
    """Make data sets in TRL's columns, with profiles and splits by person, and a card that counts every row."""
    from cuma.data.base import Options
    from cuma.data.build import build
    from cuma.data.splits import parse_holdout

    options = Options(
        seed=seed,
        sample=sample,
        rows=rows,
        holdout=parse_holdout(holdout_groups or ()),
        as_released=as_released,
        columns=_pairs(column),
        group_by=tuple(field.strip() for field in group_by.split(",") if field.strip()),
    )
    card = build(name.value, source, output, options)
    typer.echo(f"Licence: {card['licence']}")
    typer.echo(f"{card['rows_read']:,} rows read, {card['rows_kept']:,} used")
    for reason, times in {**card["dropped"], **card["noted"]}.items():
        typer.echo(f"  {times:>9,}  {reason}")
    for split, sizes in card["splits"].items():
        typer.echo(f"{split:11} {sizes['people']:,} people, {sizes['groups']:,} groups, {sizes['answers']:,} answers")
    typer.echo(f"{output}  Next: cuma data sparsity {output}" if "survey" in card["tasks"] else f"{output}")


@data.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Your own JSONL, CSV, parquet or `datasets` folder.")],
    column: Columns = None,
) -> None:
    """Show what is understood of your own data, which profile fields exist, and what cannot be used and why."""
    from rich.console import Console

    from cuma.data.check import page, summary
    from cuma.data.own import understand

    found = summary(understand(file, _pairs(column)))
    Console().print(page(file, found))
    if not found["rows_usable"]:
        raise typer.Exit(EXIT_ERROR)


@data.command("sparsity")
def data_sparsity(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `cuma data build` wrote.")],
    output: Annotated[Path | None, typer.Option(help="Where the page goes; left out: into the folder.")] = None,
    permutations: Annotated[int, typer.Option(min=1, help="Of people between groups, for the p-values.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the permutations.")] = 0,
) -> None:
    """Is there anything to keep apart here? How far groups' answers differ, with a page and a heat map."""
    from cuma.reports.sparsity_page import sparsity

    found = sparsity(folder, output or folder, permutations=permutations, seed=seed)
    for sentence in found["summary"]:
        typer.echo(sentence)
    typer.echo(f"{(output or folder) / 'sparsity.html'}")


@app.command("list")
def list_(what: Annotated[Listed, typer.Argument(help="What to list.")]) -> None:
    """Show the recipes, benchmarks or backbones that come with cuma."""
    for name, text in _listed(what):
        typer.echo(f"{name:28} {text}".rstrip())


def _listed(what: Listed) -> list[tuple[str, str]]:
    if what is Listed.RECIPES:
        from cuma.recipe import load_recipe, packaged_recipes

        return [(name, load_recipe(name).description) for name in packaged_recipes()]
    if what is Listed.BENCHMARKS:
        from cuma.data.build import FROM_FILES, PACKAGED

        packaged = [(name, "packaged: nothing to download") for name in PACKAGED]
        return packaged + [(name, f"cuma data build, from {text}") for name, text in FROM_FILES.items()]
    from cuma.backbones import BACKBONES

    return [(name, "") for name in sorted(BACKBONES)]


@app.command()
def env() -> None:
    """Show versions and hardware, for a bug report."""
    from cuma.machine import hardware, versions

    for name, value in {**versions(), **hardware()}.items():
        typer.echo(f"{name:28} {value}")
