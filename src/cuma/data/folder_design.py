"""The survey's design in a built folder: design/SPLIT.parquet beside the answers, and what card.json says of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.errors import BenchmarkError
from cuma.metrics.design import REPLICATE, Design, Replicates
from cuma.metrics.replicates import coefficients

CARD = "card.json"
FOLDER = "design"
KEY = "person_id"


def read_folder_design(
    folder: Path, facts: Mapping[str, Any] | None, people: pd.Series, weight: pd.Series | None
) -> Design | None:
    """The design of `people` (their ids, whose places become their numbers); None: the folder has none.

    Args:
        folder: what `cuma data build` wrote.
        facts: "design" of its card: "strata", "units" (true where there are any), "weights" (their name; or "weight" in
            "source", the file's own name of them), "replicates" (None, or "kind" and "fay").
        people: one id each.
        weight: theirs, if the survey has any.

    Raises:
        BenchmarkError: the table is damaged, or names nobody of these people.
    """
    if not facts or not (facts.get("strata") or facts.get("units") or facts.get("replicates")):
        return None
    table = _table(folder)
    rows = table.drop_duplicates(KEY).set_index(KEY).reindex(people)
    if not people.isin(set(table[KEY])).any():
        raise BenchmarkError(f"{folder / FOLDER} names none of the people who answered. Build the folder again.")
    stratum, unit = (rows[name] if facts.get(flag) else None for name, flag in _LABELS.items())
    told, replicates = facts.get("replicates"), None
    if told:
        times = _times(rows, weight)
        each = coefficients(told["kind"], times, float(told.get("fay") or 0.0))
        replicates = Replicates(times, each, told["kind"])
    source = facts.get("source")
    name = source.get("weight") if isinstance(source, Mapping) else None
    return Design.of(np.arange(len(people)), stratum, unit, name or facts.get("weights"), replicates)


_LABELS = {"stratum": "strata", "unit": "units"}


def drawn_labels(folder: Path, facts: Mapping[str, Any] | None) -> dict[str, tuple[str, str]]:
    """Each person's id → the survey's own labels of their stratum and unit; {} where it has neither.

    Who lacks a stratum is in one of those who lack it, who lacks a unit is one alone. "" for what nobody has.
    """
    if not facts or not (facts.get("strata") or facts.get("units")):
        return {}
    table = _table(folder).drop_duplicates(KEY)
    alone = {"stratum": "", "unit": table[KEY]}
    stratum, unit = (
        (name + " " + table[name]).fillna("no " + name + " " + alone[name]) if facts.get(flag) else [""] * len(table)
        for name, flag in _LABELS.items()
    )
    return dict(zip(table[KEY], zip(stratum, unit, strict=True), strict=True))


def _table(folder: Path) -> pd.DataFrame:
    files = sorted((folder / FOLDER).glob("*.parquet"))
    if not files:
        raise BenchmarkError(f"{folder} should have the survey's design in {FOLDER}/, and has not. Build it again.")
    try:
        table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"{folder / FOLDER} is damaged ({type(error).__name__}). Build it again.") from error
    missing = [name for name in (KEY, *_LABELS) if name not in table.columns]
    if missing:
        raise BenchmarkError(f"{folder / FOLDER} lacks the columns {missing}; it has {list(table.columns)}.")
    return table


def _times(rows: pd.DataFrame, weight: pd.Series | None) -> np.ndarray:
    """[N, R]: replicate weights over the whole sample's weight; 0 for people without weight."""
    if REPLICATE not in rows.columns or rows[REPLICATE].isna().any():
        lacking = len(rows) if REPLICATE not in rows.columns else int(rows[REPLICATE].isna().sum())
        raise BenchmarkError(f"{lacking} of {len(rows)} people have no replicate weights. Leave such people out.")
    if rows[REPLICATE].map(len).nunique() > 1:
        raise BenchmarkError("People have different numbers of replicate weights. Build the folder again.")
    whole = np.ones(len(rows)) if weight is None else weight.to_numpy(float)
    replicate = np.stack(rows[REPLICATE].to_list()).astype(float)
    if not np.isfinite(replicate).all() or (replicate < 0).any():
        raise BenchmarkError("A replicate weight is negative or not a number. Leave such people out.")
    return np.asarray(np.divide(replicate, whole[:, None], out=np.zeros_like(replicate), where=whole[:, None] > 0))
