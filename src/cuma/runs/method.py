"""One method of a comparison: a run, or an anchor, with what its folder holds of one evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from cuma.errors import RunError
from cuma.metrics.corners import ITEM_SEEN, side_rows
from cuma.metrics.shares import COLUMNS, SHARES, is_shares
from cuma.runs.anchor_file import anchor_tables
from cuma.runs.folder import Run, read_json
from cuma.runs.training_log import NO_CORNERS, NO_CURVE, NO_LOG, corner_curve, learning_curve, training_log

Role = Literal["reference", "rival", "control", "anchor"]
ROLES: tuple[Role, ...] = ("reference", "rival", "control", "anchor")

PREDICTION_COLUMNS = ("person", "group", "seen", "question_id", "answer", "probabilities", "option_mass")
NO_PREDICTIONS = pd.DataFrame(columns=PREDICTION_COLUMNS)


@dataclass(frozen=True, eq=False)
class Method:
    """One row of the comparison: a run, its predictions, and what it recorded on the way."""

    name: str
    label: str
    role: Role
    info: dict[str, Any]
    predictions: pd.DataFrame
    """One row per person × question, or per group × question; columns as in predictions.parquet. Empty for a run that
    was only asked which replies people prefer, or to reply. Where items are new and known (`cuma.metrics.corners`), the
    rows of new items."""
    corners: pd.DataFrame | None
    """All rows, where they say which items are new; None where they do not."""
    routing: pd.DataFrame | None
    """Columns group, seen, layer, expert, gate; None for a method without experts."""
    curve: pd.DataFrame
    """Columns step, seen, soft_emd, spread; empty for a method that was not trained."""
    corner_curve: pd.DataFrame
    """Columns step, seconds, corner, soft_emd; empty where no corners were measured while training."""
    log: pd.DataFrame
    """What the trainer logged: stage, step, and loss and the gates' figures where there are any; may be empty."""
    recipe: dict[str, Any]
    """The recipe as it was written: nested sections."""
    measurements: dict[str, Any]
    """What further measurements left beside the scores: name of the file → its contents."""
    inequality: dict[str, Any]
    """Side → "worst_group", "group_gap", "group_inequity", as in scores.json; empty where there are none."""
    by_group: dict[str, Any]
    """Side → group → "n" and every metric, as in scores.json; empty where there is none."""
    protocol: dict[str, Any]
    """How it was asked, as in scores.json: "prompting", "answers", "samples", …; empty of an anchor."""
    choices: dict[str, Any]
    """What discrimination.json says, and its "benchmark"; empty for a run that was not asked about replies."""
    replies: dict[str, Any]
    """What replies.json says, and its "benchmark"; with "judged", what win_rate.json says; empty for a run that wrote
    none."""


def method_of(run: Run, folder: Path | None, reference: str | None, choices: Path | None) -> Method:
    """folder: of the evaluation; None: there is none but of choices."""
    recipe = recipe_of(run)
    routing = None if folder is None else folder / "routing.parquet"
    scores = {} if folder is None else read_json(folder / "scores.json")
    predictions = NO_PREDICTIONS if folder is None else _predictions(folder / "predictions.parquet")
    return Method(
        name=run.info["name"],
        label=run.info["label"],
        role=_role(run, recipe, reference),
        info=run.info,
        predictions=side_rows(predictions).reset_index(drop=True),
        corners=predictions if ITEM_SEEN in predictions else None,
        routing=pd.read_parquet(routing) if routing is not None and routing.exists() else None,
        curve=learning_curve(run),
        corner_curve=corner_curve(run),
        log=training_log(run),
        recipe=recipe,
        measurements={**_conversations(run), **({} if folder is None else _beside_scores(folder))},
        inequality={side: scores[side] for side in ("seen", "unseen") if "worst_group" in scores.get(side, {})},
        by_group=scores.get("by_group", {}),
        protocol=scores.get("asked") or {},
        choices={}
        if choices is None
        else {"benchmark": benchmark_of(choices), **read_json(choices / "discrimination.json")},
        replies=_written(run),
    )


def anchors_beside(folder: Path | None) -> list[Method]:
    """The anchors that an evaluation left beside its predictions; none where it left none.

    folder: of the evaluation; None: there is none.
    """
    if folder is None:
        return []
    told = read_json(folder / "scores.json").get("anchors", {})
    tables = anchor_tables(folder, _predictions(folder / "predictions.parquet"))
    return [
        Method(
            name=f"anchor-{name}",
            label=told[name]["label"],
            role="anchor",
            info={"kind": "anchor", **{key: told[name][key] for key in ("label", "description")}},
            predictions=side_rows(table).reset_index(drop=True),
            corners=table if ITEM_SEEN in table else None,
            routing=None, curve=NO_CURVE, corner_curve=NO_CORNERS, log=NO_LOG,
            recipe={}, measurements={}, inequality={}, by_group={}, protocol={}, choices={}, replies={},
        )
        for name, table in tables.items()
    ]  # fmt: skip


def _beside_scores(folder: Path) -> dict[str, Any]:
    """`Method.measurements`."""
    return {file.stem: read_json(file) for file in sorted(folder.glob("*.json")) if file.name != "scores.json"}


def recipe_of(run: Run) -> dict[str, Any]:
    """The recipe as written, without defaults."""
    return yaml.safe_load(run.recipe_text) or {}


def _role(run: Run, recipe: dict[str, Any], reference: str | None) -> Role:
    if run.info["name"] == reference:
        return "reference"
    if run.info["kind"] == "anchor":
        return "anchor"
    return "control" if recipe.get("data", {}).get("shuffle_profiles", False) else "rival"


def _predictions(path: Path) -> pd.DataFrame:
    """The rows with an answer, or with shares; a question that a person skipped says nothing about any method."""
    if not path.exists():
        raise RunError(f"{path} is missing. Evaluate the run again.")
    table = pd.read_parquet(path)
    shares = is_shares(table)
    missing = [column for column in (COLUMNS if shares else PREDICTION_COLUMNS) if column not in table.columns]
    if missing:
        raise RunError(f"{path} lacks the columns {', '.join(missing)}. Evaluate the run again with this version.")
    if shares:
        table[SHARES] = list(map(tuple, table[SHARES]))  # so that tables can be compared
        return table.sort_values(["group", "question_id"], ignore_index=True)
    return table[table["answer"] >= 0].sort_values(["person", "question_id"], ignore_index=True)


def _written(run: Run) -> dict[str, Any]:
    """`Method.replies`."""
    folder = run.chosen_with("replies.json")
    if folder is None:
        return {}
    win_rate = folder / "win_rate.json"
    result = {"benchmark": benchmark_of(folder), **read_json(folder / "replies.json")}
    return result | ({"judged": read_json(win_rate)} if win_rate.is_file() else {})


def _conversations(run: Run) -> dict[str, Any]:
    """What conversations.json says, in the form of `Method.measurements`; nothing where there is none."""
    folder = run.chosen_with("conversations.parquet")
    return {} if folder is None else {"conversations": read_json(folder / "conversations.json")}


def benchmark_of(evaluation: Path) -> str:
    """Which benchmark an evaluation's folder is of."""
    return evaluation.name.rpartition("-")[0]
