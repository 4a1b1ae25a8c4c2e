"""What an evaluation leaves behind: predictions, routing and scores (docs/evaluation-files.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from cuma.data.surveys.survey import Question, Survey
from cuma.evaluation.predict import for_people, merge_orders
from cuma.metrics import break_down, score
from cuma.metrics.design import Design
from cuma.runs.design_file import write_design
from cuma.runs.folder import Run, replacing, write_json

Write = Callable[[Path, list[Any], pd.DataFrame | None, Mapping[str, Any]], None]
"""Writes the files of an evaluation, given its folder; each asked row's option probabilities; a mixture's gates, if
there are any; and how the answers came about."""


def write_evaluation(
    run: Run,
    digest: str,
    predictions: pd.DataFrame,
    survey: Survey,
    routing: pd.DataFrame | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions.parquet, routing.parquet (mixtures only), design.parquet (of a survey whose design is known)
    and scores.json into the run.

    Args:
        run: where to.
        digest: of whatever made the predictions, names the folder with the benchmark.
        predictions: in the form of predictions.parquet.
        survey: the benchmark.
        routing: from `predict_cells`; empty or None: no file.
        protocol: how the answers came about; None: they are not a model's.
    """
    scores = survey_scores(predictions, survey, protocol)
    write_answers(run.evaluation(survey.name, digest), predictions, scores, routing, seen_groups(survey), survey.design)


def seen_groups(survey: Survey) -> dict[str, bool]:
    """Each group's label, and whether it took part in training."""
    return {group.id: group.role == "seen" for group in survey.groups}


def write_answers(
    folder: Path,
    predictions: pd.DataFrame,
    scores: dict[str, Any],
    routing: pd.DataFrame | None,
    seen: Mapping[str, bool],
    design: Design | None = None,
) -> None:
    """The files of an evaluation. seen: whether each group took part in training."""
    if design is not None:
        write_design(folder, design)
    if routing is not None and len(routing):
        write_parquet(folder / "routing.parquet", routing.assign(seen=routing["group"].map(dict(seen))))
    write_json(folder / "scores.json", scores)
    write_parquet(folder / "predictions.parquet", predictions)  # last: it is what marks an evaluation as done


def survey_scores(predictions: pd.DataFrame, survey: Survey, protocol: Mapping[str, Any] | None) -> dict[str, Any]:
    """`all_scores` of people's answers."""
    return all_scores(predictions, survey.name, survey.questions, survey.weighted, protocol, survey.design)


def all_scores(
    predictions: pd.DataFrame,
    benchmark: str,
    questions: Sequence[Question],
    weighted: bool,
    protocol: Mapping[str, Any] | None = None,
    design: Design | None = None,
) -> dict[str, Any]:
    """scores.json: every metric, overall, by question and by group (docs/evaluation-files.md)."""
    scores = {"benchmark": benchmark, **score(predictions, questions, design=design)}
    parts = break_down(predictions, questions, design=design)
    for side, inequality in parts.pop("inequality").items():
        scores[side] |= inequality
    scores |= {**parts, "weighted": weighted, "asked": protocol}
    scores |= {} if design is None else {"design": design.facts()}
    scores["questions"] = [asdict(question) for question in questions]
    return scores


def people_rows(rows: Sequence[Mapping[str, Any]], predicted: list[Any], steered: int, survey: Survey) -> pd.DataFrame:
    """predictions.parquet from the answers to rows, of which the first `steered` say who asks and the others do not."""
    keys = pd.DataFrame({name: [row[name] for row in rows] for name in ("group", "question_id")})
    steered_cells = merge_orders(keys[:steered], predicted[:steered])
    alone = merge_orders(keys[steered:], predicted[steered:]) if len(rows) > steered else None
    return for_people(steered_cells, survey, "test", alone)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table in one step."""
    with replacing(path) as temporary:
        table.to_parquet(temporary, index=False)
