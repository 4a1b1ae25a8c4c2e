"""Loss and preferences by group: hand-worked sums, intervals that hold the truth, small groups nowhere."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cuma.metrics.reply_scores import reply_differences, reply_scores

LARGE = {"Kenya": 30, "Peru": 40}


def table(seed: int = 0, shift: float = 0.0, **more: int) -> pd.DataFrame:
    """Two conversations and two pairs of each person; Kenya's are less likely by half a nat a token."""
    rng, rows, person = np.random.default_rng(seed), [], 0
    for group, people in {**LARGE, **more}.items():
        for _ in range(people):
            for _ in range(2):
                tokens = int(rng.integers(5, 50))
                nats = 2.0 + 0.5 * (group == "Kenya") + shift + rng.normal() / 4
                rows.append({"task": "sft", "person": person, "group": group, "tokens": tokens, "own": -nats * tokens})
                margin = rng.normal(loc=0.8 - shift)
                rows.append({"task": "dpo", "person": person, "group": group, "tokens": tokens, "own": margin - 9.0,
                             "own_rejected": -9.0, "reference": -9.0, "reference_rejected": -9.0})  # fmt: skip
            person += 1
    return pd.DataFrame(rows).assign(seen=True)


def test_figures_are_the_sums_worked_by_hand() -> None:
    rows = table()
    found = reply_scores(rows)["seen"]
    chats, pairs = rows[rows["task"] == "sft"], rows[rows["task"] == "dpo"]
    assert found["loss"]["value"] == pytest.approx(-chats["own"].sum() / chats["tokens"].sum())
    assert found["perplexity"]["value"] == pytest.approx(np.exp(found["loss"]["value"]))
    assert found["preference_accuracy"]["value"] == pytest.approx((pairs["own"] > pairs["own_rejected"]).mean())
    kenya = chats[chats["group"] == "Kenya"]
    assert found["loss"]["worst"]["group"] == "Kenya"
    assert found["loss"]["worst"]["value"] == pytest.approx(-kenya["own"].sum() / kenya["tokens"].sum())
    assert found["loss"]["gap"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["loss"]["gap"]["best"] == "Peru"
    assert found["loss"]["n"] == {"people": 70, "rows": 140, "groups": 2}


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    inside = []
    for seed in range(60):
        of = reply_scores(table(seed), draws=200, seed=seed)["seen"]["loss"]["by_group"]["Peru"]
        inside.append(of["low"] <= 2.0 <= of["high"])
    assert np.mean(inside) >= 0.87  # 95 %, less three standard errors


def test_the_untouched_model_is_even_and_a_tie_is_half() -> None:
    rows = table()
    rows["reference"], rows["reference_rejected"] = rows["own"], rows["own_rejected"]
    found = reply_scores(rows)["seen"]
    assert found["preference_accuracy"]["value"] == 0.5
    assert found["likelier"]["value"] > 0.6


def test_small_groups_and_those_that_give_them_away_are_nowhere() -> None:
    found = reply_scores(table(Chad=3, Fiji=12))
    assert set(found["seen"]["loss"]["by_group"]) == {"Kenya", "Peru"}
    text = json.dumps(reply_differences(table(Chad=3, Fiji=12), {"other": table(Chad=3, Fiji=12)})) + json.dumps(found)
    assert "Chad" not in text
    assert "Fiji" not in text
    assert "worst" not in reply_scores(table()[lambda rows: rows["group"] == "Peru"])["seen"]["loss"]


def test_differences_are_paired_and_know_no_other_tokenizer() -> None:
    rows = table()
    other = rows.assign(own=rows["own"] - 0.01 * rows["tokens"])
    found = reply_differences(rows, {"worse": other, "same": rows})
    worse = found["worse"]["seen"]["loss"]
    assert worse["value"] == pytest.approx(-0.01)
    assert worse["high"] < 0 < worse["p"] <= worse["p_holm"] < 0.05
    assert worse["by_group"]["Peru"]["value"] == pytest.approx(-0.01)
    assert found["same"]["seen"]["loss"]["value"] == 0
    apart = reply_differences(rows, {"other": other.assign(tokens=rows["tokens"] + 1)})
    assert set(apart["other"]["seen"]) == {"preference_accuracy", "likelier"}


def test_a_share_of_one_has_an_exact_interval_and_an_unmoved_gap_none() -> None:
    rows = table()
    peru = (rows["task"] == "dpo") & (rows["group"] == "Peru")
    rows.loc[rows["task"] == "dpo", "own"] = -10.0
    rows.loc[peru, "own"] = -8.0
    of = reply_scores(rows)["seen"]["preference_accuracy"]
    assert (of["by_group"]["Peru"]["value"], of["by_group"]["Peru"]["high"]) == (1, 1)
    assert of["by_group"]["Peru"]["low"] == pytest.approx(0.025 ** (1 / 40))
    assert (of["gap"]["value"], of["gap"]["low"]) == (1, None)
