"""The comparison as text: for the terminal (rich), as Markdown, and as LaTeX for a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cuma.reports.side_tables import Listing
from cuma.reports.tables import COLUMNS, MORE_COLUMNS, SIDES, Column, Side, cell_text, shown_columns, side_title

if TYPE_CHECKING:
    from rich.table import Table

WHOLE_WIDTH = 200
"""Columns of a terminal that shows the whole table without cutting a figure."""
NARROW = ("soft_emd", "noise_floor", "difference", "p_holm", "spread", "alignment")
"""What a narrower one shows."""
PAPER = ("soft_emd", "noise_floor", "difference", "p_holm", "accuracy", "spread", "alignment")
"""Columns of the LaTeX table."""
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "−": "$-$",
          "–": "--", "⚠": r"$^\ast$", "<": "$<$", ">": "$>$", "’": "'", "²": "$^2$",
          "σ": r"$\sigma$"}  # fmt: skip


def rich_table(table: pd.DataFrame, side: Side, width: int = WHOLE_WIDTH) -> Table:
    """The rows of one side for the terminal, the reference in bold, anchors dimmed.

    Args:
        table: a `comparison_table`.
        side: "seen" or "unseen".
        width: of the terminal; below `WHOLE_WIDTH` only the columns that matter most are shown.
    """
    from rich.table import Table

    columns = [column for column in shown_columns(table) if width >= WHOLE_WIDTH or column.key in NARROW]
    caption = "[ ] 95 % interval; p after Holm's correction." + (
        "" if width >= WHOLE_WIDTH else " All columns: report.md."
    )
    drawn = Table(title=side_title(table, side), title_justify="left", caption=caption)
    drawn.add_column("Method")
    for column in columns:
        drawn.add_column(column.heading, justify="right")
    styles = {"reference": "bold", "anchor": "dim"}
    for _, row in table[table["side"] == side].iterrows():
        cells = [cell_text(row, column.key) for column in columns]
        if width < WHOLE_WIDTH:  # headings may wrap, figures may not
            cells = [cell.replace(" [", "\n[").replace(" ", "\N{NO-BREAK SPACE}") for cell in cells]
        drawn.add_row(row["label"], *cells, style=styles.get(row["role"]))
    return drawn


def markdown_table(table: pd.DataFrame, side: Side, wanted: tuple[Column, ...] = COLUMNS) -> str:
    """The rows of one side as a Markdown table under its caption. `table`: a `comparison_table`."""
    columns = shown_columns(table, wanted)
    rows = []
    for _, row in table[table["side"] == side].iterrows():
        label = f"**{row['label']}**" if row["role"] == "reference" else row["label"]
        rows.append([label, *(cell_text(row, column.key) for column in columns)])
    return _markdown_table(side_title(table, side), ["Method", *(column.heading for column in columns)], rows)


def _markdown_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"**{caption}**", "", "| " + " | ".join(headings) + " |", "|---|" + "---:|" * (len(headings) - 1)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown_tables(table: pd.DataFrame) -> str:
    """Every side's table in Markdown, then the other metrics."""
    sides = [side for side in SIDES if (table["side"] == side).any()]
    parts = [markdown_table(table, side, wanted) for wanted in (COLUMNS, MORE_COLUMNS) for side in sides]
    return "\n".join(parts)


def latex_tables(table: pd.DataFrame, benchmark: str) -> str:
    """Every side's table in LaTeX (booktabs), ready to be \\input."""
    sides = [side for side in SIDES if (table["side"] == side).any()]
    return "% Made by `cuma report`. Needs \\usepackage{booktabs}.\n" + "\n".join(
        latex_table(table, side, benchmark) for side in sides
    )


def latex_table(table: pd.DataFrame, side: Side, benchmark: str) -> str:
    """One side's table in LaTeX, intervals in small type. `table`: a `comparison_table`."""
    columns = [column for column in shown_columns(table) if column.key in PAPER]
    rows = []
    for _, row in table[table["side"] == side].iterrows():
        label = latex(row["label"])
        label = rf"\textbf{{{label}}}" if row["role"] == "reference" else label
        rows.append([label, *(_latex_cell(cell_text(row, column.key)) for column in columns)])
    caption = rf"{latex(benchmark)}, {latex(side_title(table, side))}. Brackets: 95\,\% intervals."
    return _latex_table(caption, f"{_slug(benchmark)}-{side}", ["Method", *(c.heading for c in columns)], rows)


def _slug(benchmark: str) -> str:
    return re.sub("[^a-z0-9]+", "-", benchmark.lower()).strip("-")


def _latex_table(caption: str, label: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """caption, label and cells are LaTeX already."""
    lines = [
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
        r"\toprule",
        " & ".join(map(latex, headings)) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def markdown_listing(listing: Listing) -> str:
    """A small table in Markdown under its caption."""
    return _markdown_table(listing.caption, listing.headings, listing.rows)


def latex_listing(listing: Listing, benchmark: str) -> str:
    """A small table in LaTeX."""
    rows = [[latex(first), *map(_latex_cell, rest)] for first, *rest in listing.rows]
    caption = rf"{latex(benchmark)}, {latex(listing.caption)}. Brackets: 95\,\% intervals."
    return _latex_table(caption, f"{_slug(benchmark)}-{listing.key}", listing.headings, rows)


def latex(text: str) -> str:
    """Text with LaTeX's special characters, and ours, written so that it shows them."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _latex_cell(text: str) -> str:
    figure, bracket, bounds = text.partition(" [")
    return latex(figure) + (rf" {{\scriptsize {latex(bracket.strip() + bounds)}}}" if bracket else "")
