"""What the studies' tables are made of: scores by side, intervals over splits, paired tests over groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from cuma.answering.materials import Materials
from cuma.data.surveys.survey import Survey
from cuma.evaluation.anchors import anchor_predictions
from cuma.metrics import emd, score
from cuma.metrics.inference import holm

ROLES = ("seen", "validation", "test")
METRICS = ("soft_emd", "spread", "alignment")


def sides(scores: dict[str, Any], metrics: tuple[str, ...] = METRICS) -> dict[str, Any]:
    """The values of the metrics that a table shows, for seen and unseen groups."""
    return {
        side: {metric: scores[side][metric]["value"] for metric in metrics}
        for side in ("seen", "unseen")
        if side in scores
    }


def measured(predictions: pd.DataFrame, survey: Survey, metrics: tuple[str, ...] = METRICS) -> dict[str, Any]:
    """Side → metric → value of one table of predictions, and each unseen group's soft EMD."""
    row = sides(score(predictions, survey.questions, draws=0), metrics)
    return {**row, "unseen_groups": group_emds(predictions[~predictions["seen"]], survey.questions)}


def anchors(names: tuple[str, ...], materials: Materials, metrics: tuple[str, ...] = METRICS) -> dict[str, Any]:
    """Anchor → as `measured`."""
    survey = materials.survey
    embeds = np.asarray(materials.group_embeds(materials.table, ROLES), dtype=np.float64)
    encode = materials.table.encoder
    return {name: measured(anchor_predictions(name, survey, embeds, encode), survey, metrics) for name in names}


def group_emds(predictions: pd.DataFrame, questions: Any) -> dict[str, float]:
    """Group → soft EMD between its people's answers and what was predicted for it, mean over questions."""
    ordinal = {question.id: question.ordinal for question in questions}
    cells: dict[str, list[float]] = {}
    for (group, question), cell in predictions[predictions["answer"] >= 0].groupby(["group", "question_id"], sort=True):
        said = np.mean(np.stack(cell["probabilities"].to_list()), axis=0)
        truth = np.bincount(cell["answer"], minlength=len(said)) / len(cell)
        cells.setdefault(str(group), []).append(float(emd(said, truth, ordinal=ordinal[question])))
    return {group: float(np.mean(values)) for group, values in cells.items()}


def averaged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table whose probabilities are the mean over the tables."""
    mean = np.mean([np.stack(table["probabilities"].to_list()) for table in tables], axis=0)
    return tables[0].assign(probabilities=list(mean))


def interval(values: Any) -> dict[str, Any]:
    """Mean and Student's 95 % interval; nulls where a value is undefined (the alignment of one voice for all)."""
    if any(value is None for value in values):
        return {"mean": None, "low": None, "high": None, "n": len(values)}
    mean, error = float(np.mean(values)), float(stats.sem(values)) if len(values) > 1 else float("nan")
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error if len(values) > 1 else float("nan")
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def paired_by_group(rows: dict[int, Any], left: str, rivals: list[str]) -> dict[str, Any]:
    """Rival → unseen soft EMD, left minus rival: mean, 95 % interval, p and Holm's p, over distinct groups.

    A group that is unseen in several splits counts once, with its mean over them.
    """
    tests = {}
    for rival in rivals:
        differences = _per_group(rows, left, rival)
        tests[rival] = {**interval(differences), "p": float(stats.ttest_1samp(differences, 0.0).pvalue)}
    adjusted = holm([test["p"] for test in tests.values()])
    return {rival: {**test, "p_holm": p} for (rival, test), p in zip(tests.items(), adjusted, strict=True)}


def _per_group(rows: dict[int, Any], left: str, right: str) -> NDArray[np.float64]:
    collected: dict[str, list[float]] = {}
    for row in rows.values():
        for group, value in row[left]["unseen_groups"].items():
            collected.setdefault(group, []).append(value - row[right]["unseen_groups"][group])
    return np.array([np.mean(values) for values in collected.values()])
