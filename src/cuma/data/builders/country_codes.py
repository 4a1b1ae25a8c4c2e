"""Countries by their codes: ISO 3166-1 (two letters, three letters, a number), and the survey programmes' own."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from cuma.data.builders.cell_text import cell_number

_TABLE = Path(__file__).with_name("countries.csv")
"""ISO's codes with Unicode CLDR's English names (Babel 2.19, Unicode License v3)."""
_WVS = {"197": "Northern Cyprus", "909": "Northern Ireland", "915": "Kosovo"}
"""World Values Survey: ISO's numbers, and these of its own."""


@cache
def _names() -> dict[str, str]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_code = {row[kind]: row["name"] for row in rows for kind in ("alpha2", "alpha3")}
    return _WVS | {str(int(row["numeric"])): row["name"] for row in rows} | by_code


def country_of(code: str) -> str | None:
    """The English name for a code in whatever of these forms ("NO", "nor", "578", "036"); None: it is none."""
    number = cell_number(code)
    whole = number is not None and number == int(number)
    return _names().get(str(int(number)) if whole and number is not None else code.strip().upper())
