"""collapse.json and gradients.json on the page: nothing of a group that may not be named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuma.reports.collapse_and_gradients import collapse_rows, gradient_rows
from cuma.runs.evidence import Evidence, read_evidence


@pytest.fixture(scope="module")
def evidence(four_runs: list[Path]) -> Evidence:
    return read_evidence(four_runs)


def test_only_methods_that_were_measured_have_rows(evidence: Evidence) -> None:
    assert [row["label"] for row in collapse_rows(evidence)] == ["CuMA"]
    assert [row["label"] for row in gradient_rows(evidence)] == ["CuMA"]


def test_groups_that_may_not_be_named_are_nowhere(evidence: Evidence, world_page: Path) -> None:
    assert "tiny group" not in json.dumps([collapse_rows(evidence), gradient_rows(evidence)])
    assert "tiny group" not in world_page.read_text(encoding="utf-8")


def test_alarms_and_erased_groups_are_told(evidence: Evidence) -> None:
    (row,) = collapse_rows(evidence)
    assert row["alarms"] == ["People are made the same."]
    assert row["single_alarms"] == ["People are made the same here."]
    assert len(row["erased"]) == 1
    assert len(row["questions"]) == 4


def test_cosines_are_those_of_the_groups_that_are_left(evidence: Evidence) -> None:
    (row,) = gradient_rows(evidence)
    found = evidence.methods[0].measurements["gradients"]
    assert len(row["cosines"]) == len(row["parts"]) == 3
    assert row["groups"] == found["groups"][:-1]
    assert row["cosines"][0][2][4] == pytest.approx(found["dense"]["cosine"][2][4], abs=1e-3)
