"""A run and an adapter that an older version made: today's code loads, evaluates and serves them with the same numbers.

With one thread on the machine that made them the numbers are the same to the last bit; other CPUs round differently.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import pytest

from cuma.answering import Answerers
from cuma.evaluation.evaluate import evaluate_subject
from cuma.evaluation.subject import Subject, subject_of_model, subject_of_run
from cuma.runs.folder import read_json
from helpers.served import serving

MADE = Path(__file__).with_name("old_run")
ROUNDING = 1e-6


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy without the evaluations; names in it are seen from there."""
    shutil.copytree(MADE, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("evaluations"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated_as(subject: Subject, before: Path) -> None:
    """Evaluate; the folder's name (the recipe's digest) and all that was predicted are as before."""
    folder = evaluate_subject(subject)
    (old,) = before.iterdir()
    assert folder.name == old.name
    for file in old.glob("*.parquet"):
        now, then = pd.read_parquet(folder / file.name), pd.read_parquet(file)
        pd.testing.assert_frame_equal(now[then.columns], then, check_exact=False, rtol=ROUNDING, atol=ROUNDING)
    now, then = (read_json(each / "scores.json") for each in (folder, old))
    for side in ("seen", "unseen"):
        assert now[side]["soft_emd"]["value"] == pytest.approx(then[side]["soft_emd"]["value"], abs=ROUNDING)


def test_a_run_is_evaluated_as_before(here: Path) -> None:
    evaluated_as(subject_of_run(here / "run"), MADE / "run" / "evaluations")


def test_an_adapter_that_peft_wrote_is_evaluated_as_before(here: Path) -> None:
    subject = subject_of_model("lora", "data", "persona", here / "measured", batch_size=4)
    evaluated_as(subject, MADE / "lora-evaluations")


def test_both_are_served_as_before(here: Path) -> None:
    loader = Answerers(device="cpu")
    asked: list[dict[str, Any]] = json.loads((MADE / "served.json").read_text(encoding="utf-8"))
    with serving([loader.load(name) for name in ("run", "lora")]) as (url, _):
        for each in asked:
            reply = httpx2.post(f"{url}/v1/{each['path']}", json=each["body"], timeout=60).json()
            np.testing.assert_allclose(numbers(reply), each["numbers"], rtol=ROUNDING, atol=ROUNDING)


def numbers(reply: dict[str, Any]) -> list[float]:
    """As in old_run/make.py."""
    if reply["object"] == "opinions":
        return [value for one in reply["data"] for value in (*one["probabilities"], one["option_mass"])]
    return [token["logprob"] for token in reply["choices"][0]["logprobs"]["content"]]
