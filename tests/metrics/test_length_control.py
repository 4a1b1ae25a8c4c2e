from __future__ import annotations

import numpy as np
import pytest

from cuma.metrics import length_controlled_win_rate


def judged(theta: float, phi: float, shift: float, n: int = 4000, seed: int = 0):
    """Scores of a judge with quality θ and length bias φ, on replies that are `shift` characters longer on average."""
    rng = np.random.default_rng(seed)
    reference = rng.integers(100, 400, size=n)
    candidate = reference + rng.normal(shift, 100, size=n).round().astype(int)
    difference = candidate - reference
    chance = 1 / (1 + np.exp(-(theta + phi * np.tanh(difference / difference.std()))))
    return (rng.random(n) < chance).astype(float), candidate, reference


@pytest.mark.parametrize("theta", [-1.0, 0.0, 0.7])
def test_the_rate_at_equal_length_is_found_again(theta: float):
    scores, candidate, reference = judged(theta, phi=2.0, shift=100)
    assert length_controlled_win_rate(scores, candidate, reference) == pytest.approx(1 / (1 + np.exp(-theta)), abs=0.03)
    assert scores.mean() > length_controlled_win_rate(scores, candidate, reference) + 0.05


def test_without_a_bias_it_is_the_plain_rate():
    scores, candidate, reference = judged(0.5, phi=0.0, shift=50)
    assert length_controlled_win_rate(scores, candidate, reference) == pytest.approx(scores.mean(), abs=0.03)


def test_a_tie_is_half_a_win_and_half_a_loss():
    assert length_controlled_win_rate([1, 1, 0.5, 0.5], [2, 1, 2, 1], [1, 2, 1, 2]) == pytest.approx(0.75, abs=1e-3)


def test_changing_sides_changes_sides():
    scores, candidate, reference = judged(0.3, phi=1.0, shift=40, n=200)
    scores[:50] = 0.5
    one = length_controlled_win_rate(scores, candidate, reference)
    assert length_controlled_win_rate(1 - scores, reference, candidate) == pytest.approx(1 - one, abs=1e-3)


def test_the_plain_rate_where_length_explains_nothing_and_nan_where_it_explains_everything():
    assert length_controlled_win_rate([1, 0, 0, 0.5], [7, 8, 9, 1], [7, 8, 9, 1]) == 0.375
    assert length_controlled_win_rate([1, 1], [7, 8], [9, 1]) == 1
    assert length_controlled_win_rate([0, 0], [7, 8], [9, 1]) == 0
    assert length_controlled_win_rate([0.5, 0.5, 0.5], [7, 8, 9], [1, 9, 3]) == pytest.approx(0.5, abs=1e-6)
    assert np.isnan(length_controlled_win_rate([1, 0], [7, 8], [5, 6]))
    assert np.isnan(length_controlled_win_rate([], [], []))
