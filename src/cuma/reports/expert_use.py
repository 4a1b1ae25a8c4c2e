"""Are the experts in use? From the gates of the evaluation, and from what the trainer logged on the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.figures import number
from cuma.reports.expert_map import layer_labels
from cuma.reports.plots import series
from cuma.runs.evidence import Evidence
from cuma.runs.gate_space import natural
from cuma.runs.method import Method

DEAD = 0.001
"""An expert is called unused when its mean share of the mixture stays below this in a layer."""
FIGURES = (
    ("loss", "Training loss", "curves"),
    ("effective_experts", "Effective experts", "health-curves"),
    ("dead_experts", "Experts that no token chose", "health-curves"),
    ("expert_group_mi", "Information between expert and person, nats", "health-curves"),
)
"""Logged figures that are drawn over the steps, and where on the page."""


def usage(routing: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Layers in order, and each expert's mean gate over groups [layers, experts]; a mean over all, not of any one."""
    means = routing.groupby(["layer", "expert"])["gate"].sum().unstack(fill_value=0.0)
    means = means.div(means.sum(axis=1), axis=0)
    layers = sorted(means.index, key=natural)
    return layers, means.loc[layers].to_numpy()


def effective(shares: np.ndarray) -> np.ndarray:
    """exp of the entropy of each layer's usage [layers, experts]: E when all are used alike, 1 when one does all."""
    safe = np.where(shares > 0, shares, 1.0)
    return np.asarray(np.exp(-(shares * np.log(safe)).sum(axis=1)))


def health_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """For every mixture: usage by layer, the figures of it, and a sentence."""
    rows = []
    for i, method in enumerate(evidence.methods):
        if method.routing is not None and len(method.routing):
            layers, shares = usage(method.routing)
            unused = int((shares < DEAD).sum())
            rows.append(
                {
                    "method": i,
                    "label": method.label,
                    "layers": layer_labels(tuple(layers)),
                    "shares": np.rint(100 * shares).astype(int).tolist(),
                    "effective": [number(value, 1) for value in effective(shares)],
                    "sentence": _sentence(method, shares, unused),
                }
            )
    return rows


def _sentence(method: Method, shares: np.ndarray, unused: int) -> str:
    experts, layers = shares.shape[1], shares.shape[0]
    spread = effective(shares)
    text = (
        f"{method.label} uses {number(float(spread.mean()), 1)} of {experts} experts effectively, averaged over "
        f"{layers} routed layer{'' if layers == 1 else 's'} (the least in one: {number(float(spread.min()), 1)})"
    )
    text += f"; {unused} of {shares.size} experts are unused." if unused else "; none is unused."
    information = method.log["expert_group_mi"].dropna()
    if len(information):
        text += (
            f" At the end of training the expert of a token said {number(float(information.iloc[-1]), 2)} nats about "
            "who asks, beyond chance."
        )
    return text


def training_panels(evidence: Evidence) -> list[dict[str, Any]]:
    """Panels of the trainers' own log: loss and the gates' figures over steps, each stage after the one before."""
    panels = []
    for key, title, box in FIGURES:
        lines = [
            series(place, frame["at"], frame[key])
            for place, method in enumerate(evidence.methods)
            if len(frame := _steps(method.log).dropna(subset=[key]))
        ]
        if lines:
            panels.append({"box": box, "title": title, "series": lines, "lines": []})
    return panels


def _steps(log: pd.DataFrame) -> pd.DataFrame:
    """The log with `at`: the step counted through all stages."""
    before, parts = 0, []
    for _, rows in log.groupby("stage", sort=True):
        parts.append(rows.assign(at=rows["step"] + before))
        before += int(rows["step"].max())
    return pd.concat(parts) if parts else log.assign(at=log["step"])
