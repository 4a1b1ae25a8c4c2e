"""The tables of `make questions`: four corners, paired differences, and how soon each method gets where.

An error belongs to a cell, an item asked of a group, and both are samples: variances are clustered by items and by
groups at once (`cuma.metrics.inference.two_way_variance`), over all splits, so that an item or a group that is held out
in several of them counts once as a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from question_cost import beside
from scipy import stats

from cuma.metrics import emd
from cuma.metrics.corners import CORNERS, ITEM_SEEN, corner_of
from cuma.metrics.figures import MISSING, estimate_text, number, p_text
from cuma.metrics.inference import holm, two_way_freedom, two_way_variance
from cuma.runs.anchor_file import anchor_tables

WORDS = ("lora", "semantic", "hydralora", "dora", "lora-r8", "hydralora-r8")
"""Methods that are told who asks in words alone."""
OURS = "cuma"


def cell_errors(predictions: pd.DataFrame, folder: Path) -> dict[str, str]:
    """Corner → the soft EMD of its cells, in the order of items and groups, as one line of figures."""
    table = _cells(predictions, folder)
    return {corner: " ".join(f"{error:.4f}" for error in rows["error"]) for corner, rows in table.groupby("corner")}


def anchor_errors(predictions: pd.DataFrame, folder: Path) -> dict[str, dict[str, str]]:
    """Anchor → as `cell_errors`, of the corners that it says something of."""
    return {name: cell_errors(table, folder) for name, table in anchor_tables(folder, predictions).items()}


def cell_keys(predictions: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Corner → items and groups of its cells, in the same order."""
    table = _cells(predictions, folder)
    return {corner: _keys(rows) for corner, rows in table.groupby("corner")}


def corner_floors(folder: Path) -> dict[str, dict[str, float]]:
    """Corner → what a perfect model would score, by the sampling of the people it is compared with."""
    corners = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["corners"]
    return {name: part["noise_floor"]["value"] for name, part in corners.items()}


def _cells(predictions: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """question_id, group, corner, error: a row for each cell, by item and group."""
    questions = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["questions"]
    ordinal = {question["id"]: question["ordinal"] for question in questions}
    rows = []
    for (item, group), cell in predictions.groupby(["question_id", "group"], sort=True):
        first = cell.iloc[0]
        expected = np.asarray(first["probabilities"], dtype=np.float64)
        if "shares" in cell:
            truth = np.asarray(first["shares"], dtype=np.float64)
        else:
            truth = np.bincount(cell["answer"], minlength=len(expected)) / len(cell)
        error = float(emd(expected, truth, ordinal=ordinal[item]))
        rows.append((item, group, corner_of(bool(first[ITEM_SEEN]), bool(first["seen"])), error))
    return pd.DataFrame(rows, columns=["question_id", "group", "corner", "error"])


def _keys(rows: pd.DataFrame) -> dict[str, Any]:
    """Items, groups, and each cell's by number: "3:0 3:1 …"."""
    items = {item: number for number, item in enumerate(rows["question_id"].unique())}
    groups = {group: number for number, group in enumerate(sorted(rows["group"].unique()))}
    cells = [f"{items[i]}:{groups[g]}" for i, g in zip(rows["question_id"], rows["group"], strict=True)]
    return {"items": list(items), "groups": list(groups), "cells": " ".join(cells)}


def pooled(runs: Mapping[int, Any], keys: Mapping[int, Any], corner: str) -> pd.DataFrame:
    """split, item, group, error of one method's cells in one corner, over its splits."""
    parts = []
    for split, run in runs.items():
        if corner in run["cells"]:
            own = keys[split][corner]
            places = [tuple(map(int, place.split(":"))) for place in own["cells"].split()]
            errors = [float(error) for error in run["cells"][corner].split()]
            named = [(own["items"][item], own["groups"][group]) for item, group in places]
            parts.append(pd.DataFrame(named, columns=["item", "group"]).assign(split=split, error=errors))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["item", "group", "split", "error"])


def two_way(table: pd.DataFrame, column: str) -> dict[str, Any]:
    """Mean of a column over cells, with its interval and p when items and groups are drawn."""
    values = table[column].to_numpy(dtype=np.float64)
    mean = float(values.mean())
    rest = table.assign(rest=values - mean)

    def variance(by: list[str]) -> float:
        sums = rest.groupby(by)["rest"].sum().to_numpy()
        return float((sums**2).sum()) / len(values) ** 2 * len(sums) / max(1, len(sums) - 1)

    error = float(np.sqrt(two_way_variance(variance(["item"]), variance(["group"]), variance(["item", "group"]))))
    freedom = two_way_freedom(table["item"].nunique(), table["group"].nunique())
    half = float(stats.t.ppf(0.975, freedom)) * error if freedom > 0 else float("nan")
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if freedom > 0 and error > 0 else float("nan")
    return {"value": mean, "low": mean - half, "high": mean + half, "p": p, "n": len(values)}


def differences(
    runs: Mapping[str, Mapping[int, Any]], keys: Mapping[int, Any], corner: str, left: str = OURS
) -> dict[str, dict[str, Any]]:
    """Rival → error, `left` minus it, over the cells of the splits that both have; with Holm's p over the rivals."""
    found = {}
    for rival in runs:
        shared = {split: run for split, run in runs[rival].items() if split in runs.get(left, {})}
        ours = pooled({split: runs[left][split] for split in shared}, keys, corner)
        theirs = pooled(shared, keys, corner)
        if rival != left and len(ours) and len(theirs):
            both = ours.merge(theirs, on=["split", "item", "group"], suffixes=("", "_theirs"))
            found[rival] = two_way(both.assign(difference=both["error"] - both["error_theirs"]), "difference")
    adjusted = holm([one["p"] for one in found.values()])
    return {rival: {**one, "p_holm": p} for (rival, one), p in zip(found.items(), adjusted, strict=True)}


def first_reach(curve: list[dict[str, Any]], target: float) -> int | None:
    """The first step of a validation curve that is at least as good as the target; None: never."""
    return next((row["step"] for row in curve if mean_error(row) <= target), None)


def mean_error(row: Mapping[str, Any]) -> float:
    """Of the corners of one point of a curve."""
    return float(np.mean([value for name, value in row.items() if name in CORNERS]))


def mean_curve(runs: Mapping[int, Any]) -> list[dict[str, Any]]:
    """A method's validation curve, averaged over its splits."""
    steps = [row["step"] for row in next(iter(runs.values()))["curve"]]
    points = []
    for place, step in enumerate(steps):
        rows = [run["curve"][place] for run in runs.values()]
        corners = {name: float(np.mean([row[name] for row in rows])) for name in CORNERS if name in rows[0]}
        points.append({"step": step, **corners})
    return points


@dataclass(frozen=True)
class Arm:
    """What the tables say of a method or anchor beside its scores."""

    label: str
    main: bool = False
    """Whether it is trained on every split."""
    rate: str = ""
    """Its learning rate."""
    seconds: Sequence[float] = ()
    """Of a training step, by round; empty where that was not measured."""


def tables(
    title: str,
    arms: Mapping[str, Arm],
    runs: Mapping[str, Mapping[int, Any]],
    keys: Mapping[int, Any],
    seeds: Mapping[str, Mapping[int, Any]] | None = None,
) -> str:
    """What one benchmark's runs show, as Markdown: errors by corner, differences by corner, how soon, and how much the
    training's seed does.

    Errors and curves are of the splits that all main arms have, differences of all that two arms have.

    Args:
        title: of the benchmark.
        arms: by name, all that `runs` names.
        runs: arm → split → scores.
        keys: split → which cells they are of (see `cell_keys`).
        seeds: arm → training seed → scores, all on one split.
    """
    shown = on_shared_splits(runs, [name for name in runs if arms[name].main])
    lines = [f"### {title}", "", *_errors(arms, shown, keys)]
    if OURS in runs:
        lines += ["", *_against(arms, runs, keys), "", *_how_soon(arms, shown)]
    if seeds and OURS in seeds:
        lines += ["", *_by_seed(arms, seeds)]
    return "\n".join(lines)


def on_shared_splits(runs: Mapping[str, Mapping[int, Any]], main: Sequence[str]) -> dict[str, dict[int, Any]]:
    """The runs on those splits on which all main arms are done: means over other splits are not comparable."""
    shared = set.intersection(*(set(runs[name]) for name in main))
    cut = {name: {split: run for split, run in of.items() if split in shared} for name, of in runs.items()}
    return {name: of for name, of in cut.items() if of}


def _errors(arms: Mapping[str, Arm], runs: Mapping[str, Mapping[int, Any]], keys: Mapping[int, Any]) -> list[str]:
    lines = [f"| soft EMD ↓ | {' | '.join(CORNERS)} | rate | splits |", "| --- |" + " ---: |" * (len(CORNERS) + 2)]
    fullest = max((of for of in runs.values() if all("floors" in run for run in of.values())), key=len)
    floors = [np.mean([run["floors"][corner] for run in fullest.values()]) for corner in CORNERS]
    lines.append("| floor | " + " | ".join(f"{floor:.3f}" for floor in floors) + " | | |")
    for name, splits in runs.items():
        tables_of = [pooled(splits, keys, corner) for corner in CORNERS]
        cells = [estimate_text(two_way(table, "error")) if len(table) else MISSING for table in tables_of]
        lines.append(f"| {arms[name].label} | {' | '.join(cells)} | {arms[name].rate} | {len(splits)} |")
    return lines


def _against(arms: Mapping[str, Arm], runs: Mapping[str, Mapping[int, Any]], keys: Mapping[int, Any]) -> list[str]:
    lines = [f"| CuMA minus | {' | '.join(CORNERS)} | splits |", "| --- |" + " ---: |" * (len(CORNERS) + 1)]
    tests = {corner: differences(runs, keys, corner) for corner in CORNERS}
    for rival in dict.fromkeys(name for of in tests.values() for name in of):
        found = [tests[corner].get(rival) for corner in CORNERS]
        cells = [f"{estimate_text(one, sign=True)} p {p_text(one['p_holm'])}" if one else MISSING for one in found]
        lines.append(f"| {arms[rival].label} | {' | '.join(cells)} | {len(set(runs[rival]) & set(runs[OURS]))} |")
    return lines


def _how_soon(arms: Mapping[str, Arm], runs: Mapping[str, Mapping[int, Any]]) -> list[str]:
    curves = {name: mean_curve(splits) for name, splits in runs.items() if "curve" in next(iter(splits.values()))}
    rivals = [name for name in curves if name in WORDS]
    if not rivals:
        return []
    best = min(rivals, key=lambda name: mean_error(curves[name][-1]))
    target = mean_error(curves[best][-1])
    lines = [
        f"Validation error (mean of corners) at the end; the first step that leaves {target:.3f} or less, where the",
        f"best rival that is told in words ends ({arms[best].label}); and what a step costs:",
        "",
        "| | at the end ↓ | step | cost of a step, CuMA's = 1 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, curve in curves.items():
        step, seconds = first_reach(curve, target), arms[name].seconds
        cells = [
            f"{mean_error(curve[-1]):.3f}",
            MISSING if step is None else str(step),
            estimate_text(beside(seconds, arms[OURS].seconds), digits=2) if seconds else MISSING,
        ]
        lines.append(f"| {arms[name].label} | {' | '.join(cells)} |")
    return lines


def _by_seed(arms: Mapping[str, Arm], seeds: Mapping[str, Mapping[int, Any]]) -> list[str]:
    """The mean error of each training seed, and CuMA minus each rival, seed by seed."""
    lines = [
        "One split, trained with several seeds; a figure for each seed:",
        "",
        f"| soft EMD ↓ | {' | '.join(CORNERS)} | seeds |",
        "| --- |" + " ---: |" * (len(CORNERS) + 1),
    ]
    of = {name: {seed: _means(run) for seed, run in runs.items()} for name, runs in seeds.items()}
    for name, means in of.items():
        cells = [" · ".join(number(one[corner]) for one in means.values()) for corner in CORNERS]
        lines.append(f"| {arms[name].label} | {' | '.join(cells)} | {' '.join(map(str, means))} |")
    for name in (name for name in of if name != OURS):
        shared = [seed for seed in of[name] if seed in of[OURS]]
        pairs = [(of[OURS][seed], of[name][seed]) for seed in shared]
        cells = [
            " · ".join(number(ours[corner] - theirs[corner], sign=True) for ours, theirs in pairs) for corner in CORNERS
        ]
        lines.append(f"| CuMA minus {arms[name].label} | {' | '.join(cells)} | {' '.join(map(str, shared))} |")
    return lines


def _means(run: Mapping[str, Any]) -> dict[str, float]:
    """Corner → mean error over its cells."""
    return {corner: float(np.mean([float(error) for error in run["cells"][corner].split()])) for corner in CORNERS}
