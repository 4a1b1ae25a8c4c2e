"""write_report: run folders in, one self-contained HTML page out. Needs no network, neither to make nor to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from cuma.metrics.figures import number
from cuma.privacy.small_groups import MIN_PEOPLE
from cuma.reports.collapse_and_gradients import collapse_rows, gradient_rows
from cuma.reports.conversation_tables import conversation_listings
from cuma.reports.corner_curves import corner_panels, pace_listing
from cuma.reports.corner_table import corner_listing, corner_payload
from cuma.reports.expert_map import topology_payload
from cuma.reports.expert_use import health_rows, training_panels
from cuma.reports.formats import latex_listing, latex_tables, markdown_listing, markdown_tables
from cuma.reports.group_rows import group_listing
from cuma.reports.item_table import item_listings
from cuma.reports.method_and_data import data_card, design_sentence, facts, method_card, over_orders, read_from
from cuma.reports.plots import answers_payload, curve_panels, first_methods, method_entries
from cuma.reports.side_tables import (
    choice_listings,
    choice_sentences,
    reply_listings,
    small_listings,
)
from cuma.reports.tables import (
    MORE_COLUMNS,
    SIDES,
    Column,
    Side,
    cell_text,
    compare_methods,
    few_sentences,
    shown_columns,
    shown_sides,
    side_title,
)
from cuma.reports.templating import STYLE, html_environment, page_json, template_text
from cuma.reports.verdict import control_sentences, headline, sentences
from cuma.reports.world import world_payload
from cuma.runs.evidence import Evidence, read_evidence
from cuma.runs.folder import write_text
from cuma.runs.group_answers import true_answers

DEFAULT_TITLE = "Whose answers does the model give?"
CHOICES_HEADLINE = "How often each method names the reply that a person prefers"
CONVERSATIONS_HEADLINE = "How well each method knows what people wrote and preferred"
REPLIES_HEADLINE = "How varied each method’s replies are"


@dataclass(frozen=True)
class Part:
    """A part of the page: a template of its name, which gets its rows under that name."""

    title: str
    """In the page's list of parts."""
    rows: Callable[[Evidence], Any] = lambda evidence: True
    """What it shows; the part is left out where that is nothing."""
    draws: bool = False
    """Whether there is a script of its name."""
    json: str = ""
    """The key under which scripts find the rows; empty: they do not."""
    with_table: bool = False
    """Whether it is there whenever there is a comparison, even without rows."""


PARTS = {
    "corners": Part("Four corners", corner_payload, draws=True, json="corners"),
    "collapse": Part("Groups apart", collapse_rows),
    "table": Part("Comparison", with_table=True),
    "world": Part("World", world_payload, draws=True, json="world"),
    "groups": Part("All groups", group_listing),
    "answers": Part("Answers", answers_payload, draws=True, json="answers"),
    "choices": Part("Replies", choice_listings),
    "conversations": Part("Conversations", conversation_listings),
    "replies": Part("Written replies", reply_listings),
    "topology": Part("Experts", topology_payload, draws=True, json="topology"),
    "changes": Part("What if", draws=True),
    "health": Part("Health", health_rows),
    "gradients": Part("Gradients", gradient_rows, draws=True, json="gradients"),
    "curves": Part("Training", draws=True, json="panels"),
    "how": Part("Method and data"),
}
"""Parts of the page in order."""


def write_report(
    runs: Sequence[Path],
    output: Path,
    *,
    title: str = DEFAULT_TITLE,
    reference: str | None = None,
    benchmark: str | None = None,
    draws: int = 1000,
) -> Path:
    """Write the page that compares `runs`, and its table for a paper beside it (.md and .tex); return the page's path.

    runs: evaluated run folders, in the order in which the page shows them. reference: name of the run that the others
    are compared with; benchmark: whose evaluations are read; None: as `read_evidence` chooses. draws: bootstrap draws
    behind every interval.
    The same input gives the same bytes. RunError or BenchmarkError when runs are damaged or cannot be compared.
    """
    evidence = read_evidence(runs, reference, benchmark)
    table = compare_methods(evidence, draws=draws)
    output = Path(output)
    write_page(evidence, table, output, title)
    return output


def write_page(evidence: Evidence, table: pd.DataFrame, output: Path, title: str = DEFAULT_TITLE) -> None:
    """The page, and the tables beside it under the same name. `table`: `compare_methods` of the same evidence."""
    write_text(output, render(evidence, table, title))
    pace = [listing] if (listing := pace_listing(evidence)) else []
    beside = [*small_listings(evidence), *choice_listings(evidence), *conversation_listings(evidence)]
    beside += [*reply_listings(evidence), *pace]
    first = [listing, *item_listings(evidence)] if (listing := corner_listing(evidence)) else []
    markdown = [*map(markdown_listing, first), markdown_tables(table), *map(markdown_listing, beside)]
    write_text(output.with_suffix(".md"), "\n".join(markdown))
    latex = [latex_listing(listing, evidence.benchmark) for listing in (*first, *beside)]
    write_text(output.with_suffix(".tex"), "\n".join([latex_tables(table, evidence.benchmark), *latex]))


def render(evidence: Evidence, table: pd.DataFrame, title: str = DEFAULT_TITLE) -> str:
    """The page as text. `table`: `compare_methods` of the same evidence."""
    rows = {name: part.rows(evidence) for name, part in PARTS.items()}
    rows["changes"] = [entry for entry in rows["topology"] if entry["learned"] and entry["learned"]["changes"]]
    rows["curves"] = [*(corner_panels(evidence) or curve_panels(evidence, table)), *training_panels(evidence)]
    groups = rows["answers"]["groups"]
    nothing = {name for name, part in PARTS.items() if (table.empty if part.with_table else not rows[name])}
    sections = [name for name in PARTS if name not in nothing and (name != "answers" or groups)]
    scripts = [*(["first"] if groups else []), *(name for name in sections if PARTS[name].draws)]
    first = first_methods(evidence, table) if groups else []
    data = {"methods": method_entries(evidence), "benchmark": evidence.benchmark} | {
        part.json: rows[name] for name, part in PARTS.items() if part.json
    }
    return (
        html_environment()
        .get_template("report/page.html.j2")
        .render(
            **rows,
            first=first,
            rest=[i for i in range(len(evidence.methods)) if i not in first],
            sections=sections,
            names={name: part.title for name, part in PARTS.items()},
            scripts=[template_text(f"report/{name}.js") for name in ("base", *scripts)],
            data=page_json(data),
            css=template_text(STYLE),
            plotly=get_plotlyjs(),
            **_words(evidence, table, title),
        )
    )


def _words(evidence: Evidence, table: pd.DataFrame, title: str) -> dict[str, Any]:
    """What the page says in text and tables."""
    entries = method_entries(evidence)
    headings, rows = method_card(evidence)
    rivals = len(table.loc[table["p_holm"].notna(), "name"].unique())
    return {
        "title": title,
        "benchmark": evidence.benchmark,
        "seeds": _seeds(evidence),
        "trained": bool(table["trained"].any()) if len(table) else False,
        "headline": _headline(evidence, table),
        "sentences": choice_sentences(evidence) if table.empty else sentences(table),
        "few": few_sentences(evidence),
        "controls": control_sentences(table),
        "columns": shown_columns(table),
        "more_columns": shown_columns(table, MORE_COLUMNS),
        "corrected": evidence.reference.label if evidence.reference and rivals else None,
        "compared": rivals,
        "sides": [_side(table, side, entries) for side in SIDES if (table["side"] == side).any()],
        "questions": evidence.questions,
        "methods": [{"entry": entry, "info": m.info} for entry, m in zip(entries, evidence.methods, strict=True)],
        "spreads": dict.fromkeys((method.name for method in evidence.methods), "") | _spreads(table),
        "hidden": int(evidence.people["group"].nunique() - true_answers(evidence)["group"].nunique()),
        "min_people": MIN_PEOPLE,
        "card_headings": headings,
        "card_rows": rows,
        "read_from": read_from(evidence),
        "over_orders": over_orders(evidence),
        "design_sentence": design_sentence(evidence),
        "facts": facts(evidence),
        "data_card": data_card(evidence),
        "curve_rows": _curve_rows(evidence),
        "corner_listing": corner_listing(evidence),
        "item_listings": item_listings(evidence),
        "pace": pace_listing(evidence),
        "listings": small_listings(evidence),
        "choice_sentences": choice_sentences(evidence),
        "of_shares": evidence.of_shares,
        "drawn_by_design": evidence.design is not None,
    }


def _headline(evidence: Evidence, table: pd.DataFrame) -> str:
    if not evidence.people.empty:
        return headline(table)
    if choice_listings(evidence):
        return CHOICES_HEADLINE
    return CONVERSATIONS_HEADLINE if conversation_listings(evidence) else REPLIES_HEADLINE


def _seeds(evidence: Evidence) -> str:
    """Over how many seeds the page speaks; empty where no model was trained."""
    trained = [method.info for method in evidence.methods if method.info["kind"] == "trained"]
    seeds = {info["seed"] for info in trained if info.get("seed") is not None}
    return "" if not trained else "one training seed" if len(seeds) <= 1 else f"{len(seeds)} training seeds, one a run"


def _side(table: pd.DataFrame, side: Any, entries: list[dict[str, str]]) -> dict[str, Any]:
    """One table: caption, rows of cells, and the small interval chart's scale."""
    rows = table[table["side"] == side]
    colours = {entry["name"]: entry["colour"] for entry in entries}
    widest = float(rows[["soft_emd", "soft_emd_high"]].max().max()) * 1.04 or 1.0
    columns, more = shown_columns(table), shown_columns(table, MORE_COLUMNS)
    return {
        "title": side_title(table, side),
        "name": side,
        "scale": number(widest, 2),
        "rows": [_table_row(row, columns, colours[row["name"]], widest) for _, row in rows.iterrows()],
        "more": [{"label": row["label"], "cells": _cells(row, more)} for _, row in rows.iterrows()],
    }


def _table_row(row: pd.Series, columns: tuple[Column, ...], colour: str, widest: float) -> dict[str, Any]:
    def place(value: float) -> float | None:
        return None if pd.isna(value) else round(100 * value / widest, 1)

    return {
        "label": row["label"],
        "role": row["role"],
        "colour": colour,
        "cells": _cells(row, columns),
        "value": place(row["soft_emd"]),
        "low": place(row["soft_emd_low"]),
        "high": place(row["soft_emd_high"]),
        "floor": place(row["noise_floor"]),
    }


def _cells(row: pd.Series, columns: tuple[Column, ...]) -> list[dict[str, str]]:
    """Each figure and, on its own line, its interval."""
    parts = [cell_text(row, column.key).partition("[") for column in columns]
    return [{"figure": figure.strip(), "bounds": bracket + bounds} for figure, bracket, bounds in parts]


def _spreads(table: pd.DataFrame) -> dict[str, str]:
    """ "spread 0.98 seen, 0.71 unseen" under each method's small picture."""
    return {
        str(name): "spread " + ", ".join(f"{number(row['spread'], 2)} {row['side']}" for _, row in rows.iterrows())
        for name, rows in table.groupby("name")
    }


def _curve_rows(evidence: Evidence) -> list[list[str]]:
    """The learning curves as a table, for readers who cannot see the picture."""
    rows, sides = [], shown_sides(evidence)
    for method in evidence.methods:
        for row in method.curve.itertuples():
            side: Side = "seen" if row.seen else "unseen"
            if side not in sides:
                continue
            rows.append([method.label, side, str(row.step), number(row.soft_emd), number(row.spread, 2)])
    return rows
