"""Whom a router is told of, where it is asked about other people than those it was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.evaluation.evaluate import evaluate_subject
from cuma.evaluation.subject import subject_of_model
from cuma.people.profiles import Profile
from cuma.runs.folder import read_json
from helpers.folders import base_folder, mixture_folder
from helpers.served import encoder


def test_an_adapter_that_reads_fields_answers_for_groups_of_which_none_is_known(tmp_path: Path) -> None:
    beside = encoder().with_fields([Profile(sex="Male"), Profile(sex="Female")])
    base = base_folder(tmp_path / "base")
    adapter = mixture_folder(base, tmp_path / "adapter", profile_encoder=dict(beside.spec), profile_dim=beside.dim)
    rows = [
        {"question": f"Do you like {what}?", "options": ["Yes", "No"], "distribution": [0.7, 0.3], "group": place}
        for what in ("tea", "rain")
        for place in ("North", "South")
    ]
    pd.DataFrame(rows).to_json(tmp_path / "own.jsonl", orient="records", lines=True)
    build("own", tmp_path / "own.jsonl", tmp_path / "own", Options(holdout_items=0.5))
    folder = evaluate_subject(subject_of_model(str(adapter), str(tmp_path / "own"), "persona", tmp_path / "measured"))
    answers = np.stack(pd.read_parquet(folder / "predictions.parquet")["probabilities"].to_list())
    assert answers.shape == (2, 2)
    assert np.isfinite(answers).all()
    anchors = read_json(folder / "scores.json")["anchors"]
    assert anchors["logistic"]["absent"] == "no group that was trained on has a profile field"
    assert "absent" not in anchors["average"]
