"""What topology.json says of a router, for the page: only groups that may be shown, in the order of the heat map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cuma.metrics.distance_tables import Mantel
from cuma.reports.tables import number

SPACES = ("gates", "answers", "embeddings")
WORDS = {"gates": "gate space", "answers": "people’s answers", "embeddings": "the profiles’ embeddings"}


def learned_payload(found: Mapping[str, Any], groups: Sequence[str], layers: Sequence[str]) -> dict[str, Any]:
    """The page's part of topology.json.

    Args:
        found: the file.
        groups: labels that may be shown, in the page's order; the payload numbers them so.
        layers: readable names of the layers, in order.
    """
    place = {label: i for i, label in enumerate(groups)}
    to_page = {old: place[label] for old, label in enumerate(found["groups"]) if label in place}
    return {
        "sentences": sentences(found),
        "tests": [_test_row(test) for test in found["mantel"]],
        "layers": [{**row, "layer": name} for row, name in zip(found["layers"], layers, strict=True)],
        "maps": {name: _map(found["maps"][name], to_page, len(groups)) for name in ("answers", "embeddings")},
        "neighbours": {space: _neighbours(found["neighbours"][space], to_page) for space in SPACES},
        "fields": field_rows(found["fields"]),
        "changes": [
            {**change, "group": to_page[change["group"]]}
            for change in found["counterfactuals"]
            if change["group"] in to_page
        ],
        "unchanged": {to_page[int(old)]: said for old, said in found["unchanged"].items() if int(old) in to_page},
    }


def _map(found: Mapping[str, Any], to_page: Mapping[int, int], size: int) -> dict[str, Any]:
    positions: list[list[float] | None] = [None] * size
    for old, new in to_page.items():
        positions[new] = found["positions"][old]
    return {"positions": positions, "explained": found["explained"]}


def _neighbours(found: Sequence[Sequence[int]], to_page: Mapping[int, int]) -> dict[int, list[int]]:
    return {new: [to_page[other] for other in found[old] if other in to_page] for old, new in to_page.items()}


def mantel_of(found: Mapping[str, Any], of: str, with_: str, given: str | None = None) -> Mantel | None:
    """One of the file's Mantel tests."""
    wanted = (of, with_, given)
    test = next(test for test in found["mantel"] if (test["of"], test["with"], test["given"]) == wanted)
    return None if test["found"] is None else Mantel(**test["found"])


def _test_row(test: Mapping[str, Any]) -> list[str]:
    name = f"{WORDS[test['of']]} × {WORDS[test['with']]}"
    name += f", {WORDS[test['given']]} held fixed" if test["given"] else ""
    if test["found"] is None:
        return [name[0].upper() + name[1:], "–", "–", "–", "–"]
    found = Mantel(**test["found"])
    chance = f"{number(found.low, 2)} to {number(found.high, 2)}"
    return [name[0].upper() + name[1:], number(found.correlation, 2), chance, number(found.p), str(found.groups)]


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What the figures say in plain words, without any claim of cause."""
    said = [_embedding_sentence(found), _partial_sentence(found), _neighbour_sentence(found), _twin_sentence(found)]
    return [text for text in said if text]


def _embedding_sentence(found: Mapping[str, Any]) -> str:
    test = mantel_of(found, "gates", "embeddings")
    if test is None:
        return ""
    return (
        "Gate distances go with distances between the profiles’ embeddings at "
        f"{number(test.correlation, 2)}, {_against_chance(test)}."
    )


def _partial_sentence(found: Mapping[str, Any]) -> str:
    test = mantel_of(found, "gates", "answers", "embeddings")
    if test is None:
        return ""
    return (
        "With the embeddings held fixed, gate distances go with distances between people’s answers at "
        f"{number(test.correlation, 2)}, {_against_chance(test)}."
    )


def _against_chance(test: Mantel) -> str:
    if test.low <= test.correlation <= test.high:
        return "which is what chance alone gives"
    return f"{'more' if test.correlation > test.high else 'less'} than chance alone gives (p {number(test.p)})"


def _neighbour_sentence(found: Mapping[str, Any]) -> str:
    shared, k = found["neighbours"]["shared"], found["neighbours"]["k"]
    return (
        f"Of the {k} groups nearest to a group in gate space, {_percent(shared['answers'])} are among the {k} nearest "
        f"by people’s answers and {_percent(shared['embeddings'])} among the {k} nearest by embedding; chance alone "
        f"gives {_percent(shared['chance'])}."
    )


def _twin_sentence(found: Mapping[str, Any]) -> str:
    twins = found["twins"]
    if twins["correlation"] is None:
        return ""
    return (
        f"{twins['n']} of the changed profiles are those of another group: there the model’s answers move as the two "
        f"groups’ people differ with a correlation of {number(twins['correlation'], 2)}."
    )


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


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
