"""Draw how each method's error falls while it learns: docs/questions-curves.svg, from docs/results/questions.json.

    python studies/question_curves.py

A thick line is a method's mean over its splits, thin ones are its splits. The picture holds its figures as well, in its
element `metadata`, so that a test can compare them with the results. Needs Chromium with its driver, and selenium.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import plotly.graph_objects as go
from question_table import mean_curve, mean_error, on_shared_splits
from questions import METHODS, Study
from report_pictures import DOCS, chromium

PICTURE = DOCS / "questions-curves.svg"
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#8b9298", "#e69f00")
"""Okabe and Ito's, CuMA's first."""
SIZE = {"width": 760, "height": 420}


def main() -> None:
    """Draw what is known of the thermometers."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    runs = Study(Path("runs/questions"), None, None).runs("anes")
    found = curves(on_shared_splits(runs, [name for name in runs if METHODS[name].main]))
    PICTURE.write_text(drawn(found), encoding="utf-8")


def curves(runs: Mapping[str, Mapping[int, Any]]) -> dict[str, dict[str, list[list[float]]]]:
    """Label → "mean" and each split → [step, validation error], rounded as in the results."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for method, splits in runs.items():
        lines = {"mean": mean_curve(splits)} | {f"split {split}": run["curve"] for split, run in splits.items()}
        found[METHODS[method].label] = {
            name: [[row["step"], round(mean_error(row), 4)] for row in line] for name, line in lines.items()
        }
    return found


def figure(found: Mapping[str, Mapping[str, list[list[float]]]]) -> go.Figure:
    """A line for each method, named at its end, over thin ones for its splits."""
    picture = go.Figure()
    for colour, (label, lines) in zip(COLOURS, found.items(), strict=False):
        for name, line in reversed(lines.items()):
            steps, errors = zip(*line, strict=True)
            wide = name == "mean"
            picture.add_scatter(
                x=steps, y=errors, mode="lines", name=label, showlegend=wide, opacity=1 if wide else 0.35,
                line={"color": colour, "width": 3 if wide else 1},
            )  # fmt: skip
    picture.update_layout(
        template="plotly_white", **SIZE, margin={"l": 60, "r": 20, "t": 20, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 14, "color": "#1b1f23"},
        legend={"x": 0.98, "y": 0.98, "xanchor": "right", "bgcolor": "#ffffffcc"},
        xaxis={"title": {"text": "training step (16 cells each)"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "soft EMD on validation answers ↓"}, "range": [0, 0.3]},
        paper_bgcolor="#ffffff", plot_bgcolor="#ffffff",
    )  # fmt: skip
    return picture


def drawn(found: Mapping[str, Any]) -> str:
    """The picture as SVG, with its figures inside."""
    with chromium() as browser, tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "curves.html"
        figure(found).write_html(page, div_id="curves", include_plotlyjs=True)
        browser.get(page.as_uri())
        browser.set_script_timeout(120)
        address = browser.execute_async_script(
            "const done = arguments[0];"
            f"Plotly.toImage('curves', {{format: 'svg', width: {SIZE['width']}, height: {SIZE['height']}}}).then(done)"
        )
    svg = unquote(address.split(",", 1)[1])
    return f"{svg.removesuffix('</svg>')}<metadata>{escape(json.dumps(found))}</metadata></svg>\n"


if __name__ == "__main__":
    main()
