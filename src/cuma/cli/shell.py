"""What every verb has in common: errors of ours and Ctrl-C become one line and an exit code."""

from __future__ import annotations

import shlex
import traceback
from typing import Any

import typer
from typer.core import TyperGroup

from cuma.errors import CumaError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
CONTINUES = ("quickstart", "train", "evaluate", "predict")
"""Verbs that go on where an interrupted start stopped."""


class Verbs(TyperGroup):
    """Turns our own errors and Ctrl-C into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CumaError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            say(f"Error: {error}", "red")
            raise typer.Exit(EXIT_ERROR) from error
        except KeyboardInterrupt as interrupt:
            resumes = ctx.invoked_subcommand in CONTINUES
            say("Stopped. The same command continues where it stopped." if resumes else "Stopped.", "yellow")
            raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def next_command(*words: object) -> str:
    """What to do next, as it can be pasted into a shell, whatever stands in its paths."""
    return f"Next: {shlex.join(map(str, words))}"


def say(text: str, style: str) -> None:
    """One line on standard error, in colour where the terminal has it."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(" ".join(text.split()), style=style), soft_wrap=True)
