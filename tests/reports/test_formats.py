"""Tables for a paper: the same figures, and LaTeX that is LaTeX."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cuma.reports import write_report
from cuma.reports.formats import PAPER, latex, latex_table, markdown_tables
from cuma.reports.tables import MORE_COLUMNS, cell_text, shown_columns


def test_every_figure_of_a_latex_row_is_the_tables(table: pd.DataFrame) -> None:
    text = latex_table(table, "unseen", "gss")
    columns = [column for column in shown_columns(table) if column.key in PAPER]
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and " & " in line][1:]
    unseen = table[table["side"] == "unseen"]
    assert len(rows) == len(unseen)
    for line, (_, row) in zip(rows, unseen.iterrows(), strict=True):
        cells = line.removesuffix(r" \\").split(" & ")
        assert len(cells) == len(columns) + 1
        for cell, column in zip(cells[1:], columns, strict=True):
            shown = re.sub(r"\{\\scriptsize ([^}]*)\}", r"\1", cell)
            assert shown == latex(cell_text(row, column.key))


def test_latex_is_balanced_and_escaped(table: pd.DataFrame) -> None:
    odd = table.assign(label=[r"50 % & more_{x} #1 $ \ ~^"] * len(table))
    text = latex_table(odd, "seen", "my_data & more")
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    for line in text.splitlines():
        assert not re.search(r"(?<!\\)[%#]|(?<!\\)_", line)
    assert r"\label{tab:my-data-more-seen}" in text
    assert not set(text) & set("↓↑−–⚠")


def test_the_other_metrics_are_in_the_markdown(table: pd.DataFrame) -> None:
    text = markdown_tables(table)
    for column in shown_columns(table, MORE_COLUMNS):
        assert column.heading in text
        for _, row in table.iterrows():
            assert cell_text(row, column.key) in text


def test_a_metric_that_nobody_has_is_left_out(table: pd.DataFrame) -> None:
    assert "steerability" not in {column.key for column in shown_columns(table, MORE_COLUMNS)}
    assert "jsd" in {column.key for column in shown_columns(table, MORE_COLUMNS)}


def test_the_tables_lie_beside_the_page(runs: list[Path], tmp_path: Path) -> None:
    page = write_report(runs[:1], tmp_path / "out" / "mine.html", draws=0)
    assert sorted(path.name for path in page.parent.iterdir()) == ["mine.html", "mine.md", "mine.tex"]
