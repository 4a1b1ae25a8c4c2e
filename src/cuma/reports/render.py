"""write_report: run folders in, one self-contained HTML page out. Needs no network, neither to make nor to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from cuma.reports.plots import answers_payload, curves_payload, method_entries, true_answers
from cuma.reports.privacy import MIN_PEOPLE
from cuma.reports.reading import Evidence, read_evidence
from cuma.reports.tables import SIDES, Column, cell_text, compare_methods, number, shown_columns, side_title
from cuma.reports.topology import topology_payload
from cuma.reports.verdict import control_sentences, headline, sentences
from cuma.runs import write_text

DEFAULT_TITLE = "Whose answers does the model give?"


def write_report(
    runs: Sequence[Path], output: Path, *, title: str = DEFAULT_TITLE, reference: str = "cuma", draws: int = 1000
) -> Path:
    """Write the page that compares `runs` and return its path.

    runs: evaluated run folders, in the order in which the page shows them. reference: name of the run that the others
    are compared with; if none has it, the page makes no comparison. draws: bootstrap draws behind every interval.
    The same input gives the same bytes. RunError or BenchmarkError when runs are damaged or cannot be compared.
    """
    evidence = read_evidence(runs, reference)
    table = compare_methods(evidence, draws=draws)
    output = Path(output)
    write_text(output, render(evidence, table, title))
    return output


def render(evidence: Evidence, table: pd.DataFrame, title: str = DEFAULT_TITLE) -> str:
    """The page as text. `table`: `compare_methods` of the same evidence."""
    entries = method_entries(evidence)
    data = {
        "methods": entries,
        "answers": answers_payload(evidence),
        "curves": curves_payload(evidence, table),
        "topology": topology_payload(evidence),
    }
    environment = Environment(
        loader=PackageLoader("cuma.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        benchmark=evidence.benchmark,
        headline=headline(table),
        sentences=sentences(table),
        controls=control_sentences(table),
        columns=shown_columns(table),
        sides=[_side(table, side, entries) for side in SIDES if (table["side"] == side).any()],
        questions=evidence.questions,
        methods=[{"entry": entry, "info": m.info} for entry, m in zip(entries, evidence.methods, strict=True)],
        facts=_facts(evidence),
        curves=_curve_rows(evidence),
        topology=data["topology"],
        has_curves=bool(data["curves"]),
        spreads=_spreads(table),
        hidden=_hidden_count(evidence),
        min_people=MIN_PEOPLE,
        data=_json(data),
        css=_template("report.css"),
        js=_template("report.js"),
        plotly=get_plotlyjs(),
    )


def _side(table: pd.DataFrame, side: Any, entries: list[dict[str, str]]) -> dict[str, Any]:
    """One table: caption, rows of cells, and the small interval chart's scale."""
    rows = table[table["side"] == side]
    colours = {entry["name"]: entry["colour"] for entry in entries}
    widest = float(rows[["soft_emd", "soft_emd_high"]].max().max()) * 1.04 or 1.0
    columns = shown_columns(table)
    return {
        "title": side_title(table, side),
        "name": side,
        "scale": number(widest, 2),
        "rows": [_table_row(row, columns, colours[row["name"]], widest) for _, row in rows.iterrows()],
    }


def _table_row(row: pd.Series, columns: tuple[Column, ...], colour: str, widest: float) -> dict[str, Any]:
    def place(value: float) -> float | None:
        return None if pd.isna(value) else round(100 * value / widest, 1)

    return {
        "label": row["label"],
        "role": row["role"],
        "colour": colour,
        "cells": [_cell(cell_text(row, column.key)) for column in columns],
        "value": place(row["soft_emd"]),
        "low": place(row["soft_emd_low"]),
        "high": place(row["soft_emd_high"]),
        "floor": place(row["noise_floor"]),
    }


def _cell(text: str) -> dict[str, str]:
    """The figure and, on its own line, its interval."""
    figure, bracket, bounds = text.partition("[")
    return {"figure": figure.strip(), "bounds": bracket + bounds}


def _facts(evidence: Evidence) -> list[tuple[str, str]]:
    """What the runs recorded about machine, seed, versions, data and licences; each value once."""
    names = {
        "seed": "Training seed",
        "hardware": "Machine",
        "versions": "Versions",
        "command": "Command",
        "data": "Data",
        "licences": "Licences",
    }
    facts = []
    for key, name in names.items():
        found = [method.info[key] for method in evidence.methods if method.info.get(key) not in (None, "", {}, [])]
        if found:
            facts.append((name, " · ".join(dict.fromkeys(map(_plain, found)))))
    return facts


def _plain(value: Any) -> str:
    """A value of run.json as a line of text; nested ones as "name value; name value"."""
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(inner)}" for key, inner in value.items() if inner is not None)
    return ", ".join(_plain(inner) for inner in value) if isinstance(value, list) else str(value)


def _spreads(table: pd.DataFrame) -> dict[str, str]:
    """ "spread 0.98 seen, 0.71 unseen" under each method's small picture."""
    return {
        str(name): "spread " + ", ".join(f"{number(row['spread'], 2)} {row['side']}" for _, row in rows.iterrows())
        for name, rows in table.groupby("name")
    }


def _curve_rows(evidence: Evidence) -> list[list[str]]:
    """The learning curves as a table, for readers who cannot see the picture."""
    rows = []
    for method in evidence.methods:
        for row in method.curve.itertuples():
            side = "seen" if row.seen else "unseen"
            rows.append([method.label, side, str(row.step), number(row.soft_emd), number(row.spread, 2)])
    return rows


def _hidden_count(evidence: Evidence) -> int:
    return int(evidence.people["group"].nunique() - true_answers(evidence)["group"].nunique())


def _json(data: dict[str, Any]) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _template(name: str) -> str:
    return files("cuma.reports").joinpath("templates", name).read_text(encoding="utf-8")
