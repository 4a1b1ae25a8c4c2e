"""Which experts serve whom: gate vectors of groups as a map and a heat map, and how both relate to people's answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from cuma.reports.plots import true_answers
from cuma.reports.reading import Evidence, Method

MIN_GROUPS = 4
"""Below this many groups a map has nothing to show."""


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


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of distances between groups in gate space with distances between their answers."""

    correlation: float
    low: float
    high: float
    """95 % of the correlations under permuted group labels lie between low and high."""
    groups: int


def gate_space(method: Method, shown: set[str]) -> GateSpace | None:
    """The gates of the groups that may be shown; None without routing or with too few groups."""
    if method.routing is None:
        return None
    routing = method.routing[method.routing["group"].isin(shown)]
    if routing["group"].nunique() < MIN_GROUPS:
        return None
    table = routing.pivot_table(index="group", columns=["layer", "expert"], values="gate", fill_value=0.0)
    layers = sorted(table.columns.levels[0], key=_natural)
    gates = np.stack([table[layer].reindex(columns=range(_experts(routing)), fill_value=0.0) for layer in layers], 1)
    flat = gates.reshape(len(gates), -1)
    order = leaves_list(linkage(flat, method="average", optimal_ordering=True))
    positions, explained = principal_axes(flat[order])
    groups = tuple(table.index[i] for i in order)
    return GateSpace(groups, tuple(layers), gates[order], positions, explained)


def principal_axes(vectors: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Project [groups, features] on its first two principal axes; signs are fixed, so one input gives one map."""
    centred = vectors - vectors.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(left.shape[1])])
    variance = singular**2
    shares = variance / variance.sum() if variance.sum() > 0 else np.zeros_like(variance)
    return (left * signs * singular)[:, :2], (float(shares[0]), float(shares[1]))


def agreement(space: GateSpace, evidence: Evidence, permutations: int = 999) -> Agreement | None:
    """Mantel's comparison of the two distance tables; None when too few groups answered every question.

    Pairs of groups are not independent, so the yardstick is the same correlation under permuted group labels.
    """
    answers = true_answers(evidence)
    shares = {(row.group, row.question_id): row.counts / row.n for row in answers.itertuples()}
    ids = [question["id"] for question in evidence.questions]
    kept = [i for i, group in enumerate(space.groups) if all((group, question) in shares for question in ids)]
    if len(kept) < MIN_GROUPS:
        return None
    vectors = np.array([np.concatenate([shares[space.groups[i], question] for question in ids]) for i in kept])
    gates = _rank_matrix(pdist(space.gates[kept].reshape(len(kept), -1)))
    people = _rank_matrix(pdist(vectors, metric="cityblock"))
    upper = np.triu_indices(len(kept), 1)
    spread = gates[upper].std() * people[upper].std()
    if spread == 0:
        return None
    rng = np.random.default_rng(0)
    orders = [np.arange(len(kept)), *(rng.permutation(len(kept)) for _ in range(permutations))]
    values = [float((gates[np.ix_(order, order)][upper] * people[upper]).mean() / spread) for order in orders]
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Agreement(values[0], float(low), float(high), len(kept))


def agreement_sentence(label: str, found: Agreement | None) -> str:
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
    """One entry per mixture: groups, positions, gates per layer, explained variance, the sentence."""
    shown = set(true_answers(evidence)["group"])
    entries = []
    for number, method in enumerate(evidence.methods):
        space = gate_space(method, shown)
        if space is not None:
            entries.append(_entry(number, method.label, space, agreement(space, evidence)))
    return entries


def _entry(number: int, label: str, space: GateSpace, found: Agreement | None) -> dict[str, Any]:
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


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key that puts layer 9 before layer 10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _rank_matrix(distances: np.ndarray) -> np.ndarray:
    """Centred ranks of a condensed distance vector as a square table [groups, groups]."""
    ranks = rankdata(distances)
    return squareform(ranks - ranks.mean(), checks=False)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
