"""Evaluated runs on twelve items and ten groups, of which four each are new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cuma.evaluation.evaluation_files import all_scores, write_answers
from cuma.metrics.items import Item
from helpers.folders import run_folder

QUESTIONS = tuple(Item(f"q{n}", f"Question {n}?", ("Yes", "No"), False) for n in range(12))
EVALUATION = Path("evaluations") / "made-000000000000"


def shares_of_corners(error: float, n: bool = True) -> pd.DataFrame:
    """Predictions of groups' shares that are off by about `error`. n: whether it is known of how many people."""
    rng = np.random.default_rng(0)
    rows = []
    for item in range(12):
        for group in range(10):
            yes, off = rng.uniform(0.3, 0.7), error + 0.02 * rng.uniform()
            cell = {"group": f"group {group}", "seen": group < 6, "item_seen": item < 8, "question_id": f"q{item}"}
            cell |= {"shares": [yes, 1 - yes], "probabilities": [yes - off, 1 - yes + off], "option_mass": 0.9}
            rows.append({**cell, **({"n": 200} if n else {})})
    return pd.DataFrame(rows)


def evaluated(home: Path, name: str, predictions: pd.DataFrame, *overrides: str) -> Path:
    """A run of that name with such an evaluation."""
    info = {"name": name, "label": name.title(), "description": "", "digest": "0" * 12}
    folder = run_folder(home / name, *overrides, status="evaluated", **info)
    scores = all_scores(predictions, "made", QUESTIONS, False, {"prompting": "none", "answers": "logits"})
    seen = dict(zip(predictions["group"], predictions["seen"], strict=True))
    write_answers(folder / EVALUATION, predictions, scores, None, seen)
    return folder
