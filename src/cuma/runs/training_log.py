"""What a run recorded while it trained, as tables: its learning curve, and what the trainer logged."""

from __future__ import annotations

import pandas as pd

from cuma.runs.folder import Run

LOGGED = ("loss", "gate_entropy", "effective_experts", "dead_experts", "expert_group_mi")
NO_CURVE = pd.DataFrame(columns=["step", "seen", "soft_emd", "spread"])
NO_CORNERS = pd.DataFrame(columns=["step", "seconds", "corner", "soft_emd"])
NO_LOG = pd.DataFrame(columns=["stage", "step", *LOGGED])


def learning_curve(run: Run) -> pd.DataFrame:
    """step, seen, soft_emd, spread: what the first stage logged; of a step logged twice (resumed), the last."""
    rows = []
    for record in run.stage("01-sft").read_log():
        for side in ("seen", "unseen"):
            if side in record.get("curve", {}):
                values = {metric: record["curve"][side].get(metric) for metric in ("soft_emd", "spread")}
                rows.append({"step": record["step"], "seen": side == "seen", **values})
    table = pd.DataFrame(rows, columns=NO_CURVE.columns)
    table = table.astype({"step": int, "seen": bool, "soft_emd": float, "spread": float})  # None: not defined there
    table = table.drop_duplicates(["step", "seen"], keep="last")
    return table.sort_values(["seen", "step"], ascending=[False, True], ignore_index=True)


def corner_curve(run: Run) -> pd.DataFrame:
    """step, seconds, corner, soft_emd: the first stage's curve by what was new; of a step logged twice, the last.

    seconds: of training, without measuring; NaN where that was not logged. Empty where no corners were measured."""
    rows = [
        {"step": record["step"], "seconds": record.get("seconds"), "corner": corner, "soft_emd": values["soft_emd"]}
        for record in run.stage("01-sft").read_log()
        for corner, values in record.get("curve", {}).get("corners", {}).items()
    ]
    table = pd.DataFrame(rows, columns=NO_CORNERS.columns)
    table = table.astype({"step": int, "seconds": float, "soft_emd": float}).dropna(subset=["soft_emd"])
    table = table.drop_duplicates(["step", "corner"], keep="last")
    return table.sort_values(["corner", "step"], ignore_index=True)


def training_log(run: Run) -> pd.DataFrame:
    """stage, step and `LOGGED` of all stages; of a step that was logged twice (a resumed run), the last."""
    rows = [
        {"stage": stage.path.name, "step": record["step"], **{key: record.get(key) for key in LOGGED}}
        for stage in run.stages()
        for record in stage.read_log()
        if any(key in record for key in LOGGED)
    ]
    table = pd.DataFrame(rows, columns=NO_LOG.columns).astype(dict.fromkeys(LOGGED, float))
    return table.drop_duplicates(["stage", "step"], keep="last").sort_values(["stage", "step"], ignore_index=True)
