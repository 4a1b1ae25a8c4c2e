"""What the terminal shows of measurements: nothing of a side that is one small group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cuma.cli.evaluation_output import print_alarms, print_differences, print_partial

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
