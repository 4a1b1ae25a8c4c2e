"""Variety within groups, and who is spoken for: worlds in which the answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cuma.evaluation.collapse import collapse
from cuma.metrics import break_down, emd, score
from cuma.metrics.erasure import variance_within
from cuma.metrics.items import Item
from cuma.privacy.small_groups import MIN_PEOPLE
from helpers.worlds import World, average, draw_world, items, predictions

QUESTIONS = items(3, options=4)


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(8, QUESTIONS, groups=10, people=200)


def measured(world: World, predicted: dict[str, np.ndarray], questions: tuple[Item, ...] = QUESTIONS) -> dict:
    table = predictions(world, predicted)
    scores = score(table, questions, draws=100)
    return collapse(table, scores | break_down(table, questions, draws=40), draws=150)


def kinds(found: dict) -> set[str]:
    return {alarm["kind"] for alarm in found["alarms"]}


def stereotypes(world: World) -> dict[str, np.ndarray]:
    """Each group's most frequent answer for everybody in it."""
    return {name: 0.94 * np.eye(4)[shares.argmax(axis=1)] + 0.015 for name, shares in world.truth.items()}


def test_variance_within_is_numpys_on_a_scale_and_ginis_on_names() -> None:
    rng = np.random.default_rng(0)
    answers = rng.integers(4, size=500)
    shares = np.bincount(answers, minlength=4) / 500
    assert variance_within(shares, ordinal=True) == pytest.approx((answers / 3).var())
    different = answers[:, None] != answers[None, :]
    assert variance_within(shares, ordinal=False) == pytest.approx(different.mean() / 2)
    two = np.array([0.3, 0.7])
    assert variance_within(two, ordinal=True) == pytest.approx(variance_within(two, ordinal=False))


def test_the_truth_raises_no_alarm_and_nobody_is_erased(world: World) -> None:
    found = measured(world, world.truth)
    assert found["alarms"] == []
    side = found["sides"]["seen"]
    assert side["within_ratio"]["low"] < 1 < side["within_ratio"]["high"]
    assert not any(group["erased"] for group in side["groups"].values())
    pulls = [group["to_average"]["value"] for group in side["groups"].values()]
    assert abs(np.nanmedian(pulls)) < 0.2
    for group in side["groups"].values():
        assert group["entropy_model"] == pytest.approx(group["entropy_people"], abs=0.1)


def test_the_average_for_everybody_is_collapse_and_everyone_lies_all_the_way_toward_it(world: World) -> None:
    found = measured(world, average(world))
    assert "spread" in kinds(found)
    assert {alarm["question"] for alarm in found["alarms"] if alarm["kind"] == "spread"} == {None, "q0", "q1", "q2"}
    side = found["sides"]["seen"]
    pulls = [group["to_average"]["value"] for group in side["groups"].values()]
    assert np.nanmedian(pulls) == pytest.approx(1, abs=0.15)
    assert any(group["erased"] for group in side["groups"].values())
    assert side["spread"]["value"] == 0


def test_one_answer_for_a_whole_group_is_stereotyping_however_well_groups_are_told_apart(world: World) -> None:
    found = measured(world, stereotypes(world))
    assert "within" in kinds(found)
    assert "spread" not in kinds(found)
    side = found["sides"]["seen"]
    assert side["within_ratio"]["high"] < 0.5
    assert all(group["entropy_model"] < group["entropy_people"] for group in side["groups"].values())
    for question in side["questions"].values():
        assert question["within_ratio"]["value"] == pytest.approx(
            question["within_model"] / question["within_people"], rel=1e-9
        )


def test_a_group_that_is_given_anothers_answers_is_erased_toward_it(world: World) -> None:
    ends = np.argsort(sum(shares @ np.arange(4) for shares in world.truth.values()))
    lost, taken = int(ends[0]), int(ends[-1])
    predicted = {name: shares.copy() for name, shares in world.truth.items()}
    for shares in predicted.values():
        shares[lost] = shares[taken]
    side = measured(world, predicted)["sides"]["seen"]["groups"]
    one = side[f"group {lost:03d}"]
    assert one["erased"]
    assert one["toward"] == f"group {taken:03d}"
    assert one["margin"]["low"] > 0
    assert one["own_distance"] - one["toward_distance"] == pytest.approx(one["margin"]["value"])
    assert [name for name, group in side.items() if group["erased"]] == [f"group {lost:03d}"]


def test_groups_are_compared_over_the_questions_that_both_were_asked(world: World) -> None:
    table = predictions(world, world.truth)
    kept = {"group 001": ["q0"], "group 002": ["q1", "q2"], "group 003": ["q1"]}
    pairs = zip(table["group"], table["question_id"], strict=True)
    table = table[[question in kept.get(group, [question]) for group, question in pairs]]
    scores = score(table, QUESTIONS, draws=0)
    side = collapse(table, scores | break_down(table, QUESTIONS, draws=20), draws=50)["sides"]["seen"]["groups"]
    assert not any(group["erased"] for group in side.values())
    answers = table.groupby(["group", "question_id"])["answer"]
    people = {cell: np.bincount(given, minlength=4) / len(given) for cell, given in answers}

    def distance(group: str, other: str, questions: list[str]) -> float:
        predicted = {question: world.truth[question][int(group[-3:])] for question in questions}
        return float(np.mean([emd(one, people[other, question], ordinal=True) for question, one in predicted.items()]))

    for group, found in side.items():
        shared = {
            other: [item.id for item in QUESTIONS if (group, item.id) in people and (other, item.id) in people]
            for other in side
        }
        margins = {
            other: distance(group, group, questions) - distance(group, other, questions)
            for other, questions in shared.items()
            if other != group and questions
        }
        assert found["toward"] == max(margins, key=lambda other: margins[other])
        assert found["margin"]["value"] == pytest.approx(max(margins.values()))
        assert found["toward_distance"] == pytest.approx(distance(group, found["toward"], shared[found["toward"]]))
    assert side["group 001"]["toward"] not in ("group 002", "group 003")  # nothing to compare


def test_small_groups_are_named_nowhere(world: World) -> None:
    table = predictions(world, world.truth)
    few = table[table["group"] == "group 004"]["person"].unique()[MIN_PEOPLE - 1 :]
    table = table[~table["person"].isin(few)]
    scores = score(table, QUESTIONS, draws=0)
    found = collapse(table, scores | break_down(table, QUESTIONS, draws=0), draws=50)
    assert "group 004" not in str(found)
    assert "group 003" in str(found)


def test_nominal_questions_and_survey_weights_are_measured_too(world: World) -> None:
    nominal = tuple(Item(item.id, item.text, item.options, ordinal=False) for item in QUESTIONS)
    table = predictions(world, world.truth)
    rng = np.random.default_rng(1)
    table = table.assign(weight=rng.uniform(0.5, 1.5, size=table["person"].max() + 1)[table["person"]])
    scores = score(table, nominal, draws=60)
    found = collapse(table, scores | break_down(table, nominal, draws=20), draws=60)
    assert isinstance(pd.DataFrame(found["sides"]["seen"]["groups"]), pd.DataFrame)
    assert found["sides"]["seen"]["within_ratio"]["value"] == pytest.approx(1, abs=0.1)
    assert found["alarms"] == []
