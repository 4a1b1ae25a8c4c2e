"""A survey's design: standard errors against samplics on real surveys, draws of units against both, and what enters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from studies.design_oracle import Source, anes, compare, ess, farthest

from cuma.errors import BenchmarkError
from cuma.metrics import score, score_many
from cuma.metrics.breakdown import GroupEstimates, break_down, people_draws
from cuma.metrics.design import Design, Replicates, weighted_means
from cuma.metrics.inference import design_deviations, interval
from cuma.metrics.replicates import coefficients
from cuma.metrics.sample import apart, read_parts, unit_draws
from helpers import SHARED
from helpers.design_worlds import Plan, draw_design_world
from helpers.replicate_weights import half_samples, left_out
from helpers.worlds import items

ANES = SHARED / "data" / "real" / "anes_2020_stata_example.dta"
QUESTIONS = items(2, options=4)
PLACES = np.linspace(-1, 1, 5)


def world(seed: int = 0, **plan: float) -> tuple[pd.DataFrame, Design]:
    return draw_design_world(seed, QUESTIONS, PLACES, Plan(**{"strata": 10, "people": 30, **plan}))


@pytest.mark.filterwarnings("ignore:samplics is archived:FutureWarning")
def test_errors_and_design_effects_are_those_of_other_programs_on_the_european_social_survey() -> None:
    rows = compare(ess())
    assert len(rows) == 10
    assert farthest(rows) < 1e-6


@pytest.mark.skipif(not ANES.exists(), reason="the American National Election Study is not here")
@pytest.mark.filterwarnings("ignore:samplics is archived:FutureWarning")
def test_errors_and_design_effects_are_those_of_other_programs_on_the_election_study() -> None:
    rows = compare(anes(ANES))
    assert farthest(rows) < 1e-6
    assert all(1.3 < row.effect < 2.5 for row in rows)


def test_a_plain_sample_has_the_textbooks_error_and_no_effect() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    plain = Design.of(np.arange(50), None, None)
    means = weighted_means(values, np.ones(50), plain)
    assert means.variance[0, 0] == pytest.approx(values.var(ddof=1) / 50)
    assert means.effect[0, 0] == pytest.approx(1.0)


def test_a_stratum_with_one_unit_counts_by_its_distance_from_the_mean_of_all_units() -> None:
    stratum, unit = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 0])
    values, weight = np.array([1.0, 2.0, 5.0, 3.0, 9.0]), np.array([1.0, 1.0, 2.0, 1.0, 1.5])
    design = Design.of(np.arange(5), stratum, unit)
    scores = weight * (values - np.average(values, weights=weight)) / weight.sum()
    pairs = (scores[0] - scores[1]) ** 2 + (scores[2] - scores[3]) ** 2
    found = weighted_means(values[:, None], weight, design).variance[0, 0]
    assert found == pytest.approx(pairs + scores[4] ** 2)  # the mean of all scores is 0
    assert design.facts()["lonely_strata"] == 1
    drawn = np.concatenate([scores @ times[design.unit] for times in design.draws(40_000, seed=0)])
    assert drawn.var() == pytest.approx(found, rel=0.03)


def test_draws_of_units_scatter_as_linearised_means_do_and_span_groups() -> None:
    table, design = world(between=0.6, lonely=2)
    people, _ = read_parts(table, QUESTIONS, design)["seen"]
    (sums,) = unit_draws(people, [people.features()], draws=4000, seed=1)
    shares, n = sums[:4], sums[8]
    drawn = (shares / n).var(axis=2).T
    means = people.design_means[0]
    np.testing.assert_allclose(drawn.sum(axis=1), means.variance.sum(axis=1), rtol=0.15)
    first, last = (shares[0, group] / n[group] for group in (0, 4))
    assert np.corrcoef(first, last)[0, 1] > 0.15  # one unit has people of both groups
    (mixed,) = apart([sums], seed=1)
    first, last = (mixed[0, group] / mixed[8, group] for group in (0, 4))
    assert abs(np.corrcoef(first, last)[0, 1]) < 0.06
    np.testing.assert_allclose(np.sort(mixed[0, 4]), np.sort(sums[0, 4]))


def test_units_without_anybody_of_a_group_still_count_in_their_stratum() -> None:
    unit = np.repeat(np.arange(6), 5)
    everybody = Design.of(np.arange(30), np.zeros(30), unit)
    inside = unit < 3
    values, weight = np.random.default_rng(0).normal(size=(30, 1)), np.ones(30)
    domain = weighted_means(values, weight, everybody, np.where(inside, 0, -1)).variance
    alone = weighted_means(values[inside], weight[inside], everybody.at(np.flatnonzero(inside))).variance
    forgotten = Design.of(np.arange(15), np.zeros(15), unit[inside])
    np.testing.assert_allclose(domain, alone)
    assert weighted_means(values[inside], weight[inside], forgotten).variance[0, 0] > 1.2 * domain[0, 0]


def test_floors_and_the_spreads_chance_follow_the_design() -> None:
    table, design = world(between=0.8, people=60)
    known, plain = (score(table, QUESTIONS, draws=0, design=one)["seen"] for one in (design, None))
    assert known["noise_floor"]["value"] > 1.1 * plain["noise_floor"]["value"]
    assert known["spread"]["value"] > plain["spread"]["value"]
    same = ("soft_emd", "accuracy", "jsd", "alignment", "brier", "macro_f1", "wvb_emd")
    assert {metric: known[metric] for metric in same} == {metric: plain[metric] for metric in same}


def test_the_design_effect_stands_beside_n_of_every_side_question_and_group() -> None:
    table, design = world(between=0.8)
    found = score(table, QUESTIONS, draws=0, design=design)["n"]["seen"]
    parts = break_down(table, QUESTIONS, draws=0, design=design)
    effect = found["design_effect"]
    assert 1.2 < effect["mean"] < effect["worst"]
    each = [parts["by_question"]["seen"][item.id]["n"]["design_effect"]["mean"] for item in QUESTIONS]
    assert np.mean(each) == pytest.approx(effect["mean"])
    groups = [entry["n"]["design_effect"]["mean"] for entry in parts["by_group"]["seen"].values()]
    assert np.mean(groups) == pytest.approx(effect["mean"])
    assert "design_effect" not in score(table, QUESTIONS, draws=0)["n"]["seen"]
    few = table[table["person"] < 20]
    assert score(few, QUESTIONS, draws=0, design=design)["n"]["seen"]["design_effect"] is None


def test_intervals_of_groups_and_of_differences_follow_the_design() -> None:
    table, design = world(between=0.8, people=60)
    other = table.assign(probabilities=[np.full(4, 0.25)] * len(table))
    both = {"a": table, "b": other}
    known, plain = (score_many(both, QUESTIONS, "b", draws=200, design=one) for one in (design, None))
    widths = [found["differences"]["a"]["seen"]["accuracy"] for found in (known, plain)]
    assert widths[0]["high"] - widths[0]["low"] > widths[1]["high"] - widths[1]["low"]
    assert widths[0]["p"] >= widths[1]["p"]
    groups = [break_down(table, QUESTIONS, 200, design=one)["by_group"]["seen"] for one in (design, None)]
    wide, narrow = (np.mean([g["brier"]["high"] - g["brier"]["low"] for g in each.values()]) for each in groups)
    assert wide > 1.15 * narrow


def test_about_95_percent_of_a_groups_intervals_hold_the_truth_with_the_design_and_fewer_without() -> None:
    plan, item = Plan(strata=8, units=3, people=40, between=0.8), QUESTIONS[:1]
    found: dict[bool, list[list[tuple[float, float, float]]]] = {True: [], False: []}
    for seed in range(30):
        table, design = draw_design_world(seed, item, PLACES, plan)
        for known, rows in found.items():
            people, own = read_parts(table, item, design if known else None)["seen"]
            groups = people_draws(people, own, 100, seed).values()
            rows.append([brier_interval(group) for group in groups])
    held = {}
    for known, rows in found.items():
        value, low, high = np.moveaxis(np.array(rows), 2, 0)
        held[known] = ((low <= value.mean(axis=0)) & (high >= value.mean(axis=0))).mean()
    assert 0.90 <= held[True] <= 0.99
    assert held[False] < 0.87


def brier_interval(group: GroupEstimates) -> tuple[float, float, float]:
    value = group.value["brier"]
    ends = interval(value, design_deviations(value, group.replicates["brier"], group.units, group.design))
    assert ends is not None
    return (value, *ends)


@pytest.mark.parametrize("kind", ["brr", "fay", "stratified_jackknife"])
def test_replicate_weights_give_about_the_intervals_of_strata_and_units(kind: str) -> None:
    table, design = world(between=0.6)
    stratum, unit = design.stratum[design.unit], design.unit % 2
    times = (
        left_out(stratum, unit)
        if kind == "stratified_jackknife"
        else half_samples(stratum, unit, 0.3 * (kind == "fay"))
    )
    own = Replicates(times, coefficients(kind, times, 0.3 * (kind == "fay")), kind)
    replicated = Design.of(design.person, None, None, replicates=own)
    parts = [break_down(table, QUESTIONS, 400, design=one)["by_group"]["seen"] for one in (design, replicated)]
    wide = [[g["accuracy"]["high"] - g["accuracy"]["low"] for g in each.values()] for each in parts]
    assert np.mean(wide[0]) == pytest.approx(np.mean(wide[1]), rel=0.15)
    scores = [score(table, QUESTIONS, 300, design=one)["seen"]["spread"] for one in (design, replicated)]
    widths = [one["high"] - one["low"] for one in scores]
    assert widths[0] == pytest.approx(widths[1], rel=0.2)
    effects = [score(table, QUESTIONS, 0, design=one)["n"]["seen"]["design_effect"] for one in (design, replicated)]
    assert effects[0]["mean"] == pytest.approx(effects[1]["mean"], rel=0.1)


def test_the_same_seed_gives_the_same_figures_whatever_order_rows_come_in() -> None:
    table, design = world()
    shuffled = table.sample(frac=1, random_state=0)
    assert score(table, QUESTIONS, 60, design=design) == score(shuffled, QUESTIONS, 60, design=design)


def test_labels_count_within_strata_and_missing_ones_are_counted() -> None:
    strata, units = ["a", "a", "b", "b", None, None], ["1", "2", "1", None, "1", "1"]
    design = Design.of(np.arange(6), strata, units, "w")
    assert design.facts() == {
        "strata": 3, "units": 5, "lonely_strata": 1, "weights": "w", "replicates": None, "people_without": 3,
    }  # fmt: skip
    assert len(set(design.unit)) == 5
    alone = Design.of(np.arange(6), strata, None).facts()
    assert (alone["strata"], alone["units"], alone["people_without"]) == (3, None, 2)


def test_a_design_that_says_nothing_or_does_not_fit_is_refused() -> None:
    table, _design = world()
    with pytest.raises(BenchmarkError, match="1 sampling unit"):
        Design.of(np.arange(3), None, ["x", "x", "x"])
    few = Design.of(np.arange(20), None, np.arange(20) // 2)
    with pytest.raises(BenchmarkError, match="does not know"):
        score(table, QUESTIONS, draws=0, design=few)


def test_a_group_in_one_unit_has_no_interval() -> None:
    table, design = world()
    first = table["person"].isin(design.person[design.unit == 0]) & (table["group"] == "group 002")
    kept = table[first | (table["group"] != "group 002")]
    group = break_down(kept, QUESTIONS, 50, design=design)["by_group"]["seen"]["group 002"]
    assert group["soft_emd"]["value"] is not None
    assert group["soft_emd"]["low"] is None


def test_the_sources_design_is_read_by_its_columns() -> None:
    rows = pd.DataFrame({"w": np.arange(1.0, 9), "s": list("aabbccdd"), "u": [1, 2] * 4, "y": np.arange(8.0)})
    source = Source(rows, "w", "s", "u", {"y": rows["y"]}, pd.Series(list("xyxyxyxy")))
    assert farthest(compare(source)) < 1e-6
