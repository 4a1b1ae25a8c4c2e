from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from cuma.metrics import (
    accuracy,
    distinct_n,
    emd,
    entropy,
    js_distance,
    jsd,
    low_option_mass,
    macro_f1,
)


def shares(options: int) -> st.SearchStrategy[np.ndarray]:
    weights = arrays(np.float64, options, elements=st.floats(0, 1)).filter(lambda values: values.sum() > 1e-3)
    # scipy itself loses numbers of which the half is 0: there it is not the measure of anything
    return weights.map(lambda values: np.where(values < 1e-300, 0.0, values) / values.sum())


pairs = st.integers(2, 7).flatmap(lambda m: st.tuples(shares(m), shares(m)))
triples = st.integers(2, 7).flatmap(lambda m: st.tuples(shares(m), shares(m), shares(m)))


@settings(deadline=None)  # a busy machine is not a failure
@given(pairs)
def test_ordinal_emd_is_scipys_wasserstein_distance_on_zero_to_one(pair):
    p, q = pair
    places = np.linspace(0, 1, len(p))
    assert emd(p, q) == pytest.approx(wasserstein_distance(places, places, p, q), abs=1e-12)


@settings(deadline=None)
@example((np.array([1, 0.0]), np.array([1, 5e-324])))  # half of the second is 0
@given(pairs)
def test_jsd_is_scipys_distance_squared(pair):
    p, q = pair
    with np.errstate(invalid="ignore"):  # scipy takes the root of -1e-16 where p is almost q
        theirs = np.nan_to_num(jensenshannon(p, q), posinf=0.0)
    assert jsd(p, q) == pytest.approx(theirs**2, abs=1e-12)
    assert js_distance(p, q) ** 2 == pytest.approx(float(jsd(p, q)), abs=1e-12)
    assert 0 <= jsd(p, q) <= math.log(2) + 1e-12


@pytest.mark.parametrize("ordinal", [True, False])
@settings(deadline=None)
@given(triple=triples)
def test_emd_is_a_metric_between_zero_and_one(triple, ordinal):
    p, q, r = triple
    assert emd(p, p, ordinal) == 0
    assert emd(p, q, ordinal) == emd(q, p, ordinal)
    assert 0 <= emd(p, q, ordinal) <= 1 + 1e-12
    assert emd(p, r, ordinal) <= emd(p, q, ordinal) + emd(q, r, ordinal) + 1e-12


@settings(deadline=None)
@given(pairs)
def test_emd_of_two_options_does_not_ask_whether_they_are_ordered(pair):
    p, q = pair[0][:2] + 0.1, pair[1][:2] + 0.1
    p, q = p / p.sum(), q / q.sum()
    assert emd(p, q, ordinal=True) == emd(p, q, ordinal=False)


def test_emd_of_opposite_ends_is_one_and_nominal_options_are_all_equally_far():
    first, second, last = np.eye(3)
    assert emd(first, last) == 1
    assert emd(first, second) == 0.5
    assert emd(first, second, ordinal=False) == emd(first, last, ordinal=False) == 1


def test_arrays_of_distributions_are_measured_row_by_row():
    p, q = np.random.default_rng(1).dirichlet(np.ones(4), size=(2, 3, 5))
    for function in (emd, jsd):
        whole = function(p, q)
        assert whole.shape == (3, 5)
        assert whole[2, 1] == function(p[2, 1], q[2, 1])


def test_entropy_runs_from_certain_to_uniform():
    assert entropy([1.0, 0.0, 0.0]) == 0
    assert entropy(np.full(4, 0.25)) == pytest.approx(math.log(4))


@pytest.mark.parametrize("bad", [[0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0], [1.0]])
def test_what_is_not_a_distribution_is_refused(bad):
    with pytest.raises(ValueError, match="p: "):
        emd(bad, bad)


def test_distributions_of_different_questions_are_not_compared():
    with pytest.raises(ValueError, match="different questions"):
        jsd([0.5, 0.5], [0.2, 0.3, 0.5])


def test_macro_f1_counts_rare_options_as_much_as_common_ones():
    answers = [0] * 9 + [1]
    assert accuracy([0] * 10, answers) == 0.9
    assert macro_f1([0] * 10, answers) == pytest.approx((2 * 0.9 / 1.9) / 2)
    assert macro_f1(answers, answers) == 1


def test_labels_of_different_length_are_refused():
    with pytest.raises(ValueError, match="equally long"):
        accuracy([0, 1], [0])


def test_distinct_n_falls_with_repetition():
    assert distinct_n([["a", "b", "c"]], 2) == 1
    assert distinct_n([["a", "b"], ["a", "b"]], 2) == 0.5
    assert distinct_n([["a"]], 2) == 0


def test_option_mass_is_flagged_below_one_half():
    assert low_option_mass(0.49)
    assert not low_option_mass(0.5)
