"""Figures as text, the same on pages, cards, the terminal and in studies: fixed digits, a real minus, brackets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

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


def percent(share: float, digits: int = 0) -> str:
    """ "12 %", with a space as the page has it."""
    return f"{100 * share:.{digits}f} %"


def p_text(p: float) -> str:
    """A p-value: three digits, "<0.001" below."""
    return "<0.001" if p < 0.001 else number(p)
