"""The same search for every method: learning rates are doubled or halved until the best one has worse neighbours."""

from __future__ import annotations

from collections.abc import Mapping

RATES = ("1.25e-4", "2.5e-4", "5e-4", "1e-3", "2e-3", "4e-3", "8e-3", "16e-3")
"""Those that may be tried."""
FIRST_RATE = "1e-3"


def next_rate(errors: Mapping[str, float]) -> str | None:
    """The learning rate to try after those with these errors: what is missing of twice and half the best one; None:
    both are known, and worse, or beyond `RATES`."""
    if not errors:
        return FIRST_RATE
    best = RATES.index(min(errors, key=lambda rate: errors[rate]))
    neighbours = (RATES[place] for place in (best + 1, best - 1) if 0 <= place < len(RATES))
    return next((rate for rate in neighbours if rate not in errors), None)
