"""The intervals, against a world whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from cuma.metrics import score, score_many
from cuma.metrics.breakdown import people_draws
from cuma.metrics.cell_sums import PersonFigures
from cuma.metrics.inference import GroupDraws, group_deviations, holm, interval, p_value, student_deviations
from cuma.metrics.sample import read_parts, resample_people
from helpers.worlds import draw_world, items, predictions, true_spread

QUESTIONS = items(2)
WORLDS, GROUPS, PEOPLE = 40, 30, 40


def test_about_95_percent_of_intervals_hold_the_truth():
    found = []
    for seed in range(WORLDS):
        world = draw_world(seed, QUESTIONS, GROUPS, PEOPLE)
        found.append(score(predictions(world, world.model), QUESTIONS, draws=200, seed=seed)["seen"])
    plain = ("soft_emd", "accuracy", "alignment")
    wanted = {metric: np.mean([one[metric]["value"] for one in found]) for metric in plain}
    wanted["spread"] = true_spread()
    for metric, truth in wanted.items():
        held = np.mean([one[metric]["low"] <= truth <= one[metric]["high"] for one in found])
        assert held >= 0.82, f"{metric}: {held:.2f} of the intervals hold {truth:.3f}"  # 0.82 is 3.8 sd below 0.95
        width = np.mean([one[metric]["high"] - one[metric]["low"] for one in found])
        spread_of_estimates = np.std([one[metric]["value"] for one in found])
        assert 0.75 < width / (3.92 * spread_of_estimates) < 1.4, f"{metric}: intervals of the wrong width"


def test_p_is_under_5_percent_exactly_where_the_interval_leaves_0_out():
    rng = np.random.default_rng(0)
    for draws in (200, 1000, 2000):
        around = rng.normal(size=draws)
        ends = np.sort(around)[[0, draws // 50, draws // 40, draws // 39, -draws // 39, -draws // 40, -draws // 50, -1]]
        for value in (*-ends, *(-ends + 1e-9), *(-ends - 1e-9), 0.0):
            low, high = interval(value, around)
            assert (p_value(value, around) < 0.05) == (low > 0 or high < 0), (draws, value)
    assert p_value(1e-17, np.zeros(200)) == 1.0  # equal but for rounding


def test_resampling_keeps_group_sizes_and_a_persons_answers_together():
    world = draw_world(1, QUESTIONS, 6, 30)
    rows = world.rows.copy()
    first = rows[rows["question_id"] == "q0"].set_index("person")["answer"]
    rows.loc[rows["question_id"] == "q1", "answer"] = 1 - first.to_numpy()
    people, own = read_parts(predictions(type(world)(rows, world.truth, world.model), world.model), QUESTIONS)["seen"]
    counts, _ = resample_people(people, [people.features(), PersonFigures.of(people, own).values], draws=50, seed=0)
    np.testing.assert_allclose(counts[0], counts[3])  # q0 first option, q0 second, q1 first, q1 second, n of q0, of q1
    np.testing.assert_allclose(counts[1], counts[2])
    np.testing.assert_allclose(counts[4], np.repeat(np.diff(people.starts)[:, None], 50, axis=1))
    np.testing.assert_array_equal(GroupDraws.of(6, 50, seed=0).times.sum(axis=0), 6)


def test_the_resampled_answers_scatter_as_a_multinomial_does():
    world = draw_world(2, items(1), 4, 60)
    people, _ = read_parts(predictions(world, world.model), items(1))["seen"]
    (counts,) = resample_people(people, [people.features()], draws=4000, seed=3)
    for group in range(4):
        yes = people.answers[people.starts[group] : people.starts[group + 1], 0]
        drawn = counts[1, group]
        assert abs(drawn.mean() - yes.sum()) < 0.3
        assert abs(drawn.var() / (yes.size * yes.mean() * (1 - yes.mean())) - 1) < 0.15


def test_the_interval_of_a_mean_over_groups_is_the_symmetric_bootstrap_t_of_textbooks() -> None:
    values = np.random.default_rng(0).lognormal(size=12)
    drawn = GroupDraws.of(12, 2000, seed=1)
    means = values @ drawn.times / 12
    errors = np.sqrt((values**2 @ drawn.times / 12 - means**2) / 12)
    studentised = np.abs(means - means.mean()) / errors
    wanted = np.quantile(studentised, 0.95) * np.sqrt(values.var() / 12)
    low, high = interval(values.mean(), group_deviations(values.mean(), means, drawn))
    assert (high + low) / 2 == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(wanted, rel=0.01)
    assert (high - low) / 2 > 2.2 * np.sqrt(values.var(ddof=1) / 12)  # Student's t, which skewness makes too narrow


def test_there_is_no_interval_without_something_to_resample():
    drawn = GroupDraws.of(9, 100, seed=0)
    values = np.random.default_rng(0).normal(size=9)
    means = values @ drawn.times / 9
    assert group_deviations(0.0, means, drawn) is not None
    assert group_deviations(0.0, np.zeros(100), GroupDraws.of(1, 100, seed=0)) is None
    assert group_deviations(float("nan"), means, drawn) is None
    undefined = np.where(np.arange(100) < 6, np.nan, means)
    assert group_deviations(0.0, undefined, drawn) is None
    assert student_deviations(0.0, undefined, units=9) is None
    assert student_deviations(0.0, means, units=1) is None
    assert interval(0.0, None) is None
    assert p_value(0.0, None) is None
    assert interval(0.3, group_deviations(0.3, np.full(100, 0.3), drawn)) == (0.3, 0.3)


def test_a_difference_that_hangs_on_one_or_two_groups_has_no_interval_and_no_p() -> None:
    for groups, differing, known in ((12, 1, False), (12, 2, False), (12, 3, True), (12, 12, True), (4, 2, True)):
        values = np.where(np.arange(groups) < differing, 0.5 + np.arange(groups) / groups, 0.0)
        drawn = GroupDraws.of(groups, 1000, seed=0)
        around = group_deviations(values.mean(), values @ drawn.times / groups, drawn)
        assert (around is not None) == known
        assert (p_value(values.mean(), around) is None) == (not known)
        if known:
            low, high = interval(values.mean(), around)
            assert (low > 0) == (p_value(values.mean(), around) < 0.05) == (differing == 12)
            assert high - low <= 4.2 * t.ppf(0.975, groups - 1) * np.sqrt(values.var() / (groups - 1))


def test_500_intervals_over_people_hold_the_truth_93_to_97_percent_of_the_time() -> None:
    """500 draws from known populations at once: as many groups, whose people are resampled each by itself."""
    groups, people, questions = 500, 120, items(2, options=4)
    world = draw_world(5, questions, groups, people)
    parts = read_parts(predictions(world, world.model), questions)["seen"]
    found = people_draws(*parts, draws=300, seed=1)
    truths: dict[str, list[np.ndarray]] = {"accuracy": [], "brier": []}
    for item in questions:
        model, truth = world.model[item.id], world.truth[item.id]
        truths["accuracy"].append(truth[np.arange(groups), model.argmax(axis=1)])
        truths["brier"].append((model**2).sum(axis=1) - 2 * (model * truth).sum(axis=1) + 1)
    for metric, each in truths.items():
        wanted = np.mean(each, axis=0)
        held = []
        for number, truth in enumerate(wanted):
            one = found[f"group {number:03d}"]
            value = one.value[metric]
            ends = interval(value, student_deviations(value, one.replicates[metric], one.units))
            held.append(ends is not None and ends[0] <= truth <= ends[1])
        assert 0.93 <= np.mean(held) <= 0.97, f"{metric}: {np.mean(held):.3f}"


def test_p_values_are_uniform_where_nothing_differs_and_small_where_something_does() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(size=2000)
    p = np.array([p_value(estimate, draws) for estimate in rng.normal(size=400)])
    assert np.abs(np.quantile(p, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.07
    assert p_value(6.0, draws) == 2 / 2001
    for estimate in (1.5, 1.9, 2.0, 2.5):
        low, high = interval(estimate, draws)
        assert (p_value(estimate, draws) < 0.05) == (low > 0 or high < 0)


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3·0.01, then 2·0.03, then 0.04 held up by it
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_every_method_against_the_reference_is_corrected_for_all_of_them() -> None:
    world = draw_world(3, QUESTIONS, 20, 60)
    rng = np.random.default_rng(0)
    tables = {
        name: predictions(world, {k: 0.9 * v + 0.1 * rng.dirichlet(np.ones(2)) for k, v in world.model.items()})
        for name in ("a", "b", "c")
    }
    tables["reference"] = predictions(world, world.model)
    found = score_many(tables, QUESTIONS, reference="reference", draws=200)["differences"]
    plain = [found[name]["seen"]["soft_emd"]["p"] for name in ("a", "b", "c")]
    assert [found[name]["seen"]["soft_emd"]["p_holm"] for name in ("a", "b", "c")] == holm(plain)
