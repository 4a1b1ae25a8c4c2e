"""What an evaluation leaves behind: predictions, routing and scores (docs/evaluation.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cuma.benchmarks.base import Survey
from cuma.evaluation.predict import for_people, merge_orders
from cuma.metrics import break_down, score
from cuma.runs import Run, replacing, write_json


def write_evaluation(
    run: Run,
    digest: str,
    predictions: pd.DataFrame,
    survey: Survey,
    routing: pd.DataFrame | None = None,
    asked: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions.parquet, routing.parquet (mixtures only) and scores.json into the run.

    Args:
        run: where to.
        digest: of whatever made the predictions, names the folder with the benchmark.
        predictions: in the form of predictions.parquet.
        survey: the benchmark.
        routing: from `predict_cells`; empty or None: no file.
        asked: how the answers came about; None: they are not a model's.
    """
    folder = run.evaluation(survey.name, digest)
    if routing is not None and len(routing):
        seen = {group.id: group.role == "seen" for group in survey.groups}
        write_parquet(folder / "routing.parquet", routing.assign(seen=routing["group"].map(seen)))
    write_json(folder / "scores.json", all_scores(predictions, survey, asked))
    write_parquet(folder / "predictions.parquet", predictions)  # last: it is what marks an evaluation as done


def all_scores(predictions: pd.DataFrame, survey: Survey, asked: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """scores.json: every metric, overall, by question and by group (docs/evaluation.md)."""
    scores = {"benchmark": survey.name, **score(predictions, survey.questions)}
    parts = break_down(predictions, survey.questions)
    for side, inequality in parts.pop("inequality").items():
        scores[side] |= inequality
    scores |= {**parts, "weighted": survey.weighted, "asked": asked}
    scores["questions"] = [asdict(question) for question in survey.questions]
    return scores


def people_rows(rows: Sequence[Mapping[str, Any]], said: list[Any], steered: int, survey: Survey) -> pd.DataFrame:
    """predictions.parquet from the answers to rows, of which the first `steered` say who asks and the others do not."""
    keys = pd.DataFrame({name: [row[name] for row in rows] for name in ("group", "question_id")})
    told = merge_orders(keys[:steered], said[:steered])
    alone = merge_orders(keys[steered:], said[steered:]) if len(rows) > steered else None
    return for_people(told, survey, "test", alone)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table in one step."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
