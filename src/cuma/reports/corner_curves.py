"""The learning curve by what was new, and how soon each method gets where the best rival ends."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cuma.metrics.corners import CORNERS
from cuma.metrics.figures import MISSING, number
from cuma.reports.plots import series
from cuma.reports.side_tables import Listing
from cuma.runs.evidence import Evidence
from cuma.runs.method import Method

CAPTION = "The error at the end, and how soon it is as good as the best rival’s end"
NOTE = (
    "Soft EMD ↓ of the validation curve. Best rival: of the other trained methods the one with the least error at its "
    "end; controls are no rivals. Steps and seconds: the first point of the curve that is as good. Seconds are of "
    "training alone, on the machine named below, without measuring. “Not reached”: no point of the curve is as good."
)


def corner_panels(evidence: Evidence) -> list[dict[str, Any]]:
    """A panel of the learning curve for each corner; none where no corners were measured while training."""
    panels = []
    for corner in CORNERS:
        drawn = [
            series(place, curve["step"], curve["soft_emd"])
            for place, method in enumerate(evidence.methods)
            if len(curve := _of(method, corner))
        ]
        if drawn:
            panels.append({"box": "curves", "title": f"Soft EMD, {corner}", "series": drawn, "lines": []})
    return panels


def pace_listing(evidence: Evidence) -> Listing | None:
    """A row for each trained method and corner; None without curves of corners."""
    rows = []
    for corner in CORNERS:
        curves = {method.name: _of(method, corner) for method in evidence.methods}
        ends = {name: float(curve["soft_emd"].iloc[-1]) for name, curve in curves.items() if len(curve)}
        roles = {method.name: method.role for method in evidence.methods}
        for method in evidence.methods:
            if method.name in ends:
                rivals = [end for name, end in ends.items() if name != method.name and roles[name] != "control"]
                pace = _pace(curves[method.name], min(rivals, default=None))
                steps = int(curves[method.name]["step"].iloc[-1])
                rows.append((method.label, corner, number(ends[method.name]), f"{steps:,}", *pace))
    headings = ("Method", "Corner", "At its end", "Steps", "Best rival’s end", "Steps to it", "Seconds to it")
    return Listing("pace", CAPTION, headings, tuple(rows), NOTE) if rows else None


def _pace(curve: pd.DataFrame, end: float | None) -> tuple[str, str, str]:
    """The rival's end, and steps and seconds until the curve is as good."""
    if end is None:
        return MISSING, MISSING, MISSING
    there = curve[curve["soft_emd"] <= end]
    if there.empty:
        return number(end), "not reached", MISSING
    first = there.iloc[0]
    return number(end), f"{int(first['step']):,}", number(first["seconds"], 0)


def _of(method: Method, corner: str) -> pd.DataFrame:
    return method.corner_curve[method.corner_curve["corner"] == corner]
