"""The curves by what was new: a panel a corner, and how soon each method is where the best rival ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cuma.reports.corner_curves import corner_panels, pace_listing
from cuma.runs.evidence import Evidence, read_evidence
from cuma.runs.folder import Run
from cuma.runs.training_log import corner_curve
from helpers.corners import evaluated, shares_of_corners
from helpers.folders import run_folder

CORNER = "unseen items · unseen groups"
CURVES = {
    "cuma": [(0, 0.5), (10, 0.3), (20, 0.2)], "lora": [(0, 0.5), (10, 0.4), (20, 0.3)], "wrong": [(0, 0.5), (20, 0.1)],
}  # fmt: skip


def write_curve(folder: Path, points: list[tuple[int, float]]) -> None:
    """The log of a stage; training takes half a second a step."""
    log = Run.open(folder).stage("01-sft").path / "metrics.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {"step": step, "seconds": step / 2, "curve": {"corners": {CORNER: {"soft_emd": error}}}}
        for step, error in points
    ]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    folders = [evaluated(tmp_path, name, shares_of_corners(0.1)) for name in ("cuma", "lora")]
    wrong = evaluated(tmp_path, "wrong", shares_of_corners(0.1), "data.shuffle_profiles=true")
    for folder, points in zip([*folders, wrong], CURVES.values(), strict=True):
        write_curve(folder, points)
    return read_evidence([*folders, wrong])


def test_the_pace_is_against_the_best_rival_that_is_no_control(evidence: Evidence) -> None:
    listing = pace_listing(evidence)
    assert listing is not None
    assert [row[1:] for row in listing.rows] == [
        (CORNER, "0.200", "20", "0.300", "10", "5"),  # CuMA is where LoRA ends after ten steps
        (CORNER, "0.300", "20", "0.200", "not reached", "–"),
        (CORNER, "0.100", "20", "0.200", "20", "10"),
    ]


def test_a_panel_for_each_corner_that_was_measured(evidence: Evidence) -> None:
    (panel,) = corner_panels(evidence)
    assert panel["title"] == f"Soft EMD, {CORNER}"
    assert len(panel["series"]) == 3


def test_of_a_step_that_was_logged_twice_the_last_counts(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    write_curve(folder, [(0, 0.5), (10, 0.4), (10, 0.3)])
    assert corner_curve(Run.open(folder))["soft_emd"].tolist() == [0.5, 0.3]


def test_runs_without_corners_have_neither(tmp_path: Path) -> None:
    plain = read_evidence([evaluated(tmp_path, "cuma", shares_of_corners(0.1))])
    assert corner_panels(plain) == []
    assert pace_listing(plain) is None
