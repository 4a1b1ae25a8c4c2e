"""anchors.parquet: what anchors say, beside the predictions of an evaluation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

NAME = "anchors.parquet"
"""Columns anchor, group, question_id, probabilities."""


def anchor_tables(folder: Path, predictions: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Anchor → its table in the form of predictions.parquet, in the file's order; empty without that file."""
    path = folder / NAME
    if not path.is_file():
        return {}
    said = pd.read_parquet(path).groupby("anchor", sort=False)
    return {str(name): predictions_of(rows, predictions) for name, rows in said}


def predictions_of(said: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """What one anchor says, of the cells that a model was asked about. An anchor has no letters and hears of nobody."""
    cells = predictions.drop(columns=["probabilities", "option_mass", "unsteered"], errors="ignore")
    table = cells.merge(said.drop(columns="anchor"), on=["group", "question_id"], validate="many_to_one")
    return table.assign(option_mass=1.0)
