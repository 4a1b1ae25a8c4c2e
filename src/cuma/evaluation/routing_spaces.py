"""Groups in three spaces: by the gates that serve them, by people's answers, by the embeddings of their profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.spatial.distance import pdist, squareform

from cuma.metrics.distance_tables import gate_distances, mantel, nearest, principal_axes, shared_neighbours, turned_to
from cuma.metrics.pointwise import Floats
from cuma.runs.evidence import Evidence
from cuma.runs.gate_space import GateSpace, answer_distances
from cuma.runs.group_answers import true_answers

NEIGHBOURS = 5
PERMUTATIONS = 999
TABLES: tuple[tuple[str, str, str | None], ...] = (
    ("gates", "answers", None),
    ("gates", "embeddings", None),
    ("answers", "embeddings", None),
    ("gates", "answers", "embeddings"),
)
"""Which tables of distances are compared; the last one: beyond what the embeddings explain."""


@dataclass(frozen=True, eq=False)
class Spaces:
    """The groups in every space: vectors for the maps, distances [G, G] for all else."""

    vectors: dict[str, Floats]
    distances: dict[str, Floats]


def describe(space: GateSpace, evidence: Evidence, embeds: Floats, seed: int = 0) -> dict[str, Any]:
    """All that needs no model: Mantel tests (over all layers, and by layer), maps, neighbours.

    Args:
        space: the groups' gates.
        evidence: of the one run.
        embeds: [G, D] in the order of the space's groups.
        seed: of the permutations.
    """
    spaces = _spaces(space, evidence, embeds)
    sides = dict(zip(evidence.people["group"], evidence.people["seen"], strict=True))
    k = min(NEIGHBOURS, len(space.groups) - 1)
    gates = spaces.distances["gates"]
    return {
        "seed": seed,
        "permutations": PERMUTATIONS,
        "groups": list(space.groups),
        "seen": [bool(sides[group]) for group in space.groups],
        "mantel": [_mantel(spaces.distances, names, seed) for names in TABLES],
        "layers": [_layer(number, space, spaces, seed) for number in range(len(space.layers))],
        "maps": _maps(spaces),
        "neighbours": {
            "k": k,
            **{name: nearest(table, k).tolist() for name, table in spaces.distances.items()},
            "shared": {
                **{other: shared_neighbours(gates, spaces.distances[other], k) for other in ("answers", "embeddings")},
                "chance": k / (len(space.groups) - 1),
            },
        },
    }


def _spaces(space: GateSpace, evidence: Evidence, embeds: Floats) -> Spaces:
    answers = true_answers(evidence)
    shares = {(row.group, row.question_id): row.shares for row in answers.itertuples()}
    ids = [question["id"] for question in evidence.questions]
    size = len(space.groups)
    return Spaces(
        {"gates": space.gates.reshape(size, -1), "answers": _filled(space.groups, ids, shares), "embeddings": embeds},
        {
            "gates": gate_distances(space.gates),
            "answers": answer_distances(space.groups, evidence),
            "embeddings": squareform(pdist(embeds)),
        },
    )


def _filled(groups: Sequence[str], ids: Sequence[str], shares: dict[tuple[str, str], Floats]) -> Floats:
    """[G, options of all questions]; what may not be shown of a group stands at the mean of the others."""
    blocks = []
    for question in ids:
        known = {group: shares[group, question] for group in groups if (group, question) in shares}
        if known:
            mean = np.mean(list(known.values()), axis=0)
            blocks.append(np.array([known.get(group, mean) for group in groups]))
    return np.concatenate(blocks, axis=1)


def _mantel(tables: dict[str, Floats], names: tuple[str, str, str | None], seed: int) -> dict[str, Any]:
    first, second, given = names
    test = mantel(tables[first], tables[second], None if given is None else tables[given], PERMUTATIONS, seed)
    return {"of": first, "with": second, "given": given, "found": None if test is None else asdict(test)}


def _layer(number: int, space: GateSpace, spaces: Spaces, seed: int) -> dict[str, Any]:
    gates = gate_distances(space.gates[:, number : number + 1])
    others = {name: spaces.distances[name] for name in ("answers", "embeddings")}
    tests = {name: mantel(gates, other, None, PERMUTATIONS, seed) for name, other in others.items()}
    return {"layer": space.layers[number], **{name: f and asdict(f) for name, f in tests.items()}}


def _maps(spaces: Spaces) -> dict[str, Any]:
    """Two principal axes of every space; the answers' and the embeddings' maps are turned to lie like the gates'."""
    axes = {name: principal_axes(vectors) for name, vectors in spaces.vectors.items()}
    target = axes["gates"][0]
    places = {name: own[0] if name == "gates" else turned_to(own[0], target) for name, own in axes.items()}
    return {name: {"positions": np.round(places[name], 5).tolist(), "explained": list(axes[name][1])} for name in axes}
