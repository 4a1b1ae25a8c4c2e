"""Agreement of gradients, where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from cuma.metrics.cosines import Cosines


def gradients(directions: np.ndarray, noise: float = 0.0, batches: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return directions[:, None] + noise * rng.normal(size=(len(directions), batches, directions.shape[1]))


def test_orthogonal_groups_agree_in_nothing_and_each_with_itself() -> None:
    found = Cosines.of(gradients(np.eye(5))).entries()
    np.testing.assert_allclose(found["cosine"], np.eye(5), atol=1e-6)
    assert found["between"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["within"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["conflicting"]["value"] == 0


def test_opposite_groups_conflict() -> None:
    found = Cosines.of(gradients(np.array([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]))).entries()
    assert found["conflicting"]["value"] == pytest.approx(4 / 6)
    assert found["between"]["value"] == pytest.approx(-1 / 3)
    assert found["between"]["low"] < -1 / 3 < found["between"]["high"]


def test_noise_is_seen_within_groups_and_scale_does_not_matter() -> None:
    shared = np.ones((12, 200))
    found = Cosines.of(gradients(shared, noise=2.0)).entries()
    assert found["within"]["value"] == pytest.approx(found["between"]["value"], abs=0.05)
    assert found["within"]["value"] < 0.5
    larger = Cosines.of(gradients(shared, noise=2.0) * np.arange(1, 13)[:, None, None]).entries()
    assert larger["between"]["value"] == pytest.approx(found["between"]["value"], abs=1e-6)


def test_noise_alone_keeps_no_groups_apart() -> None:
    rng = np.random.default_rng(1)
    shared = np.ones(400) + 0.2 * rng.normal(size=(16, 400))
    clear, noisy = (Cosines.of(gradients(shared, noise=noise)) for noise in (0.1, 1.0))
    assert noisy.value["between"] < clear.value["between"] - 0.3
    difference = noisy.minus(clear)
    assert difference["low"] < 0 < difference["high"]
    assert abs(difference["value"]) < 0.05


def test_a_difference_is_paired_and_a_zero_gradient_is_left_out() -> None:
    rng = np.random.default_rng(0)
    own, shared = rng.normal(size=(10, 300)), rng.normal(size=300)
    apart, together = Cosines.of(gradients(own)), Cosines.of(gradients(own + 2 * shared))
    difference = apart.minus(together)
    assert difference["high"] < 0
    assert difference["value"] == pytest.approx(apart.value["agreement"] - together.value["agreement"])
    assert apart.minus(apart) == {"value": 0.0, "low": 0.0, "high": 0.0}
    own[3] = 0
    found = Cosines.of(gradients(own)).entries()
    assert found["cosine"][3] == [None] * 10
    assert found["between"]["value"] == pytest.approx(0, abs=0.1)
