"""Nobody's answers are shown, or can be worked out, from a group of fewer than eleven people."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cuma.privacy.small_groups import MIN_PEOPLE, hidden, people_text

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""

SIZES = st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 40), max_size=12)


@patient
@given(SIZES)
def test_what_stays_is_large_and_what_goes_cannot_be_subtracted(sizes: dict[str, int]) -> None:
    gone = hidden(sizes)
    assert all(sizes[key] >= MIN_PEOPLE for key in sizes.keys() - gone)
    if gone and gone != sizes.keys():
        assert len(gone) >= 2
        assert sum(sizes[key] for key in gone) >= MIN_PEOPLE


@patient
@given(SIZES)
def test_nothing_goes_when_every_group_is_large_enough(sizes: dict[str, int]) -> None:
    large = {key: size + MIN_PEOPLE for key, size in sizes.items()}
    assert hidden(large) == frozenset()


@patient
@given(SIZES, st.data())
def test_keys_hidden_elsewhere_are_hidden_here(sizes: dict[str, int], data: st.DataObject) -> None:
    already = data.draw(st.sets(st.sampled_from(sorted(sizes)))) if sizes else set()
    assert already <= hidden(sizes, already)


def test_small_totals_are_words() -> None:
    assert people_text(10) == "fewer than 11"
    assert people_text(1234) == "1,234"
