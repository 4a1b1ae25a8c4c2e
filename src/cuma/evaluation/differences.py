"""`cuma evaluate --against RUN`: paired differences from other runs, with Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cuma.errors import RunError
from cuma.evaluation.subject import Subject
from cuma.metrics import score_many
from cuma.runs.design_file import read_design
from cuma.runs.folder import Run, read_json, write_json

THIS = "this"


def evaluate_differences(subject: Subject, others: Sequence[Path], draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Every metric of this run minus that of each other one, on the same draws of the same people.

    Written to differences.json beside the scores: {"run", "n", "draws", "seed", "differences": {other: {side: {metric:
    {"value", "low", "high", "p", "p_holm"}}}}}, and beside the sides "corners": {corner: {metric: …}} where there are
    any. p_holm is corrected for the number of other runs.

    Raises:
        RunError: another run was not evaluated on this benchmark, or two have one name.
        BenchmarkError: it was evaluated on other people.
    """
    folder = subject.folder
    scores = read_json(folder / "scores.json")
    tables = {THIS: pd.read_parquet(folder / "predictions.parquet")}
    for other in others:
        run = Run.open(other)
        if run.info["name"] in tables:
            raise RunError(f"Two of the other runs are called {run.info['name']!r}. Compare with one of them.")
        tables[run.info["name"]] = pd.read_parquet(_evaluation(run, scores) / "predictions.parquet")
    design = read_design(folder)
    both = score_many(tables, scores["questions"], reference=THIS, draws=draws, seed=seed, design=design)
    differences = {name: _all_turned(sides) for name, sides in both["differences"].items()}
    corners = {corner: part["n"] for corner, part in scores.get("corners", {}).items()}
    n = {**scores["n"], **({"corners": corners} if corners else {})}
    about = {"run": subject.run.info["name"], "n": n, "draws": draws, "seed": seed}
    result = {**about, "differences": differences}
    write_json(folder / "differences.json", result)
    return result


def _evaluation(run: Run, scores: dict[str, Any]) -> Path:
    """The run's evaluation on the same questions."""
    folder = run.chosen(folder for folder in run.evaluations() if _asks_the_same(folder, scores))
    if folder is None:
        raise RunError(
            f"{run.path} was not evaluated on {scores['benchmark']} with the same questions. Evaluate it first."
        )
    return folder


def _asks_the_same(folder: Path, scores: dict[str, Any]) -> bool:
    theirs = read_json(folder / "scores.json")
    return (theirs["benchmark"], theirs["questions"]) == (scores["benchmark"], scores["questions"])


def _all_turned(differences: dict[str, Any]) -> dict[str, Any]:
    """The same with every entry, however deep, turned round."""
    if "p_holm" in differences:
        return _turned(differences)
    return {name: _all_turned(inner) for name, inner in differences.items()}


def _turned(entry: dict[str, Any]) -> dict[str, Any]:
    """a - b from b - a."""
    low, high = entry["low"], entry["high"]
    value = entry["value"]
    return {
        **entry,
        "value": None if value is None else 0.0 - value,
        "low": None if high is None else 0.0 - high,
        "high": None if low is None else 0.0 - low,
    }
