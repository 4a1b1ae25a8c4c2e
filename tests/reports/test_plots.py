"""The numbers that the page draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from cuma.reports.plots import answers_payload, curve_panels, first_methods, method_entries, wilson
from cuma.runs.evidence import Evidence, read_evidence
from helpers.synthetic import QUESTIONS, Population


@pytest.fixture(scope="module")
def evidence(runs: list[Path]) -> Evidence:
    return read_evidence(runs)


@settings(deadline=None)  # a busy machine is no failure
@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_agrees_with_scipy(trials: int, share: float) -> None:
    successes = round(share * trials)
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_answers_are_the_people_s_and_the_method_s(evidence: Evidence, world: Population) -> None:
    payload = answers_payload(evidence)
    assert {group["label"] for group in payload["groups"]} == set(world.groups)
    assert [question["ordinal"] for question in payload["questions"]] == [q["ordinal"] for q in QUESTIONS]
    cuma = evidence.methods[0]
    for group in payload["groups"][::9]:
        for number, cell in group["cells"].items():
            rows = evidence.people[evidence.people["group"] == group["label"]]
            said = rows.loc[rows["question_id"] == QUESTIONS[number]["id"], "answer"]
            assert cell["n"] == len(said)
            assert cell["people"] == pytest.approx([(said == 0).mean(), (said == 1).mean()], abs=1e-4)
            assert all(
                low <= share <= high for share, (low, high) in zip(cell["people"], cell["interval"], strict=True)
            )
            of_group = cuma.predictions[cuma.predictions["group"] == group["label"]]
            shares = of_group.loc[of_group["question_id"] == QUESTIONS[number]["id"], "probabilities"]
            assert cell["methods"][0] == pytest.approx(np.stack(shares.to_numpy()).mean(axis=0), abs=1e-4)


def test_a_method_without_predictions_for_a_side_has_none_there(evidence: Evidence) -> None:
    counts = [entry["name"] for entry in method_entries(evidence)].index("anchor-counts")
    for group in answers_payload(evidence)["groups"]:
        for cell in group["cells"].values():
            assert (cell["methods"][counts] is None) == (not group["seen"])


def test_colours_mark_roles(evidence: Evidence) -> None:
    entries = method_entries(evidence)
    assert [entry["colour"] for entry in entries if entry["role"] == "anchor"] == ["anchor"] * 4
    assert entries[0]["colour"] == "reference"
    rivals = [entry["colour"] for entry in entries if entry["role"] == "rival"]
    assert len(set(rivals)) == len(rivals) == 3


def test_curves_hold_every_logged_point_and_the_anchors(evidence: Evidence, table: pd.DataFrame) -> None:
    panels = curve_panels(evidence, table)
    assert [panel["title"] for panel in panels] == [
        f"{metric}, {side} groups" for metric in ("Soft EMD", "Spread") for side in ("seen", "unseen")
    ]
    for panel in panels:
        assert len(panel["series"]) == 4  # lora, semantic, cuma, shuffled
        assert all(line["steps"] == [0, 25, 50, 100, 150, 200] for line in panel["series"])
    lines = {line["label"]: line["value"] for line in panels[0]["lines"]}
    seen = table[(table["side"] == "seen") & (table["role"] == "anchor")]
    for row in seen.itertuples():
        assert lines[row.label] == pytest.approx(row.soft_emd, abs=1e-4)
    assert lines["Noise floor"] == pytest.approx(seen["noise_floor"].iloc[0], abs=1e-4)


def test_the_first_picture_has_the_reference_a_dense_model_a_prompted_one_and_the_closest(
    evidence: Evidence, table: pd.DataFrame
) -> None:
    first = [evidence.methods[place] for place in first_methods(evidence, table)]
    assert 3 <= len(first) <= 4
    assert first[0].role == "reference"
    assert {"lora", "persona"} <= {method.name for method in first}
    rivals = table[table["role"] == "rival"].groupby("name")["soft_emd"].mean()
    assert rivals.idxmin() in {method.name for method in first}


def test_one_model_alone_is_shown_beside_anchors(runs: list[Path], table: pd.DataFrame) -> None:
    few = read_evidence([run for run in runs if run.name in ("cuma", "anchor-average")])
    assert first_methods(few, table[table["name"].isin(["cuma", "anchor-average"])]) == [0, 1]
