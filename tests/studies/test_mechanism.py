"""The study of the mechanism: a tiny adapter's learning rate is chosen where nothing is shown."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import ROOT


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    made = importlib.import_module("mechanism").Study(
        argparse.Namespace(
            benchmark="gss-all", splits=[1, 2], families=["cuma", "persona"], steps=2, tiny_steps=2,
            output_dir=tmp_path, results=tmp_path / "found.json",
        )
    )  # fmt: skip
    best = {"cuma": "4e-3", "persona": "5e-4"}

    def tried(family: str, rate: str, split: int) -> dict[str, Any]:
        far = abs(float(np.log(float(rate) / float(best[family]))))
        return {"choice": far + split, "unseen_groups": {f"group {n}": 0.1 - far / 100 + n for n in range(12)},
                "parameters": 100}  # fmt: skip

    monkeypatch.setattr(made, "tried", tried)
    return made


def test_the_rate_of_a_tiny_adapter_is_the_best_on_validation_between_two_worse_ones(study: Any) -> None:
    found = study.tiny()
    assert found["chosen"] == {"cuma": "4e-3", "persona": "5e-4"}
    assert set(found["choice"]["cuma"]) == {"1e-3", "2e-3", "4e-3", "8e-3"}
    assert set(found["choice"]["persona"]) == {"2.5e-4", "5e-4", "1e-3", "2e-3"}
    assert found["choice"]["cuma"]["4e-3"] == pytest.approx(1.5)
    assert found["soft_emd"]["cuma"] == pytest.approx([5.6, 5.6])  # the chosen rate's, the worst on test groups
    assert set(found["cuma_minus"]) == {"persona"}
