"""`cuma evaluate --judge MODEL`: how often a judge prefers a model's replies to another's, or to what people chose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.materials import load_survey
from cuma.errors import RunError
from cuma.evaluation.replies import HASH, paired, prompts, replies_of
from cuma.evaluation.subject import Subject
from cuma.judge import Judge, Pair
from cuma.metrics import length_controlled_win_rate
from cuma.metrics.inference import estimate, p_value, student_deviations
from cuma.metrics.pointwise import Floats
from cuma.people.profiles import Profile
from cuma.runs.folder import Run, write_json

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
        BenchmarkError: there are no replies, or nothing to compare them with.
        RunError: what there is answers other prompts.
        EndpointError and its kinds: the judge.
    """
    folder = subject.folder
    survey, corpus = load_survey(subject.recipe)
    prompts_by_hash = {row[HASH]: row for row in prompts(survey, corpus, count, in_prompt=False, seed=seed)}
    other = None if against is None else _replies_to(prompts_by_hash, _all_replies(against), against.path)
    table = paired(_replies_to(prompts_by_hash, [replies_of(folder)], subject.run.path), other)
    pairs = [
        Pair(prompts_by_hash[key]["prompt"], reply, reference, Profile.parse(prompts_by_hash[key]["profile"]))
        for key, reply, reference in zip(table[HASH], table["reply"], table["reference"], strict=True)
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
        JudgeError: profiles may not be sent to the judge. BenchmarkError, RunError: there is nothing to compare with.
    """
    survey, corpus = load_survey(subject.recipe)
    rows = prompts(survey, corpus, count, in_prompt=False, seed=seed)
    judge.check_profiles(Profile.parse(row["profile"]) for row in rows)
    keys = {row[HASH] for row in rows}
    other = None if against is None else _replies_to(keys, _all_replies(against), against.path)
    paired(pd.DataFrame(rows)[[HASH, "chosen"]], other)


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
        "win_rate": estimate(value, around, (0.0, 1.0)),
        "length_controlled_win_rate": estimate(controlled, beside, (0.0, 1.0)),
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


def _all_replies(run: Run) -> list[pd.DataFrame]:
    """The replies of each of a run's evaluations, the newest first. Raises BenchmarkError if there are none."""
    files = (run.path / "evaluations").glob("*/replies.parquet")
    folders = [file.parent for file in sorted(files, key=lambda file: -file.stat().st_mtime)]
    return [replies_of(folder) for folder in folders or [run.path]]


def _replies_to(hashes: Collection[str], tables: Sequence[pd.DataFrame], run: Path) -> pd.DataFrame:
    """The replies to prompts with these hashes, from the table that has most of them; of equals, the first.

    Raises RunError if there are none.
    """
    known = [table for table in tables if HASH in table]
    if not known:
        raise RunError(
            f"The replies of {run} do not say which prompts they answer: an older version wrote them. Let `cuma "
            "evaluate … --replies` run on it as before; it adds what is missing and asks for nothing again."
        )
    best = max((table[table[HASH].isin(list(hashes))] for table in known), key=len)
    if best.empty:
        raise RunError(
            f"No reply of {run} answers a prompt that is asked here: it had another benchmark, other data, other "
            "prompts, or another machine. Let `cuma evaluate` run on it with the same --benchmark and --replies."
        )
    return best.reset_index(drop=True)
