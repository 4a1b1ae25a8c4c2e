from __future__ import annotations

import numpy as np
import pytest

from cuma.metrics import chance_diversity, jsd, noise_floor, sampler_floor, score
from helpers.worlds import draw_world, items, predictions


def test_the_floor_is_the_expected_distance_of_a_sample_to_its_truth():
    n, p = 40, 0.3
    k = np.arange(n + 1)
    log_choose = np.cumsum(np.log(np.r_[1.0, (n - k[1:] + 1) / k[1:]]))
    probability = np.exp(log_choose + k * np.log(p) + (n - k) * np.log(1 - p))
    exact = float((probability * np.abs(k / n - p)).sum())
    assert noise_floor([[28, 12]], draws=20_000)[0] == pytest.approx(exact, rel=0.02)


def test_the_floor_falls_with_the_root_of_n_and_vanishes_without_disagreement():
    small, large, agreed, nobody = noise_floor([[20, 20], [2000, 2000], [30, 0], [0, 0]], draws=4000)
    assert small / large == pytest.approx(10, rel=0.1)
    assert agreed == 0
    assert np.isnan(nobody)


def test_the_floor_depends_on_whether_options_are_ordered():
    counts = [[30, 0, 30]]
    assert noise_floor(counts, ordinal=True)[0] == pytest.approx(noise_floor(counts, ordinal=False)[0], rel=1e-9)
    counts = [[20, 20, 20]]
    assert noise_floor(counts, ordinal=True)[0] < noise_floor(counts, ordinal=False)[0]


def test_chance_diversity_is_what_permuting_people_gives():
    counts = np.array([[10, 30], [25, 15], [5, 5]])
    labels = np.repeat(np.arange(3), counts.sum(axis=1))
    answers = np.concatenate([np.repeat([0, 1], row) for row in counts])
    rng, sums = np.random.default_rng(0), []
    for _ in range(2000):
        shuffled = rng.permutation(answers)
        tables = np.array([np.bincount(shuffled[labels == group], minlength=2) for group in range(3)])
        p = tables / tables.sum(axis=1, keepdims=True)
        sums.append(jsd(p[0], p[1]) + jsd(p[0], p[2]) + jsd(p[1], p[2]))
    assert chance_diversity(counts, permutations=2000) == pytest.approx(np.mean(sums), rel=0.06)


def test_groups_without_answers_and_unused_options_do_not_matter():
    counts = np.array([[10, 30], [25, 15], [5, 5]])
    padded = np.array([[10, 0, 30], [0, 0, 0], [25, 0, 15], [5, 0, 5]])
    assert chance_diversity(padded) == chance_diversity(counts)
    assert chance_diversity([[3, 4]]) == 0
    assert chance_diversity([[3, 0], [4, 0]]) == 0


def test_the_seed_decides():
    counts = [[20, 30], [30, 20]]
    assert noise_floor(counts, seed=1).tolist() == noise_floor(counts, seed=1).tolist()
    assert noise_floor(counts, seed=1).tolist() != noise_floor(counts, seed=2).tolist()
    assert chance_diversity(counts, seed=1) == chance_diversity(counts, seed=1)


def test_shares_are_not_counts():
    with pytest.raises(ValueError, match="whole answer counts"):
        noise_floor([[0.5, 0.5]])


def test_the_sampler_floor_is_what_a_perfect_sampler_scores():
    """One answer for each person, drawn from the truth: the best that a model which answers person by person can do."""
    questions = items(2, options=4)
    world = draw_world(9, questions, groups=80, people=40)
    rng = np.random.default_rng(0)
    rows = predictions(world, world.truth)
    rows["probabilities"] = [np.eye(4)[rng.choice(4, p=predicted)] for predicted in rows["probabilities"]]
    found = score(rows, questions, draws=0)["seen"]
    assert found["soft_emd"]["value"] == found["argmax_emd"]["value"]
    assert found["sampler_floor"]["value"] == pytest.approx(found["soft_emd"]["value"], rel=0.1)
    assert found["sampler_floor"]["value"] > 1.2 * found["noise_floor"]["value"]
    assert np.isnan(sampler_floor([[0, 0]])[0])
    assert sampler_floor([[7, 0]])[0] == 0
