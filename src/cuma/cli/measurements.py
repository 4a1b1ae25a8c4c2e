"""The further measurements of `cuma evaluate`: one table, from the option to what the terminal shows.

A new one is a file in `cuma.evaluation` that writes its JSON beside the scores, a row here, and the part of the page
(`cuma.reports.render`) that shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from cuma.evaluation.kinds import Kind
    from cuma.evaluation.subject import Subject


@dataclass(frozen=True)
class Measurement:
    """One option of the panel "What is measured"."""

    help: str
    kinds: tuple[Kind, ...]
    """Kinds of benchmark on which it can be taken, as in `cuma.evaluation.kinds`."""
    take: Callable[[Subject, Any], None]
    """Takes it of an evaluated subject, given the option's value, and shows it. Imports inside: help is instant."""
    weights: bool = True
    """Whether the model's weights must be on this machine."""
    check: Callable[[str, str, Any], None] | None = None
    """Raises where a benchmark of the right kind lacks something else; given the option, its name and its folder."""
    of_runs: bool = False
    """Whether the option names other runs, and may be given several times."""


def _partial_profiles(subject: Subject, _: bool) -> None:
    from cuma.cli.evaluation_output import print_partial
    from cuma.evaluation.evaluate import evaluate_partial

    print_partial(evaluate_partial(subject))


def _collapse(subject: Subject, _: bool) -> None:
    from cuma.cli.evaluation_output import print_alarms
    from cuma.evaluation.collapse import evaluate_collapse

    print_alarms(evaluate_collapse(subject)["alarms"], subject.folder / "collapse.json")


def _gradients(subject: Subject, _: bool) -> None:
    from cuma.evaluation.gradients import evaluate_gradients

    typer.echo(f"• {evaluate_gradients(subject)['sentence']}")


def _topology(subject: Subject, _: bool) -> None:
    from cuma.evaluation.routing import evaluate_topology
    from cuma.reports.expert_map import topology_sentences

    for sentence in topology_sentences(evaluate_topology(subject)):
        typer.echo(f"• {sentence}")


def _conversations(subject: Subject, _: bool) -> None:
    from cuma.cli.conversation_output import print_conversations
    from cuma.evaluation.conversations import evaluate_conversations

    print_conversations(evaluate_conversations(subject))


def _check_conversations(option: str, benchmark: str, corpus: Any) -> None:
    from cuma.evaluation.kinds import require_conversations

    require_conversations(option, benchmark, corpus)


def _against(subject: Subject, runs: list[Path]) -> None:
    from cuma.cli.conversation_output import print_reply_differences
    from cuma.cli.evaluation_output import print_differences
    from cuma.evaluation.conversations import NAME, evaluate_reply_differences
    from cuma.evaluation.differences import evaluate_differences

    if (subject.folder / "scores.json").is_file():
        print_differences(evaluate_differences(subject, runs))
    if (subject.folder / f"{NAME}.json").is_file():
        print_reply_differences(evaluate_reply_differences(subject, runs))


MEASUREMENTS: dict[str, Measurement] = {
    "--partial-profiles": Measurement(
        "Also with 0, 25, 50, 75 and 100 % of each profile's fields.", ("answers",), _partial_profiles
    ),
    "--collapse": Measurement(
        "Does it speak for one average, or stereotype?", ("answers",), _collapse, weights=False
    ),
    "--gradients": Measurement("Do groups' gradients conflict, and where?", ("answers",), _gradients),
    "--topology": Measurement("What does a mixture's router follow?", ("answers",), _topology),
    "--conversations": Measurement(
        "Also held-out loss and preferences, where a folder has conversations beside what it asks.",
        ("answers", "shares", "choices", "conversations"),
        _conversations,
        check=_check_conversations,
    ),
    "--against": Measurement(
        "Paired differences from this evaluated run; with --judge, the run whose replies are compared.",
        ("answers", "shares", "conversations"),
        _against,
        weights=False,
        of_runs=True,
    ),
}  # fmt: skip
"""Option → measurement, in the order in which they are taken."""


def what_is_measured(**values: Any) -> dict[str, Any]:
    """The panel "What is measured": the options that were given, with their values."""
    return {option: value for option, value in zip(MEASUREMENTS, values.values(), strict=True) if value}


def _parameter(option: str, about: Measurement) -> Parameter:
    kind, default, metavar = (list[Path] | None, None, "RUN") if about.of_runs else (bool, False, None)
    shown = typer.Option(option, help=about.help, metavar=metavar, rich_help_panel="What is measured")
    name = option.removeprefix("--").replace("-", "_")
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown])


what_is_measured.__signature__ = Signature(  # type: ignore[attr-defined]
    [_parameter(option, about) for option, about in MEASUREMENTS.items()]
)
