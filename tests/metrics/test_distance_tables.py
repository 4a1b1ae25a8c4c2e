"""Distances, neighbours and shares of fields: laws on random inputs, and agreement with scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr
from sklearn.linear_model import LinearRegression

from cuma.metrics.distance_tables import (
    field_shares,
    gate_distances,
    mantel,
    nearest,
    principal_axes,
    shared_neighbours,
    turned_to,
    whole,
)

SEEDS = st.integers(0, 10_000)
patient = settings(deadline=None, max_examples=15)


def places(seed: int, groups: int = 12, dims: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(groups, dims))


def distances(points: np.ndarray) -> np.ndarray:
    return np.asarray(squareform(pdist(points)))


@patient
@given(SEEDS)
def test_the_correlation_is_spearmans(seed: int) -> None:
    one, other = distances(places(seed)), distances(places(seed + 1))
    upper = np.triu_indices(12, 1)
    found = mantel(one, other, permutations=19)
    assert found is not None
    assert found.correlation == pytest.approx(spearmanr(one[upper], other[upper]).statistic, abs=1e-12)
    back = mantel(other, one, permutations=0)
    assert back is not None
    assert back.correlation == pytest.approx(found.correlation, abs=1e-12)


def test_equal_tables_correlate_fully_and_unrelated_ones_keep_their_level() -> None:
    table = distances(places(0))
    same = mantel(table, table * 3)
    assert same is not None
    assert same.correlation == pytest.approx(1)
    assert same.p == pytest.approx(1 / 1000)
    pairs = [(distances(places(s, 8)), distances(places(s + 500, 8))) for s in range(150)]
    ps = [found.p for one, other in pairs if (found := mantel(one, other, None, 39))]
    assert len(ps) == 150
    assert 0.01 < np.mean(np.array(ps) <= 0.1) < 0.2


def test_what_a_third_table_explains_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    base = places(0, 40)
    one, other = base + rng.normal(0, 0.3, base.shape), base + rng.normal(0, 0.3, base.shape)
    plain = mantel(distances(one), distances(other))
    partial = mantel(distances(one), distances(other), distances(base))
    assert plain is not None
    assert partial is not None
    assert plain.correlation > 0.8 > 0.3 > abs(partial.correlation)


def test_groups_with_missing_distances_are_left_out_and_few_groups_say_nothing() -> None:
    table = distances(places(1))
    holed = table.copy()
    holed[3, :] = holed[:, 3] = np.nan
    found = mantel(holed, table)
    assert found is not None
    assert found.groups == 11
    assert not whole(holed)[3]
    assert mantel(table[:3, :3], table[:3, :3]) is None
    assert mantel(np.zeros((6, 6)), table[:6, :6]) is None


@patient
@given(SEEDS)
def test_gate_distances_are_shares_of_the_mixture(seed: int) -> None:
    gates = np.random.default_rng(seed).dirichlet(np.ones(4), size=(6, 3))
    table = gate_distances(gates)
    assert np.allclose(table, table.T)
    assert (np.diag(table) == 0).all()
    assert (table <= 1 + 1e-12).all()
    assert table[0, 1] == pytest.approx(np.abs(gates[0] - gates[1]).sum() / 2 / 3)


def test_no_expert_in_common_is_distance_one() -> None:
    assert gate_distances(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))[0, 1] == 1


def test_axes_do_not_depend_on_the_sign_that_the_solver_chose() -> None:
    vectors = np.random.default_rng(0).normal(size=(10, 4))
    positions, _ = principal_axes(vectors)
    mirrored, _ = principal_axes(-vectors)
    assert np.allclose(np.abs(positions), np.abs(mirrored))
    assert np.allclose(positions, principal_axes(vectors + 3)[0])
    flat, shares = principal_axes(vectors[:, :1])
    assert flat.shape == (10, 2)
    assert shares == pytest.approx((1, 0))


def test_a_turned_map_comes_back_and_is_not_stretched() -> None:
    target = places(3, 9, 2)
    angle = 1.1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    back = turned_to(2 * target @ turn, target)
    assert np.allclose(back, 2 * (target - target.mean(axis=0)))


def test_neighbours_are_the_nearest_others() -> None:
    table = distances(np.array([[0.0], [1.0], [3.0], [7.0]]))
    assert nearest(table, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest(table, 9).shape == (4, 3)
    assert shared_neighbours(table, table, 2) == 1
    overlap = [shared_neighbours(distances(places(s, 30)), distances(places(s + 900, 30)), 5) for s in range(60)]
    assert np.mean(overlap) == pytest.approx(5 / 29, abs=0.03)


def one_hot(values: np.ndarray) -> np.ndarray:
    return (values[:, None] == np.unique(values)).astype(float)


def test_shares_add_up_to_what_all_fields_explain() -> None:
    rng = np.random.default_rng(0)
    fields = {name: one_hot(rng.integers(0, k, 60)) for name, k in (("a", 2), ("b", 3), ("c", 4))}
    target = (
        fields["a"] @ rng.normal(size=(2, 5))
        + 0.3 * fields["b"] @ rng.normal(size=(3, 5))
        + rng.normal(0, 0.3, (60, 5))
    )
    shares = field_shares(fields, target)
    assert shares is not None
    design = np.hstack(list(fields.values()))
    fitted = LinearRegression().fit(design, target).predict(design)
    rest = ((target - fitted) ** 2).sum() / ((target - target.mean(axis=0)) ** 2).sum()
    assert sum(shares.values()) == pytest.approx(1 - rest * 59 / (60 - 7), abs=1e-9)
    assert shares["a"] > shares["b"] > shares["c"] - 0.02
    assert abs(shares["c"]) < 0.05


def test_fields_that_always_go_together_share_alike() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 2, 40)
    target = values[:, None] + rng.normal(0, 0.1, (40, 2))
    shares = field_shares({"a": one_hot(values), "b": one_hot(1 - values)}, target)
    assert shares is not None
    assert shares["a"] == pytest.approx(shares["b"])


def test_fields_that_tell_everybody_apart_explain_nothing() -> None:
    assert field_shares({"country": np.eye(8)}, places(0, 8)) is None
    assert field_shares({}, places(0)) is None
    assert field_shares({"a": one_hot(np.arange(12) % 2)}, np.ones((12, 3))) is None
