"""Country codes of every form name the same country."""

from __future__ import annotations

import pytest

from cuma.data.builders.country_codes import country_of


@pytest.mark.parametrize(
    ("codes", "name"),
    [
        (("NO", "no", "NOR", "578", "578.0"), "Norway"),
        (("AU", "aus", "36", "036"), "Australia"),
        (("NA", "NAM", "516"), "Namibia"),
        (("XK", "915"), "Kosovo"),
        (("909",), "Northern Ireland"),
        (("US", "USA", "840"), "United States"),
    ],
)
def test_one_country_has_many_codes(codes: tuple[str, ...], name: str) -> None:
    assert {country_of(code) for code in codes} == {name}


@pytest.mark.parametrize("code", ["XX", "0", "-1", "1.5", "", "Norway", "9999"])
def test_other_texts_are_no_codes(code: str) -> None:
    assert country_of(code) is None
