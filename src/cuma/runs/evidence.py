"""What a report knows: run folders read into frozen values and checked to be about the same people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from cuma.errors import RunError, suggestion
from cuma.metrics.corners import has_new_items
from cuma.metrics.design import Design
from cuma.metrics.shares import SHARES, N, is_shares
from cuma.runs.anchor_file import NAME as ANCHORS_FILE
from cuma.runs.design_file import read_design
from cuma.runs.folder import Run, read_json
from cuma.runs.method import ROLES, Method, Role, anchors_beside, benchmark_of, method_of, recipe_of

PERSON_COLUMNS = ["person", "group", "seen", "question_id", "answer"]
SHARE_COLUMNS = ["group", "seen", "question_id", SHARES]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything one report is made of."""

    benchmark: str
    questions: tuple[dict[str, Any], ...]
    """id, text, options, ordinal of each question, as in scores.json."""
    methods: tuple[Method, ...]
    """The reference first, then its rivals, the controls, the anchors."""
    people: pd.DataFrame
    """One row per person × question: person, group, seen, question_id, answer. Where there are only shares, one row per
    group × question: group, seen, question_id, shares (a tuple), and n where it is known."""
    design: Design | None = None
    """How the survey drew these people; None: not known."""
    held_out_items: tuple[dict[str, Any], ...] = ()
    """How near each held-out item is to those of training, as in scores.json; empty where none is held out."""

    @property
    def of_shares(self) -> bool:
        """Whether the people are known by the shares of their groups alone."""
        return is_shares(self.people)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Method → all its predictions, with the column that says which items are new where there are any."""
        return {
            method.name: method.predictions if method.corners is None else method.corners for method in self.methods
        }

    @property
    def reference(self) -> Method | None:
        """The method that others are compared with, if there is one."""
        return next((method for method in self.methods if method.role == "reference"), None)

    def role(self, role: Role) -> tuple[Method, ...]:
        """The methods of one role."""
        return tuple(method for method in self.methods if method.role == role)


def read_evidence(runs: Sequence[Path], reference: str | None = None, benchmark: str | None = None) -> Evidence:
    """Read the run folders.

    Args:
        runs: the folders.
        reference: the name (run.json) of the run that the others are compared with; None: the one called "cuma", else
            the first mixture, else the first model.
        benchmark: whose evaluations are read; None: the only one that all runs share.

    Raises:
        RunError: nothing to read, no run of that name, or runs that were evaluated on different people or questions.
    """
    if not runs:
        raise RunError("A report needs at least one run folder; got none. Give the folders of evaluated runs.")
    opened = [Run.open(Path(path)) for path in runs]
    preferences = [run.chosen_with("discrimination.parquet") for run in opened]
    benchmarks = sorted({benchmark_of(folder) for folder in preferences if folder is not None})
    if len(benchmarks) > 1:
        raise RunError(f"Preferred replies were asked for on {' and '.join(benchmarks)}. Report these runs separately.")
    replies = [own or run.chosen_with("replies.json") for run, own in zip(opened, preferences, strict=True)]
    told = [own or run.chosen_with("conversations.parquet") for run, own in zip(opened, replies, strict=True)]
    if not any(run.evaluations() for run in opened) and all(told):
        benchmarks = sorted({benchmark_of(folder) for folder in told if folder is not None})
        if benchmark not in (None, *benchmarks):
            raise RunError(f"The runs were not evaluated on {benchmark!r}, but on {' and '.join(benchmarks)}.")
        return _without_answers(opened, preferences, reference, " and ".join(benchmarks))
    folders = _evaluations(opened, benchmark)
    names = _tell_apart(opened)
    against = _reference(opened, reference)
    parts = zip(opened, folders, preferences, strict=True)
    methods = [method_of(run, folder, against, choices) for run, folder, choices in parts]
    scores = [read_json(folder / "scores.json") for folder in folders]
    for name, score in zip(names, scores, strict=True):
        if (score["benchmark"], score["questions"]) != (scores[0]["benchmark"], scores[0]["questions"]):
            raise RunError(f"Runs {names[0]!r} and {name!r} answered different questions. Report them separately.")
    beside = anchors_beside(next((folder for folder in folders if (folder / ANCHORS_FILE).is_file()), None))
    methods = _on_new_items([*methods, *(anchor for anchor in beside if anchor.name not in names)])
    methods.sort(key=lambda method: ROLES.index(method.role))
    people = _people(methods)
    design = next(filter(None, map(read_design, folders)), None)
    fullest = max((score.get("held_out_items", ()) for score in scores), key=lambda items: sum(map(len, items)))
    return Evidence(
        scores[0]["benchmark"], tuple(scores[0]["questions"]), tuple(methods), people, design, tuple(fullest)
    )


def _on_new_items(methods: list[Method]) -> list[Method]:
    """The same; where one says something of new items, those that do not have no rows but in the corners."""
    new = [method.corners is not None and has_new_items(method.corners) for method in methods]
    if not any(new):
        return methods
    pairs = zip(methods, new, strict=True)
    return [method if of_new else replace(method, predictions=method.predictions[:0]) for method, of_new in pairs]


def _without_answers(
    runs: list[Run], folders: Sequence[Path | None], reference: str | None, benchmark: str
) -> Evidence:
    """Runs that were asked nothing but which replies people prefer, or to reply."""
    _tell_apart(runs)
    chosen = _reference(runs, reference)
    methods = [method_of(run, None, chosen, folder) for run, folder in zip(runs, folders, strict=True)]
    methods.sort(key=lambda method: ROLES.index(method.role))
    return Evidence(benchmark, (), tuple(methods), pd.DataFrame(columns=PERSON_COLUMNS))


def _tell_apart(runs: Sequence[Run]) -> list[str]:
    """The runs' names. Those of one name from different folders get the folder's too, those of one label their name;
    RunError if that is the same."""
    names = [run.info["name"] for run in runs]
    for run in runs:
        folder, parent = run.path.resolve().name, run.path.resolve().parent.name
        if names.count(run.info["name"]) > 1:
            where = folder if folder != run.info["name"] else parent
            run.info |= {"name": f"{run.info['name']}@{where}", "label": f"{run.info['label']} ({where})"}
    names = [run.info["name"] for run in runs]
    if len(set(names)) < len(names):
        raise RunError(f"Two runs of one report have the same name; got {', '.join(names)}. Leave one out.")
    labels = [run.info["label"] for run in runs]
    for run in runs:
        if labels.count(run.info["label"]) > 1:
            run.info |= {"label": f"{run.info['label']} ({run.info['name']})"}
    return names


def _reference(runs: Sequence[Run], wanted: str | None) -> str | None:
    """The name of the run that the others are compared with; None among anchors alone."""
    names = [run.info["name"] for run in runs]
    if wanted is not None:
        if wanted not in names:
            raise RunError(f"No run is called {wanted!r}. {suggestion(wanted, names)}")
        return wanted
    if "cuma" in names:
        return "cuma"
    models = [run for run in runs if run.info["kind"] != "anchor"]
    mixtures = [run for run in models if recipe_of(run).get("adapter", {}).get("method") == "cuma"]
    return next((run.info["name"] for run in (*mixtures, *models)), None)


def read_evaluation(run: Run, folder: Path) -> Evidence:
    """One evaluation of one run, as evidence about that run alone. Raises RunError."""
    scores = read_json(folder / "scores.json")
    method = method_of(run, folder, run.info["name"], run.chosen_with("discrimination.parquet"))
    people = method.predictions[_who(method.predictions)]
    items = tuple(scores.get("held_out_items", ()))
    return Evidence(scores["benchmark"], tuple(scores["questions"]), (method,), people, read_design(folder), items)


def _evaluations(runs: Sequence[Run], benchmark: str | None) -> list[Path]:
    """One evaluation folder per run, on the benchmark that all runs share."""
    by_benchmark: list[dict[str, list[Path]]] = []
    for run in runs:
        folders: dict[str, list[Path]] = {}
        for folder in run.evaluations():
            folders.setdefault(benchmark_of(folder), []).append(folder)
        if not folders:
            raise RunError(f"Run {run.path} has not been evaluated. Evaluate it first, then make the report.")
        by_benchmark.append(folders)
    common = sorted(set.intersection(*(set(folders) for folders in by_benchmark)))
    if benchmark is not None and benchmark not in common:
        raise RunError(f"Not every run was evaluated on {benchmark!r}. {suggestion(benchmark, common)}")
    if not common:
        raise RunError(
            "The runs were not evaluated on the same benchmark. Give runs that were, or evaluate them on one."
        )
    if benchmark is None and len(common) > 1:
        raise RunError(f"The runs were all evaluated on {', '.join(common)}. Choose one with --benchmark.")
    chosen = [run.chosen(folders[benchmark or common[0]]) for run, folders in zip(runs, by_benchmark, strict=True)]
    return [folder for folder in chosen if folder is not None]


def _people(methods: Sequence[Method]) -> pd.DataFrame:
    """The people all methods were asked about. A method may skip a whole side (counts know no unseen group)."""
    fullest = max(methods, key=lambda method: len(method.predictions))
    columns = _who(fullest.predictions)
    people = fullest.predictions[columns]
    for method in methods:
        if _who(method.predictions) != columns:
            raise RunError(f"Runs {fullest.name!r} and {method.name!r} were not evaluated on the same people.")
        for seen, rows in method.predictions[columns].groupby("seen"):
            expected = people[people["seen"] == seen].reset_index(drop=True)
            if not rows.reset_index(drop=True).equals(expected):
                raise RunError(
                    f"Runs {fullest.name!r} and {method.name!r} were not evaluated on the same people "
                    f"({len(expected)} and {len(rows)} answers). Evaluate both again with the same data and seed."
                )
    return people


def _who(predictions: pd.DataFrame) -> list[str]:
    """The columns that say of whom a table is, and what they answered."""
    if not is_shares(predictions):
        return PERSON_COLUMNS
    return [*SHARE_COLUMNS, *(name for name in (N,) if name in predictions)]
