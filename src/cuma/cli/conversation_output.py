"""What `cuma evaluate` shows of conversations and preference pairs; everything is in the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cuma.metrics.figures import MISSING, estimate_text, number
from cuma.privacy.small_groups import MIN_PEOPLE, people_text

SIDES = ("seen", "unseen")


def print_conversations(result: Mapping[str, Any]) -> None:
    """Loss, perplexity and preferences of each side, who is served worst, and every group that may be shown."""
    from cuma.reports.conversation_tables import BY_GROUP, HEADINGS, shown_figures

    if result["left_out"]:
        typer.echo(f"{result['left_out']:,} rows are longer than the model reads: left out.")
    for side in SIDES:
        figures = shown_figures(result, side)
        for name in [name for name in result.get(side, {}) if name not in figures and name != "perplexity"]:
            typer.echo(
                f"{side.capitalize()} groups: {HEADINGS[name]} of fewer than {MIN_PEOPLE} people, too few to show."
            )
        if figures:
            sizes = [(what, figures[name]["n"]) for name, what in WHAT.items() if name in figures]
            counted = ", ".join(f"{n['rows']:,} {what} of {people_text(n['people'])} people" for what, n in sizes)
            rows = [(HEADINGS[name], estimate_text(of), *_worst(of)) for name, of in figures.items()]
            title = f"{side.capitalize()} groups: {counted}"
            print_table(title, ("", "All", "Worst served", "Gap to the best"), rows)
        groups = sorted({group for of in figures.values() for group in of["by_group"]})
        each = {name: of["by_group"] for name, of in figures.items() if name in BY_GROUP}
        by_group = [(group, *(estimate_text(its.get(group)) for its in each.values())) for group in groups]
        if by_group:
            print_table("By group", ("", *(HEADINGS[name] for name in each)), by_group)
    typer.echo(
        "Loss: nats per token of people's replies. Preference accuracy: by the implicit reward against the untouched "
        "model, which itself has 0.5. Brackets: 95 % intervals, people drawn."
    )


WHAT = {"loss": "conversations", "preference_accuracy": "pairs"}


def _worst(of: Mapping[str, Any]) -> tuple[str, str]:
    if "worst" not in of:
        return MISSING, MISSING
    return f"{of['worst']['group']}: {estimate_text(of['worst'])}", estimate_text(of["gap"])


def print_reply_differences(result: Mapping[str, Any]) -> None:
    """Each figure of this run minus each other's; of sides with few people nothing."""
    from cuma.reports.conversation_tables import HEADINGS

    rows, groups = [], []
    for name, sides in result["differences"].items():
        for side, figures in sides.items():
            for figure, of in figures.items():
                if result["n"][side][figure]["people"] < MIN_PEOPLE:
                    continue
                cells = (name, f"{side}: {HEADINGS[figure]}")
                rows.append((*cells, estimate_text(of, sign=True), number(of["p"]), number(of["p_holm"])))
                groups += [(*cells, group, estimate_text(its, sign=True)) for group, its in of["by_group"].items()]
    if not rows:
        typer.echo("Nothing to compare: too few people, or a model with another tokenizer.")
        return
    print_table("This run minus", ("Against", "On", "Difference", "p", "p (Holm)"), rows)
    if groups:
        print_table("The same by group", ("Against", "On", "Group", "Difference"), groups)


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """For 80 columns: headings and the first column wrap, figures with their intervals do not."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(headings[0], min_width=8)
    for place, heading in enumerate(headings[1:], start=1):
        width = max(8, *(len(row[place]) for row in rows))
        table.add_column(fill(heading, width), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
