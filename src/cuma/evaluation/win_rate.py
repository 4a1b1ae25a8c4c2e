"""`cuma evaluate --judge MODEL`: how often a judge prefers a model's replies to another's, or to what people chose."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from cuma.evaluation.replies import paired, prompts, prompts_by_row, replies_of
from cuma.evaluation.subject import Subject
from cuma.judge import Judge, Pair
from cuma.materials import load_survey
from cuma.metrics import length_controlled_win_rate
from cuma.metrics.estimates import entry
from cuma.metrics.inference import interval, p_value, student_deviations
from cuma.metrics.pointwise import Floats
from cuma.profiles import Profile
from cuma.runs import Run, write_json

DRAWS = 300
EVEN = 0.5


def evaluate_win_rate(
    subject: Subject, judge: Judge, count: int, against: Run | None = None, seed: int = 0
) -> dict[str, Any]:
    """Judge the replies that `evaluate_replies` wrote; written to win_rate.json beside them.

    Args:
        subject: whose replies are the candidates.
        judge: compares them, for the person who asked; its rules: docs/judge.md.
        count: of prompts, as in `evaluate_replies`.
        against: the run whose replies are the references; None: what the people preferred.
        seed: as in `evaluate_replies`.

    Returns:
        {"win_rate", "length_controlled_win_rate", "position_consistency", "p" (of an even match), "n", "judge",
        "against", "invalid", "requests", "failures", "by_group": {group: {"win_rate", "n"}}}; intervals draw people.

    Raises:
        BenchmarkError: there are no replies, or nothing to compare them with. EndpointError and its kinds: the judge.
    """
    folder = subject.folder
    other = None if against is None else replies_of(_evaluation(against, folder.name))
    table = paired(replies_of(folder), other)
    survey, corpus = load_survey(subject.recipe)
    asked = prompts_by_row(prompts(survey, corpus, count, in_prompt=False, seed=seed))
    table = table[table["row"].isin(list(asked))].reset_index(drop=True)
    pairs = [
        Pair(asked[row]["prompt"], reply, reference, Profile.parse(asked[row]["profile"]))
        for row, reply, reference in zip(table["row"], table["reply"], table["reference"], strict=True)
    ]
    report = judge.compare(pairs)
    result = {
        **summary(table, report.scores, seed),
        "position_consistency": report.position_consistency,
        "judge": report.model,
        "against": "what people preferred" if against is None else against.info["name"],
        **asdict(report.tally),
    }
    write_json(folder / "win_rate.json", result)
    return result


def check_win_rate(subject: Subject, judge: Judge, count: int, against: Run | None = None, seed: int = 0) -> None:
    """Tell before the replies are written what would keep them from being judged. Args as of `evaluate_win_rate`.

    Raises:
        JudgeError: profiles may not be sent to the judge. BenchmarkError: there is nothing to compare with.
    """
    survey, corpus = load_survey(subject.recipe)
    asked = prompts(survey, corpus, count, in_prompt=False, seed=seed)
    judge.check_profiles(Profile.parse(row["profile"]) for row in asked)
    other = None if against is None else replies_of(_evaluation(against, f"{survey.name}-{subject.recipe.digest}"))
    paired(pd.DataFrame(asked)[["row", "chosen"]], other)


def summary(table: pd.DataFrame, scores: tuple[float | None, ...], seed: int = 0) -> dict[str, Any]:
    """Win rates; intervals draw people (groups, where nobody is named). table: person, group, reply, reference."""
    judged = table.assign(score=pd.array(scores, dtype="Float64")).dropna(subset="score")
    cluster = judged["person"].astype(str).where(judged["person"] >= 0, judged["group"])
    judged = judged.assign(score=judged["score"].astype(float), cluster=cluster)
    clusters = [rows for _, rows in judged.groupby("cluster")]
    value, controlled = _rates(judged)
    drawn = _drawn(clusters, seed) if len(clusters) > 1 else np.empty((0, 2))
    around = student_deviations(value, drawn[:, 0], len(clusters)) if len(drawn) else None
    beside = student_deviations(controlled, drawn[:, 1], len(clusters)) if len(drawn) else None
    return {
        "win_rate": entry(value, interval(value, around), (0.0, 1.0)),
        "length_controlled_win_rate": entry(controlled, interval(controlled, beside), (0.0, 1.0)),
        "p": p_value(value - EVEN, around),
        "n": {"pairs": len(table), "judged": len(judged), "people": len(clusters)},
        "by_group": {
            str(group): {"win_rate": float(rows["score"].mean()), "n": len(rows)}
            for group, rows in judged.groupby("group")
        },
    }


def _drawn(clusters: list[pd.DataFrame], seed: int) -> Floats:
    """[draws, 2]: both rates over people drawn with replacement."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(clusters), size=(DRAWS, len(clusters)))
    return np.array([_rates(pd.concat([clusters[place] for place in pick])) for pick in picks])


def _rates(rows: pd.DataFrame) -> tuple[float, float]:
    lengths = rows["reply"].str.len().tolist(), rows["reference"].str.len().tolist()
    return float(rows["score"].mean()), length_controlled_win_rate(rows["score"].tolist(), *lengths)


def _evaluation(run: Run, name: str) -> Any:
    """The other run's folder with replies: the evaluation of the same name, or its newest."""
    folders = sorted((run.path / "evaluations").glob("*/replies.parquet"), key=lambda file: -file.stat().st_mtime)
    same = [file.parent for file in folders if file.parent.name == name]
    return same[0] if same else folders[0].parent if folders else run.path
