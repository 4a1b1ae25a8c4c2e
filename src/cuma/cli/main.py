"""The command line: which verbs there are. Each imports what it needs itself, so that `cuma --help` is instant."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from cuma.cli import about, data, evaluation, harness, prediction, publishing, runs, serving
from cuma.cli.shell import Verbs

VERBS: dict[str, Callable[..., Any]] = {
    "quickstart": runs.quickstart,
    "train": runs.train,
    "evaluate": evaluation.evaluate,
    "predict": prediction.predict,
    "report": runs.report,
    "chat": serving.chat,
    "serve": serving.serve,
    "export": serving.export,
    "resolve": serving.resolve,
    "lm-eval": harness.lm_eval,
    "import-reference": publishing.import_reference_adapter,
    "card": publishing.card,
    "push": publishing.push,
    "list": about.list_,
    "show": about.show,
    "env": about.env,
}
HANDED_ON = ("lm-eval",)
"""Verbs whose words belong to another program: options that we do not know are passed on."""
DATA_VERBS: dict[str, Callable[..., Any]] = {
    "draft": data.draft_questionnaire,
    "build": data.build_data,
    "check": data.check_data,
    "sparsity": data.measure_sparsity,
}


def main() -> None:
    """Entry point of the `cuma` command."""
    # Deprecations inside libraries are for their authors and ours, not for somebody at a terminal.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\b")
    app()


def _print_version(value: bool) -> None:
    if value:
        from cuma import __version__

        typer.echo(__version__)
        raise typer.Exit


def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """One frozen language model that answers each person in the value system they live in."""


def _group(verbs: dict[str, Callable[..., Any]], **settings: Any) -> typer.Typer:
    # Tracebacks never show local variables: they may hold what people said about themselves.
    group = typer.Typer(
        cls=Verbs, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, **settings
    )
    for name, verb in verbs.items():
        group.command(name, context_settings={"ignore_unknown_options": name in HANDED_ON})(verb)
    return group


app = _group(VERBS)
app.callback()(options)
app.add_typer(_group(DATA_VERBS, help="Benchmarks and your own data: draft, build, check, look."), name="data")
