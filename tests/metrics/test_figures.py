"""Figures as text."""

from __future__ import annotations

import pytest

from cuma.metrics.figures import estimate_text, number, p_text, percent


@pytest.mark.parametrize(
    ("value", "text"), [(-0.0001, "0.000"), (0.0004, "0.000"), (-0.25, "−0.250"), (0.25, "+0.250"), (float("nan"), "–")]
)
def test_numbers_are_printed_plainly(value: float, text: str) -> None:
    assert number(value, sign=True) == text
    assert number(None) == "–"


def test_estimates_have_their_interval_in_brackets() -> None:
    assert estimate_text({"value": 0.1234, "low": -0.1, "high": 0.3}) == "0.123 [−0.100, 0.300]"
    assert estimate_text({"value": 0.1234, "low": -0.1, "high": 0.3}, 1, sign=True) == "+0.1 [−0.1, +0.3]"
    assert estimate_text({"value": 0.1234, "low": None, "high": None}) == estimate_text({"value": 0.1234}) == "0.123"
    assert estimate_text({"value": 0.1234, "low": float("nan"), "high": float("nan")}) == "0.123"
    assert estimate_text({"value": None, "low": None, "high": None}) == estimate_text(None) == "–"


def test_shares_and_p_values() -> None:
    assert (percent(0.125, 1), percent(0.25)) == ("12.5 %", "25 %")
    assert (p_text(0.0004), p_text(0.25)) == ("<0.001", "0.250")
