"""How often a model names the reply that a person prefers: scikit-learn's figures, and intervals over people."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t
from sklearn.metrics import accuracy_score, f1_score

from cuma.metrics import brier, ece
from cuma.metrics.choice_scores import discrimination


def choices(people: int = 60, each: int = 3, right: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """People of three groups, each with choices of their own, of whom a model is `right` so often."""
    rng = np.random.default_rng(seed)
    count = people * each
    answer = rng.integers(4, size=count)
    guess = np.where(rng.random(count) < right, answer, (answer + rng.integers(1, 4, size=count)) % 4)
    predicted = rng.dirichlet(np.ones(4), size=count) * 0.5
    predicted[np.arange(count), guess] += 0.5
    person = np.repeat(np.arange(people), each)
    return pd.DataFrame(
        {
            "person": person, "group": [f"group {number % 3}" for number in person], "seen": person % 3 != 2,
            "answer": answer, "probabilities": list(predicted), "option_mass": rng.random(count),
        }
    )  # fmt: skip


def test_the_figures_are_scikit_learns() -> None:
    table = choices()
    found = discrimination(table)
    for side, rows in (("seen", table[table["seen"]]), ("unseen", table[~table["seen"]])):
        predicted = np.stack(rows["probabilities"].to_list())
        guess, answer = predicted.argmax(1), rows["answer"].to_numpy()
        expected = {
            "accuracy": accuracy_score(answer, guess),
            "macro_f1": f1_score(answer, guess, average="macro"),
            "brier": brier(predicted, answer).mean(),
            "ece": ece(predicted.max(1), guess == answer),
            "option_mass": rows["option_mass"].mean(),
        }
        for name, value in expected.items():
            assert found[side][name]["value"] == pytest.approx(value, abs=1e-12), name
            assert found[side][name]["low"] <= found[side][name]["high"]
        assert found[side]["chance"] == 0.25
    assert found["seen"]["n"] == {"people": 40, "choices": 120, "groups": 2}


def test_a_persons_choices_are_drawn_together() -> None:
    once = choices(people=100, each=1)
    repeated = pd.concat([once] * 20, ignore_index=True)
    few, many = (discrimination(table)["seen"]["accuracy"] for table in (once, repeated))
    assert many["value"] == pytest.approx(few["value"])
    assert many["high"] - many["low"] == pytest.approx(few["high"] - few["low"], rel=0.1)


def test_intervals_hold_the_truth() -> None:
    held = 0
    for seed in range(200):
        entry = discrimination(choices(people=90, each=2, right=0.4, seed=seed), draws=200)["seen"]["accuracy"]
        held += entry["low"] <= 0.4 <= entry["high"]
    assert 0.9 <= held / 200 <= 0.99


def test_nobody_or_everybody_right_is_no_certainty() -> None:
    for right in (0.0, 1.0):
        entry = discrimination(choices(people=60, right=right), draws=50)["seen"]["accuracy"]
        exact = binomtest(round(40 * right), 40).proportion_ci(method="exact")
        assert entry["value"] == right
        assert (entry["low"], entry["high"]) == pytest.approx((exact.low, exact.high))


def test_small_groups_have_no_entry_and_a_single_person_no_interval() -> None:
    found = discrimination(choices(people=30))["seen"]  # ten people a group
    assert found["by_group"] == {}
    assert set(discrimination(choices(people=60))["seen"]["by_group"]) == {"group 0", "group 1"}
    alone = discrimination(choices(people=1))["seen"]["accuracy"]
    assert alone["low"] is None
    assert alone["high"] is None


def test_few_people_widen_an_interval_as_students_t_does() -> None:
    table = choices(people=33, each=1).assign(seen=True)
    few = table[table["group"] == "group 0"]
    assert few["person"].nunique() == 11
    right = np.stack(few["probabilities"].to_list()).argmax(1) == few["answer"]
    entry = discrimination(few)["seen"]["accuracy"]
    students = 2 * t.ppf(0.975, 10) * right.std(ddof=1) / np.sqrt(11)
    assert entry["high"] - entry["low"] == pytest.approx(students, rel=0.1)
