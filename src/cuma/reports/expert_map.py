"""Which experts serve whom: gate vectors of groups as a map and a heat map, and how both relate to people's answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage

from cuma.metrics import emd
from cuma.metrics.distance_tables import MIN_GROUPS, Mantel, gate_distances, mantel, principal_axes
from cuma.reports.learned import learned_payload
from cuma.reports.plots import true_answers
from cuma.runs.evidence import Evidence, Method


@dataclass(frozen=True, eq=False)
class GateSpace:
    """The groups' gates, groups in the order of the heat map."""

    groups: tuple[str, ...]
    layers: tuple[str, ...]
    gates: np.ndarray
    """[groups, layers, experts]: mean gate over tokens and prompts."""
    positions: np.ndarray
    """[groups, 2]: principal components of the flattened gate vectors (the same picture as classical MDS)."""
    explained: tuple[float, float]
    """Share of the variance between groups on each of the two axes."""


def gate_space(method: Method, shown: set[str]) -> GateSpace | None:
    """The gates of the groups that may be shown; None without routing or with too few groups."""
    if method.routing is None:
        return None
    routing = method.routing[method.routing["group"].isin(shown)]
    if routing["group"].nunique() < MIN_GROUPS:
        return None
    table = routing.pivot_table(index="group", columns=["layer", "expert"], values="gate", fill_value=0.0)
    layers = sorted(table.columns.levels[0], key=natural)
    gates = np.stack([table[layer].reindex(columns=range(_experts(routing)), fill_value=0.0) for layer in layers], 1)
    flat = gates.reshape(len(gates), -1)
    order = leaves_list(linkage(flat, method="average", optimal_ordering=True))
    positions, explained = principal_axes(flat[order])
    groups = tuple(table.index[i] for i in order)
    return GateSpace(groups, tuple(layers), gates[order], positions, explained)


def answer_distances(groups: Sequence[str], evidence: Evidence) -> np.ndarray:
    """[G, G]: mean soft EMD between what the people of two groups answered; NaN where no question can be compared.

    Over the questions that may be shown of both groups.
    """
    shares = {(row.group, row.question_id): row.shares for row in true_answers(evidence).itertuples()}
    total, asked = np.zeros((len(groups), len(groups))), np.zeros((len(groups), len(groups)))
    for question in evidence.questions:
        known = [i for i, group in enumerate(groups) if (group, question["id"]) in shares]
        if known:
            there = np.ix_(known, known)
            table = np.stack([shares[groups[i], question["id"]] for i in known])
            total[there] += emd(table[:, None], table[None], question["ordinal"])
            asked[there] += 1
    return np.where(asked > 0, total / np.maximum(asked, 1), np.nan)


def agreement(space: GateSpace, evidence: Evidence) -> Mantel | None:
    """Do groups that answer alike get the same experts? Mantel's test of gate distances against answer distances."""
    return mantel(gate_distances(space.gates), answer_distances(space.groups, evidence))


def agreement_sentence(label: str, found: Mantel | None) -> str:
    """One sentence, without any claim of cause."""
    if found is None:
        return (
            f"For {label}, there are too few groups to compare distances in gate space with distances between answers."
        )
    inside = found.low <= found.correlation <= found.high
    verdict = "which is what chance alone gives" if inside else "more than chance alone gives"
    if not inside and found.correlation < found.low:
        verdict = "less than chance alone gives"
    return (
        f"For {label}, distances between {found.groups} groups in gate space and distances between their answers have "
        f"a rank correlation of {_signed(found.correlation)}, {verdict} (with group labels permuted, 95 % lie between "
        f"{_signed(found.low)} and {_signed(found.high)})."
    )


def topology_payload(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per mixture: groups, positions, gates per layer, variance, the sentence; `learned`: topology.json."""
    shown = set(true_answers(evidence)["group"])
    entries = []
    for number, method in enumerate(evidence.methods):
        space = gate_space(method, shown)
        if space is not None:
            found = method.measured.get("topology")
            learned = None if found is None else learned_payload(found, space.groups, layer_labels(space.layers))
            entries.append(_entry(number, method.label, space, agreement(space, evidence)) | {"learned": learned})
    return entries


def _entry(number: int, label: str, space: GateSpace, found: Mantel | None) -> dict[str, Any]:
    """Gates as whole thousandths: they are most of the page's own data."""
    levels = [space.gates.mean(axis=1), *(space.gates[:, i] for i in range(len(space.layers)))]
    return {
        "method": number,
        "groups": list(space.groups),
        "layers": ["average of all layers", *layer_labels(space.layers)],
        "gates": [np.rint(level * 1000).astype(int).tolist() for level in levels],
        "positions": np.round(space.positions, 4).tolist(),
        "explained": [round(share, 4) for share in space.explained],
        "sentence": agreement_sentence(label, found),
    }


def layer_labels(layers: tuple[str, ...]) -> list[str]:
    """Module paths as a reader would say them: "layer 22, self_attn". Other names stay as they are."""
    return [re.sub(r"^.*?layers\.(\d+)\.?(.*)$", lambda m: f"layer {m[1]}" + (f", {m[2]}" if m[2] else ""), layer)
            for layer in layers]  # fmt: skip


def _experts(routing: pd.DataFrame) -> int:
    return int(routing["expert"].max()) + 1


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts layer 9 before layer 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
