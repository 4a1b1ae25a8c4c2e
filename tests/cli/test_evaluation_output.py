"""What the terminal shows of measurements: nothing of a side that is one small group."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cuma.cli.evaluation_output import print_alarms, print_differences, print_partial, print_scores
from cuma.metrics.nearness import UNSEEN
from cuma.runs.folder import write_json
from helpers.corners import EVALUATION, evaluated, shares_of_corners

SIZES = {"seen": {"groups": 9, "people": 300}, "unseen": {"groups": 1, "people": 5}}


def estimate(value: float) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None}


def test_parts_of_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {"shares": [0.0, 1.0], "seen": [estimate(0.111), estimate(0.222)]}
    print_partial({**measured, "unseen": [estimate(0.333), estimate(0.444)], "n": SIZES})
    shown = capsys.readouterr().out
    assert "0.222" in shown
    assert "0.333" not in shown
    assert "0.444" not in shown
    assert "Unseen groups: fewer than 11 people" in shown


def test_differences(capsys: pytest.CaptureFixture[str]) -> None:
    entries = {side: {"soft_emd": {**estimate(value), "p": 0.5, "p_holm": 0.5}} for side, value in (
        ("seen", 0.111), ("unseen", 0.333)
    )}  # fmt: skip
    print_differences({"differences": {"lora": entries}, "n": SIZES})
    shown = capsys.readouterr().out
    assert "0.111" in shown
    assert "0.333" not in shown


def test_alarms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(json.dumps({"n": SIZES}))
    alarms = [
        {"side": side, "kind": "spread", "question": question, "group": None, "sentence": f"Flat on {side}."}
        for side in SIZES
        for question in (None, "abany")
    ]
    print_alarms(alarms, tmp_path / "collapse.json")
    shown = capsys.readouterr().out
    assert "Flat on seen." in shown
    assert "Flat on unseen." not in shown
    assert "1 alarms about single questions" in shown


def test_corners_fit_80_columns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = evaluated(tmp_path, "cuma", shares_of_corners(0.1)) / EVALUATION
    near = {"q8": 0.9, "q9": 0.8, "q10": 0.3, "q11": 0.2}
    items = [{"id": name, "words": {"similarity": s, "nearest": "Question 1?"}} for name, s in near.items()]
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8")) | {"held_out_items": items}
    anchor = {"label": "Gaussian process on fields and texts", "corners": scores["corners"]}
    corners = {corner: scores["corners"][corner] for corner in UNSEEN}
    sides = {side: {"items": 2, "from": 0.2, "to": 0.9, **corners} for side in ("near", "far")}
    write_json(folder / "scores.json", scores | {"anchors": {"process": anchor}, "by_nearness": sides})
    print_scores(folder)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines[: lines.index(next(line for line in lines if line.startswith("Of 4 unseen")))])) <= 80
    for corner, part in scores["corners"].items():
        entry = part["soft_emd"]
        figure = f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
        first, second = corner.capitalize().split(" · ")
        (line,) = [
            line
            for line, after in pairwise(lines)
            if line.startswith(f" {first} ·") and after.split() == second.split()
        ]
        assert figure in line
        assert f"{part['n']['questions']} × {part['n']['groups']}" in line
        assert f"{part['noise_floor']['value']:.3f}" in line
    assert "Gaussian process on fields and" in shown
    assert "Of 4 unseen items 2 are near" in shown
    assert "Seen groups, unseen items" in shown
    assert shown.index("Four corners") < shown.index("Metric")


def test_without_held_out_items_nothing_is_said_of_corners(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    print_scores(evaluated(tmp_path, "cuma", shares_of_corners(0.1).drop(columns="item_seen")) / EVALUATION)
    shown = capsys.readouterr().out
    assert "corner" not in shown
    assert "unseen items" not in shown
