"""The verb that hands over to lm-evaluation-harness."""

from __future__ import annotations

from typing import Annotated

import typer


def lm_eval(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="WORDS...", help="As for `lm-eval`, such as: run --model cuma --tasks cuma_gss"),
    ] = None,
) -> None:
    """lm-evaluation-harness with the model type "cuma" and surveys as tasks. Its own help: cuma lm-eval -h."""
    from cuma.harness.command import run_harness

    run_harness(arguments or [])
