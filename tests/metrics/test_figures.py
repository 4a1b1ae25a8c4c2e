"""Figures as text."""

from __future__ import annotations

import pytest

from cuma.metrics.figures import design_text, effect_text, estimate_text, number, p_text, percent


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


def test_a_design_is_said_in_words() -> None:
    nothing = {"strata": None, "units": None, "lonely_strata": 0, "weights": None, "replicates": None,
               "people_without": 0}  # fmt: skip
    assert design_text(None) == "No strata or sampling units are known: intervals take people as drawn one by one."
    units = design_text({**nothing, "strata": 50, "units": 1101, "weights": "V200010b", "lonely_strata": 2})
    assert "1,101 sampling units in 50 strata, weights V200010b; intervals" in units
    assert "Strata with one unit: 2;" in units
    assert "people drawn one by one in 36 strata;" in design_text({**nothing, "strata": 36})
    few = design_text({**nothing, "replicates": {"kind": "stratified_jackknife", "count": 80}, "people_without": 3})
    assert few.startswith("The survey’s design: 80 replicate weights (stratified jackknife); intervals")
    assert "without a stratum or unit: fewer than 11." in few
    assert effect_text(None) == ""
    text = effect_text({"mean": 2.15, "median": 2.0, "worst": 2.94})
    assert text == "design effect 2.15 on average (median 2.00, at worst 2.94)"
