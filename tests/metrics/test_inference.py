"""The intervals, against a world whose truth is known."""

from __future__ import annotations

import numpy as np
from worlds import answer_shares, draw_world, items, predictions

from cuma.metrics import score
from cuma.metrics.inference import deviations, interval, p_value, people_deviations, resample
from cuma.metrics.pairs import pairwise_jsd_sum
from cuma.metrics.sample import read_parts

QUESTIONS = items(2)
WORLDS, GROUPS, PEOPLE = 40, 30, 40


def population_spread(groups: int = 1500) -> float:
    """The spread of the world's model for infinitely many people in very many groups."""
    rng = np.random.default_rng(99)
    location = 0.8 * rng.normal(size=groups) + 0.4 * rng.normal(size=groups)
    once = np.ones((groups, 1))
    model = answer_shares(0.7 * location + 0.2 * rng.normal(size=groups), 2)
    sums = [pairwise_jsd_sum(shares.T[:, :, None], once)[0] for shares in (model, answer_shares(location, 2))]
    return float(sums[0] / sums[1])


def test_about_95_percent_of_intervals_hold_the_truth():
    found = []
    for seed in range(WORLDS):
        world = draw_world(seed, QUESTIONS, GROUPS, PEOPLE)
        found.append(score(predictions(world, world.model), QUESTIONS, draws=200, seed=seed)["seen"])
    plain = ("soft_emd", "accuracy", "alignment")
    wanted = {metric: np.mean([one[metric]["value"] for one in found]) for metric in plain}
    wanted["spread"] = population_spread()
    for metric, truth in wanted.items():
        held = np.mean([one[metric]["low"] <= truth <= one[metric]["high"] for one in found])
        assert held >= 0.82, f"{metric}: {held:.2f} of the intervals hold {truth:.3f}"  # 0.82 is 3.8 sd below 0.95
        width = np.mean([one[metric]["high"] - one[metric]["low"] for one in found])
        spread_of_estimates = np.std([one[metric]["value"] for one in found])
        assert 0.75 < width / (3.92 * spread_of_estimates) < 1.35, f"{metric}: intervals of the wrong width"


def test_intervals_are_centred_where_percentiles_would_be_biased():
    world = draw_world(0, QUESTIONS, GROUPS, 20)
    entry = score(predictions(world, world.truth), QUESTIONS, draws=300)["seen"]["soft_emd"]
    assert entry["low"] < entry["value"] < entry["high"]


def test_resampling_keeps_group_sizes_and_a_persons_answers_together():
    world = draw_world(1, QUESTIONS, 6, 30)
    rows = world.rows.copy()
    first = rows[rows["question_id"] == "q0"].set_index("person")["answer"]
    rows.loc[rows["question_id"] == "q1", "answer"] = 1 - first.to_numpy()
    people, said = read_parts(predictions(type(world)(rows, world.truth, world.model), world.model), QUESTIONS)["seen"]
    draws = resample(people, [people.features(), said.features], draws=50, seed=0)
    counts = draws.sums[0]  # q0 first option, q0 second, q1 first, q1 second, n of q0, n of q1
    np.testing.assert_allclose(counts[0], counts[3])
    np.testing.assert_allclose(counts[1], counts[2])
    np.testing.assert_allclose(counts[4], np.diff(people.starts)[draws.slots])
    np.testing.assert_array_equal(draws.times.sum(axis=0), 6)


def test_the_resampled_answers_scatter_as_a_multinomial_does():
    world = draw_world(2, items(1), 4, 60)
    people, _ = read_parts(predictions(world, world.model), items(1))["seen"]
    draws = resample(people, [people.features()], draws=4000, seed=3)
    for group in range(4):
        yes = people.answers[people.starts[group] : people.starts[group + 1], 0]
        drawn = draws.sums[0][1][draws.slots == group]
        assert abs(drawn.mean() - yes.sum()) < 0.3
        assert abs(drawn.var() / (yes.size * yes.mean() * (1 - yes.mean())) - 1) < 0.15


def test_an_interval_has_the_variance_of_the_draws_that_keep_their_people():
    rng = np.random.default_rng(0)
    kept, noise = rng.normal(size=4000), rng.normal(size=4000)
    low, high = interval(7.0, deviations(7.0, kept, kept + noise + 5, groups=1000))
    assert abs((high + low) / 2 - 7) < 0.1
    assert abs((high - low) / 3.92 - 1) < 0.05


def test_there_is_no_interval_without_something_to_resample():
    draws = np.random.default_rng(0).normal(size=100)
    assert deviations(0.0, draws, draws, groups=1) is None
    assert deviations(float("nan"), draws, draws, groups=9) is None
    undefined = np.where(np.arange(100) < 6, np.nan, draws)
    assert deviations(0.0, undefined, draws, groups=9) is None
    assert people_deviations(0.0, undefined, people=9) is None
    assert people_deviations(0.0, draws, people=1) is None
    assert interval(0.0, None) is None
    assert p_value(0.0, None) is None
    same = np.full(100, 0.3)
    assert interval(0.3, deviations(0.3, same, same, groups=9)) == (0.3, 0.3)
