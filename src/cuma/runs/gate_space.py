"""A mixture's gates, group by group, and how far apart the groups' people are in what they answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from cuma.metrics import emd
from cuma.metrics.distance_tables import MIN_GROUPS, principal_axes
from cuma.runs.evidence import Evidence
from cuma.runs.group_answers import true_answers
from cuma.runs.method import Method


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
    experts = range(int(routing["expert"].max()) + 1)
    gates = np.stack([table[layer].reindex(columns=experts, fill_value=0.0) for layer in layers], 1)
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
    total, compared = np.zeros((len(groups), len(groups))), np.zeros((len(groups), len(groups)))
    for question in evidence.questions:
        known = [i for i, group in enumerate(groups) if (group, question["id"]) in shares]
        if known:
            there = np.ix_(known, known)
            table = np.stack([shares[groups[i], question["id"]] for i in known])
            total[there] += emd(table[:, None], table[None], question["ordinal"])
            compared[there] += 1
    return np.where(compared > 0, total / np.maximum(compared, 1), np.nan)


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts layer 9 before layer 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]
