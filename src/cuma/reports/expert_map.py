"""Which experts serve whom: gates of groups as a map and a heat map, and what topology.json says of the routing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cuma.metrics.distance_tables import Mantel, gate_distances, mantel
from cuma.metrics.figures import MISSING, number, percent
from cuma.runs.evidence import Evidence
from cuma.runs.gate_space import GateSpace, answer_distances, gate_space
from cuma.runs.group_answers import true_answers

SPACES = {"gates": "gate space", "answers": "people’s answers", "embeddings": "the profiles’ embeddings"}
"""Spaces of topology.json in which groups lie, in words."""


def agreement(space: GateSpace, evidence: Evidence) -> Mantel | None:
    """Do groups that answer alike get the same experts? Mantel's test of gate distances against answer distances."""
    return mantel(gate_distances(space.gates), answer_distances(space.groups, evidence))


def agreement_sentence(label: str, test: Mantel | None) -> str:
    """One sentence, without any claim of cause."""
    if test is None:
        return (
            f"For {label}, there are too few groups to compare distances in gate space with distances between answers."
        )
    return (
        f"For {label}, distances between {test.groups} groups in gate space and distances between their answers have "
        f"a rank correlation of {number(test.correlation, 2)}, {_against_chance(test)} (with group labels permuted, "
        f"95 % lie between {number(test.low, 2)} and {number(test.high, 2)})."
    )


def _against_chance(test: Mantel) -> str:
    if test.low <= test.correlation <= test.high:
        return "which is what chance alone gives"
    return f"{'more' if test.correlation > test.high else 'less'} than chance alone gives"


def topology_payload(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per mixture: groups, positions, gates per layer, variance, the sentence; `learned`: topology.json."""
    shown = set(true_answers(evidence)["group"])
    entries = []
    for place, method in enumerate(evidence.methods):
        space = gate_space(method, shown)
        if space is not None:
            file = method.measurements.get("topology")
            learned = None if file is None else learned_payload(file, space.groups, layer_labels(space.layers))
            entries.append(_entry(place, method.label, space, agreement(space, evidence)) | {"learned": learned})
    return entries


def _entry(place: int, label: str, space: GateSpace, test: Mantel | None) -> dict[str, Any]:
    """Gates as whole thousandths: they are most of the page's own data."""
    levels = [space.gates.mean(axis=1), *(space.gates[:, i] for i in range(len(space.layers)))]
    return {
        "method": place,
        "groups": list(space.groups),
        "layers": ["average of all layers", *layer_labels(space.layers)],
        "gates": [np.rint(level * 1000).astype(int).tolist() for level in levels],
        "positions": np.round(space.positions, 4).tolist(),
        "explained": [round(share, 4) for share in space.explained],
        "sentence": agreement_sentence(label, test),
    }


def layer_labels(layers: Sequence[str]) -> list[str]:
    """Module paths as a reader would say them: "layer 22, self_attn". Other names stay as they are."""
    return [re.sub(r"^.*?layers\.(\d+)\.?(.*)$", lambda m: f"layer {m[1]}" + (f", {m[2]}" if m[2] else ""), layer)
            for layer in layers]  # fmt: skip


# --- topology.json ---------------------------------------------------------------------------------------------------


def learned_payload(file: Mapping[str, Any], groups: Sequence[str], layers: Sequence[str]) -> dict[str, Any]:
    """The page's part of topology.json: only groups that may be shown.

    Args:
        file: its contents.
        groups: labels that may be shown, in the page's order; the payload numbers them so.
        layers: readable names of the layers, in order.
    """
    place = {label: i for i, label in enumerate(groups)}
    to_page = {old: place[label] for old, label in enumerate(file["groups"]) if label in place}
    return {
        "sentences": topology_sentences(file),
        "tests": [_test_row(test) for test in file["mantel"]],
        "layers": [{**row, "layer": name} for row, name in zip(file["layers"], layers, strict=True)],
        "maps": {name: _map(file["maps"][name], to_page, len(groups)) for name in ("answers", "embeddings")},
        "neighbours": {space: _neighbours(file["neighbours"][space], to_page) for space in SPACES},
        "fields": field_rows(file["fields"]),
        "changes": [
            {**change, "group": to_page[change["group"]]}
            for change in file["counterfactuals"]
            if change["group"] in to_page
        ],
        "unchanged": {to_page[int(old)]: facts for old, facts in file["unchanged"].items() if int(old) in to_page},
    }


def _map(axes: Mapping[str, Any], to_page: Mapping[int, int], size: int) -> dict[str, Any]:
    positions: list[list[float] | None] = [None] * size
    for old, new in to_page.items():
        positions[new] = axes["positions"][old]
    return {"positions": positions, "explained": axes["explained"]}


def _neighbours(nearest: Sequence[Sequence[int]], to_page: Mapping[int, int]) -> dict[int, list[int]]:
    return {new: [to_page[other] for other in nearest[old] if other in to_page] for old, new in to_page.items()}


def mantel_of(file: Mapping[str, Any], of: str, with_: str, given: str | None = None) -> Mantel | None:
    """One of the file's Mantel tests."""
    wanted = (of, with_, given)
    test = next(test for test in file["mantel"] if (test["of"], test["with"], test["given"]) == wanted)
    return None if test["found"] is None else Mantel(**test["found"])


def _test_row(test: Mapping[str, Any]) -> list[str]:
    name = f"{SPACES[test['of']]} × {SPACES[test['with']]}"
    name += f", {SPACES[test['given']]} held fixed" if test["given"] else ""
    name = name[0].upper() + name[1:]
    if test["found"] is None:
        return [name, *[MISSING] * 4]
    result = Mantel(**test["found"])
    chance = f"{number(result.low, 2)} to {number(result.high, 2)}"
    return [name, number(result.correlation, 2), chance, number(result.p), str(result.groups)]


def topology_sentences(file: Mapping[str, Any]) -> list[str]:
    """What the figures say in plain words, without any claim of cause."""
    tests = (
        ("Gate distances go with distances between the profiles’ embeddings", mantel_of(file, "gates", "embeddings")),
        (
            "With the embeddings held fixed, gate distances go with distances between people’s answers",
            mantel_of(file, "gates", "answers", "embeddings"),
        ),
    )
    sentences = [f"{text} at {_correlation(test)}." for text, test in tests if test is not None]
    return [*sentences, _neighbour_sentence(file), *_twin_sentences(file)]


def _correlation(test: Mantel) -> str:
    chance = test.low <= test.correlation <= test.high
    return f"{number(test.correlation, 2)}, {_against_chance(test)}" + ("" if chance else f" (p {number(test.p)})")


def _neighbour_sentence(file: Mapping[str, Any]) -> str:
    k, shared = file["neighbours"]["k"], file["neighbours"]["shared"]
    return (
        f"Of the {k} groups nearest to a group in gate space, {percent(shared['answers'])} are among the {k} nearest "
        f"by people’s answers and {percent(shared['embeddings'])} among the {k} nearest by embedding; chance alone "
        f"gives {percent(shared['chance'])}."
    )


def _twin_sentences(file: Mapping[str, Any]) -> list[str]:
    twins = file["twins"]
    if twins["correlation"] is None:
        return []
    return [
        f"{twins['n']} of the changed profiles are those of another group: there the model’s answers move as the two "
        f"groups’ people differ with a correlation of {number(twins['correlation'], 2)}."
    ]


def field_rows(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a profile field: share of the gates' variance, and how far changing it or leaving it out moves both."""
    return [
        {
            "field": name.replace("_", " "),
            "name": name,
            "share": facts["share"],
            **{
                f"{what}_{kind}": facts[kind][what] for what in ("gates", "answers") for kind in ("changed", "left_out")
            },
        }
        for name, facts in fields.items()
    ]
