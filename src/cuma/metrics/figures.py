"""Figures as text, the same on pages, cards, the terminal and in studies: fixed digits, a real minus, brackets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cuma.privacy.small_groups import people_text

MISSING = "–"


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A figure as it is printed: fixed digits, a real minus, a dash where there is none, never "−0.000"."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def estimate_text(entry: Mapping[str, Any] | None, digits: int = 3, *, sign: bool = False) -> str:
    """ "0.310 [0.204, 0.442]" of {"value", "low", "high"}; no brackets without an interval, a dash without a value."""
    ends = [number((entry or {}).get(name), digits, sign=sign) for name in ("value", "low", "high")]
    return ends[0] if MISSING in ends else f"{ends[0]} [{ends[1]}, {ends[2]}]"


def effect_text(effect: Mapping[str, float] | None) -> str:
    """ "design effect 2.15 on average, 2.94 at worst" of {"mean", "median", "worst"}; empty where there is none."""
    if not effect:
        return ""
    mean, median, worst = (number(effect[name], 2) for name in ("mean", "median", "worst"))
    return f"design effect {mean} on average (median {median}, at worst {worst})"


def design_text(design: Mapping[str, Any] | None) -> str:
    """What is known of how a survey drew its people, as a sentence. design: as in scores.json; None: nothing."""
    if design is None:
        return "No strata or sampling units are known: intervals take people as drawn one by one."
    units, strata, replicates = design["units"], design["strata"], design["replicates"]
    drawn = "people drawn one by one" if units is None else f"{units:,} sampling units"
    drawn += "" if strata is None else f" in {strata:,} strata"
    words = [] if units is None and strata is None else [drawn]
    words += [f"weights {design['weights']}"] if design["weights"] else []
    words += [f"{replicates['count']} replicate weights ({replicates['kind'].replace('_', ' ')})"] if replicates else []
    text = f"The survey’s design: {', '.join(words)}; intervals and noise floors follow it."
    if lonely := design["lonely_strata"]:
        text += f" Strata with one unit: {lonely}; they count with its distance from the mean of all units."
    if without := design["people_without"]:
        text += f" People without a stratum or unit: {people_text(without)}."
    return text


def percent(share: float, digits: int = 0) -> str:
    """ "12 %", with a space as the page has it."""
    return f"{100 * share:.{digits}f} %"


def p_text(p: float) -> str:
    """A p-value: three digits, "<0.001" below."""
    return "<0.001" if p < 0.001 else number(p)
