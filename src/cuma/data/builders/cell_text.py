"""What a cell says, whatever type its file gave it: 4, 4.0, "4" and "4.0" are one number, true and "TRUE" one truth."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

_EXACT = 2**53
"""Whole numbers from here on have lost digits as floats."""
_WHOLE = re.compile(r"([-−]?\d+)\.0+")
_NUMBER = re.compile(r"[-−+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


def cell_text(value: Any) -> str:
    """A text or number as stripped text, the same from CSV, JSON and parquet; "" for nothing, lists and objects."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        value = int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < _EXACT
        return "" if math.isnan(value) else str(int(value)) if whole else str(value)
    if isinstance(value, str):
        text = value.strip()
        return match[1] if (match := _WHOLE.fullmatch(text)) else text
    return "" if value is None or isinstance(value, list | dict | tuple | bytes) else str(value)


def cell_number(text: str) -> float | None:
    """A text as a number, with a decimal point or comma; None if it is none."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text.replace(",", ".").replace("−", "-"))
    return number if math.isfinite(number) else None


def cell_truth(text: str) -> bool | None:
    """Yes and true, no and false, in any case; None for other texts."""
    return _TRUTHS.get(text.casefold())
