"""Usage of the experts, from the gates and from the trainer's log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cuma.reports.expert_use import effective, health_rows, training_panels, usage
from cuma.runs.evidence import Evidence, read_evidence


@pytest.fixture(scope="module")
def evidence(four_runs: list[Path]) -> Evidence:
    return read_evidence(four_runs)


def routing(gates: list[list[float]]) -> pd.DataFrame:
    rows = [(f"group {g}", "layers.3", e, gate) for g, row in enumerate(gates) for e, gate in enumerate(row)]
    return pd.DataFrame(rows, columns=["group", "layer", "expert", "gate"])


def test_usage_is_the_mean_gate() -> None:
    layers, shares = usage(routing([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert layers == ["layers.3"]
    assert shares.tolist() == [[0.5, 0.5, 0.0]]
    assert effective(shares) == pytest.approx([2.0])


def test_effective_experts_lie_between_one_and_all() -> None:
    assert effective(np.full((1, 8), 1 / 8)) == pytest.approx([8])
    assert effective(np.eye(8)[:1]) == pytest.approx([1])


def test_every_mixture_has_a_row_and_unused_experts_are_named(evidence: Evidence) -> None:
    rows = health_rows(evidence)
    assert [row["label"] for row in rows] == ["CuMA", "Semantic mixture"]
    assert all(len(row["shares"]) == len(row["layers"]) == len(row["effective"]) == 8 for row in rows)
    assert all(abs(sum(shares) - 100) <= 4 for row in rows for shares in row["shares"])
    one = replace(evidence.methods[0], routing=routing([[0.6, 0.4, 0.0]] * 3))
    (row,) = health_rows(replace(evidence, methods=(one,)))
    assert "1 of 3 experts are unused" in row["sentence"]


def test_panels_hold_what_was_logged(evidence: Evidence) -> None:
    panels = {panel["title"]: panel for panel in training_panels(evidence)}
    assert len(panels["Training loss"]["series"]) == 3
    assert len(panels["Effective experts"]["series"]) == 2
    line = panels["Effective experts"]["series"][0]
    log = evidence.methods[line["method"]].log
    assert line["steps"] == log["step"].tolist()
    assert line["values"] == pytest.approx(log["effective_experts"].tolist(), abs=1e-4)


def test_a_second_stage_goes_on_where_the_first_ended(evidence: Evidence) -> None:
    method = evidence.methods[0]
    second = method.log.assign(stage="02-dpo")
    both = replace(method, log=pd.concat([method.log, second]))
    (loss, *_) = training_panels(replace(evidence, methods=(both,)))
    steps = loss["series"][0]["steps"]
    assert steps == sorted(steps)
    assert steps[-1] == 2 * int(method.log["step"].max())
