"""Shares without people: the same figures as from people, and intervals over questions and groups that hold."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

from cuma.errors import BenchmarkError
from cuma.metrics import break_down, compare, score, score_many
from cuma.metrics.breakdown import MIN_QUESTIONS
from cuma.metrics.inference import metric_entries, student_deviations
from cuma.metrics.items import Item
from cuma.metrics.measure import Estimates
from cuma.metrics.shares import GroupShares, ShareTables, draw_weights, overall
from helpers.worlds import draw_world, items, predictions

OF_SHARES = {
    "soft_emd", "argmax_emd", "jsd", "js_similarity", "kl", "entropy", "entropy_normalised", "option_mass", "spread",
    "alignment",
}  # fmt: skip


def as_shares(people: pd.DataFrame, questions: tuple[Item, ...]) -> pd.DataFrame:
    """What a publisher would print of the same people."""
    options = {item.id: len(item.options) for item in questions}
    rows = []
    for (group, question), cell in people.groupby(["group", "question_id"]):
        counts = np.bincount(cell["answer"], minlength=options[question])
        first = {name: cell[name].iloc[0] for name in ("seen", "probabilities", "option_mass")}
        known = {"group": group, "question_id": question, "shares": counts / counts.sum(), "n": int(counts.sum())}
        rows.append({**known, **first})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def data() -> tuple[tuple[Item, ...], pd.DataFrame]:
    nominal = Item("names", "Which name?", ("a", "b", "c"), ordinal=False)
    questions = (*items(2, options=4), nominal)
    world = draw_world(3, questions, groups=12, people=40, answered=0.7)
    return questions, predictions(world, world.model)


def test_figures_are_those_of_the_people_behind_the_shares(data: tuple[tuple[Item, ...], pd.DataFrame]) -> None:
    questions, people = data
    shares = as_shares(people, questions)
    one, other = score(people, questions, draws=0)["seen"], score(shares, questions, draws=0)["seen"]
    assert set(other) == OF_SHARES | {"noise_floor"}
    for metric in other:
        assert other[metric]["value"] == pytest.approx(one[metric]["value"], abs=1e-10), metric
    parts = break_down(people, questions, draws=0), break_down(shares, questions, draws=0)
    for name, group in parts[1]["by_group"]["seen"].items():
        assert group["soft_emd"]["value"] == pytest.approx(parts[0]["by_group"]["seen"][name]["soft_emd"]["value"])
        assert group["n"] == {"questions": 3}
    for name, question in parts[1]["by_question"]["seen"].items():
        assert question["spread"]["value"] == pytest.approx(parts[0]["by_question"]["seen"][name]["spread"]["value"])
    assert parts[1]["inequality"]["seen"]["worst_group"]["value"] is None  # three questions: too few to judge a group
    unknown = score(shares.drop(columns="n"), questions, draws=0)["seen"]
    assert set(unknown) == OF_SHARES  # without numbers of people there is no floor, and no chance to take off
    assert unknown["spread"]["value"] < other["spread"]["value"]


def test_the_worst_group_needs_enough_questions_and_people() -> None:
    questions = items(MIN_QUESTIONS, options=3)
    world = draw_world(4, questions, groups=6, people=40)
    shares = as_shares(predictions(world, world.model), questions)
    tiny, short = "group 000", "group 001"
    shares.loc[shares["group"] == tiny, "n"] = 10
    wrong = shares["group"].isin([tiny, short])
    shares["probabilities"] = [
        np.eye(3)[0] if bad else own for bad, own in zip(wrong, shares["probabilities"], strict=True)
    ]
    shares = shares[~((shares["group"] == short) & (shares["question_id"] == "q0"))]
    found = break_down(shares, questions, draws=200)["inequality"]["seen"]
    by_group = break_down(shares, questions, draws=0)["by_group"]["seen"]
    fair = {name: entry["soft_emd"]["value"] for name, entry in by_group.items() if name not in (tiny, short)}
    assert found["worst_group"]["group"] == max(fair, key=lambda name: fair[name])
    assert found["worst_group"]["value"] == pytest.approx(max(fair.values()))
    assert found["group_gap"]["value"] == pytest.approx(max(fair.values()) - min(fair.values()))
    assert found["group_inequity"]["low"] < found["group_inequity"]["value"] < found["group_inequity"]["high"]


def test_differences_are_paired_and_other_shares_are_refused() -> None:
    questions = items(10, options=4)
    world = draw_world(3, questions, groups=12, people=40)
    people = predictions(world, world.model)
    shares = as_shares(people, questions)
    even = shares.assign(probabilities=[np.full(len(s), 1 / len(s)) for s in shares["shares"]])
    perfect = shares.assign(probabilities=shares["shares"])
    found = compare(perfect, even, questions, draws=300)["seen"]
    assert found["soft_emd"]["high"] < 0
    assert found["soft_emd"]["p"] < 0.05
    assert compare(shares, shares, questions, draws=50)["seen"]["jsd"]["value"] == 0
    other = shares.assign(shares=[s[::-1] for s in shares["shares"]])
    for wrong in (other, people):
        with pytest.raises(BenchmarkError, match="different people or answers"):
            score_many({"a": shares, "b": wrong}, questions, draws=0)
    with pytest.raises(BenchmarkError, match="twice"):
        score(pd.concat([shares, shares[:1]]), questions, draws=0)


def test_intervals_are_widened_for_the_fewer_of_questions_and_groups() -> None:
    nothing = np.zeros((0, 7))
    assert GroupShares((), (), nothing, np.ones((3, 7)), np.ones((3, 7))).units == 3
    assert GroupShares((), (), nothing, np.ones((9, 7)), np.ones((9, 7))).units == 7
    assert GroupShares((), (), nothing, np.ones((1, 7)), np.ones((1, 7))).units == 7  # one question is not drawn


def test_what_only_one_of_two_was_measured_by_is_not_compared(data: tuple[tuple[Item, ...], pd.DataFrame]) -> None:
    questions, people = data
    plain = as_shares(people, questions)
    both = plain.assign(unsteered=plain.groupby("question_id")["probabilities"].transform("first"))
    found = score_many({"both": both, "plain": plain}, questions, reference="plain", draws=50)["differences"]["both"]
    assert "steerability" not in found["seen"]
    assert found["seen"]["soft_emd"]["value"] == 0


def test_intervals_hold_the_mean_over_other_questions_and_groups() -> None:
    """500 worlds of 30 questions and 25 groups, each asked two thirds of them; questions, groups and cells differ."""
    rng = np.random.default_rng(0)
    held, width = [], []
    for seed in range(500):
        effects = 0.03 * rng.normal(size=(30, 1)) + 0.03 * rng.normal(size=(1, 25)) + 0.03 * rng.normal(size=(30, 25))
        there = (rng.random((30, 25)) < 2 / 3).astype(np.float64)
        shares = GroupShares((), (), np.zeros((0, 25)), there, np.full((30, 25), np.nan))
        empty = np.zeros(0, dtype=np.int64), np.zeros((0, 25)), np.zeros((0, 25))
        tables = ShareTables(there, {"option_mass": 0.3 + effects}, ([], []), empty)
        drawn = overall(tables, *draw_weights(shares, 300, seed))
        value = {name: float(array[0]) for name, array in overall(tables, np.ones((30, 1)), np.ones((25, 1))).items()}
        found = metric_entries(Estimates(value, drawn), partial(student_deviations, units=shares.units))["option_mass"]
        held.append(found["low"] <= 0.3 <= found["high"])
        width.append(found["high"] - found["low"])
    assert 0.93 <= np.mean(held) <= 0.98, np.mean(held)
    true_width = 2 * 1.96 * 0.03 * np.sqrt(1 / 30 + 1 / 25 + 1 / 500)
    assert np.mean(width) < 1.25 * true_width
