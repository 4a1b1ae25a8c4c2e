"""Raking meets every margin, keeps what the margins leave open, and says what cannot be met."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import Table2x2

from cuma.metrics.raking import rake


def test_it_meets_the_margins_and_keeps_the_odds_ratio() -> None:
    cells = np.array([40.0, 10.0, 20.0, 30.0])
    row, column = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    found, off = rake(cells, [(row, np.array([0.7, 0.3])), (column, np.array([0.2, 0.8]))])
    assert off.max() < 1e-9
    np.testing.assert_allclose(np.bincount(row, found), [0.7, 0.3], atol=1e-9)
    np.testing.assert_allclose(np.bincount(column, found), [0.2, 0.8], atol=1e-9)
    before, after = (Table2x2(each.reshape(2, 2)).oddsratio for each in (cells, found))
    assert after == pytest.approx(before)


def test_margins_that_need_an_empty_cell_are_not_met() -> None:
    both = np.array([0, 1])
    _, off = rake(np.ones(2), [(both, np.array([0.5, 0.5])), (both, np.array([0.2, 0.8]))])
    assert off.max() > 0.1


def test_without_margins_weights_only_sum_to_1() -> None:
    found, off = rake(np.array([1.0, 3.0]), [])
    assert found.tolist() == [0.25, 0.75]
    assert not off.size
