"""The map of the routing, and what is said about it."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cuma.evaluation.routing_spaces import describe
from cuma.metrics.distance_tables import Mantel
from cuma.reports.expert_map import (
    agreement,
    agreement_sentence,
    layer_labels,
    learned_payload,
    mantel_of,
    topology_payload,
    topology_sentences,
)
from cuma.runs.evidence import Evidence, read_evidence
from cuma.runs.gate_space import GateSpace, answer_distances, gate_space
from cuma.runs.group_answers import true_answers


@pytest.fixture(scope="module")
def evidence(runs: list[Path]) -> Evidence:
    return read_evidence(runs)


@pytest.fixture(scope="module")
def space(evidence: Evidence) -> GateSpace:
    found = gate_space(evidence.methods[0], set(true_answers(evidence)["group"]))
    assert found is not None
    return found


def test_gates_are_those_of_the_file(evidence: Evidence, space: GateSpace) -> None:
    routing = evidence.methods[0].routing
    assert routing is not None
    table = routing.set_index(["group", "layer", "expert"])["gate"]
    for g in (0, 20, 64):
        for i, layer in enumerate(space.layers):
            for expert in range(8):
                assert space.gates[g, i, expert] == pytest.approx(table[space.groups[g], layer, expert])
    assert np.allclose(space.gates.sum(axis=-1), 1)


def test_positions_keep_what_two_axes_can_keep(space: GateSpace) -> None:
    flat = space.gates.reshape(len(space.gates), -1)
    total = ((flat - flat.mean(axis=0)) ** 2).sum()
    assert (space.positions**2).sum() / total == pytest.approx(sum(space.explained))
    assert 0 < sum(space.explained) <= 1


def test_gates_that_are_the_answers_agree_and_random_ones_do_not(evidence: Evidence, space: GateSpace) -> None:
    answers = true_answers(evidence)
    shares = answers.assign(yes=[row.shares[0] for row in answers.itertuples()])
    yes = shares.pivot(index="group", columns="question_id", values="yes").loc[list(space.groups)].to_numpy()
    same = agreement(replace(space, gates=yes[:, None, :]), evidence)
    random = agreement(replace(space, gates=np.random.default_rng(1).random((65, 2, 8))), evidence)
    assert same is not None
    assert random is not None
    assert same.correlation > 0.9 > same.high
    assert abs(random.correlation) < 0.2


@pytest.mark.parametrize(
    ("correlation", "words"), [(0.5, "more than chance"), (0.0, "what chance alone"), (-0.5, "less than chance")]
)
def test_the_sentence_follows_the_correlation(correlation: float, words: str) -> None:
    text = agreement_sentence("CuMA", Mantel(correlation, -0.1, 0.1, 0.5, 65))
    assert words in text
    assert "because" not in text
    assert "too few groups" in agreement_sentence("CuMA", None)


def test_every_mixture_is_there_and_nothing_else(evidence: Evidence) -> None:
    entries = topology_payload(evidence)
    assert [evidence.methods[entry["method"]].name for entry in entries] == ["cuma", "semantic", "shuffled"]
    assert all(len(entry["layers"]) == len(entry["gates"]) == 9 for entry in entries)


def test_few_groups_or_no_routing_have_no_map(evidence: Evidence) -> None:
    cuma = evidence.methods[0]
    assert gate_space(replace(cuma, routing=None), {"a"}) is None
    assert gate_space(cuma, set(list(true_answers(evidence)["group"])[:2])) is None


def test_groups_that_all_get_the_same_experts_still_have_a_place(evidence: Evidence) -> None:
    cuma = evidence.methods[0]
    assert cuma.routing is not None
    constant = pd.DataFrame(cuma.routing).assign(gate=0.125)
    space = gate_space(replace(cuma, routing=constant), set(true_answers(evidence)["group"]))
    assert space is not None
    assert np.allclose(space.positions, 0)
    assert agreement(space, evidence) is None


def test_layers_are_named_for_readers() -> None:
    assert layer_labels(("base_model.model.model.layers.22.self_attn", "layers.3", "other")) == [
        "layer 22, self_attn",
        "layer 3",
        "other",
    ]


def test_embeddings_that_are_the_gates_agree_in_every_way(evidence: Evidence, space: GateSpace) -> None:
    found = describe(space, evidence, space.gates.reshape(len(space.groups), -1))
    tests = {(test["of"], test["with"], test["given"]): test["found"] for test in found["mantel"]}
    assert tests["gates", "embeddings", None]["correlation"] > 0.9
    assert tests["gates", "answers", None]["correlation"] == pytest.approx(agreement(space, evidence).correlation)  # type: ignore[union-attr]
    assert abs(tests["gates", "answers", "embeddings"]["correlation"]) < tests["gates", "answers", None]["correlation"]
    assert found["groups"] == list(space.groups)
    assert [row["layer"] for row in found["layers"]] == list(space.layers)
    assert found["neighbours"]["shared"]["embeddings"] > 0.6 > found["neighbours"]["shared"]["chance"]
    maps = found["maps"]
    assert np.allclose(maps["gates"]["positions"], maps["embeddings"]["positions"], atol=1e-4)


def test_distances_between_answers_are_mean_emds_of_what_both_answered(evidence: Evidence) -> None:
    answers = true_answers(evidence)
    groups = list(dict.fromkeys(answers["group"]))[:5]
    table = answer_distances(groups, evidence)
    shares = {(row.group, row.question_id): row.shares for row in answers.itertuples()}
    for i, one in enumerate(groups):
        for j, other in enumerate(groups):
            both = [q["id"] for q in evidence.questions if (one, q["id"]) in shares and (other, q["id"]) in shares]
            expected = np.mean([abs(shares[one, q][0] - shares[other, q][0]) for q in both])
            assert table[i, j] == pytest.approx(expected)
    assert np.isnan(answer_distances([*groups, "nobody"], evidence)[-1, 0])


@pytest.fixture(scope="module")
def topology(four_runs: list[Path]) -> dict[str, Any]:
    run = next(run for run in four_runs if run.name == "cuma")
    return dict(json.loads(next(run.glob("evaluations/*/topology.json")).read_text()))


def layers(topology: dict[str, Any]) -> list[str]:
    return [row["layer"] for row in topology["layers"]]


def test_a_group_that_may_not_be_shown_is_nowhere(topology: dict[str, Any]) -> None:
    hidden = topology["groups"][0]
    shown = topology["groups"][:0:-1]  # another order, without the first
    payload = learned_payload(topology, shown, layers(topology))
    assert hidden not in json.dumps(payload)
    size = len(shown)
    for space in ("gates", "answers", "embeddings"):
        near = payload["neighbours"][space]
        assert sorted(near) == list(range(size))
        for new, others in near.items():
            old = topology["groups"].index(shown[new])
            named = [
                topology["groups"][i] for i in topology["neighbours"][space][old] if topology["groups"][i] != hidden
            ]
            assert [shown[i] for i in others] == named
    assert all(0 <= change["group"] < size for change in payload["changes"])
    made = {shown[change["group"]] for change in payload["changes"]}
    assert made == {topology["groups"][c["group"]] for c in topology["counterfactuals"]} - {hidden}
    assert {shown[i] for i in payload["unchanged"]} == made


def test_a_group_that_was_not_measured_has_no_place(topology: dict[str, Any]) -> None:
    payload = learned_payload(topology, [*topology["groups"], "Atlantis"], layers(topology))
    assert payload["maps"]["answers"]["positions"][-1] is None
    assert payload["maps"]["answers"]["positions"][0] == topology["maps"]["answers"]["positions"][0]


def test_sentences_follow_the_numbers(topology: dict[str, Any]) -> None:
    changed = deepcopy(topology)
    test = next(t for t in changed["mantel"] if (t["of"], t["with"]) == ("gates", "embeddings"))
    for correlation, words in ((0.9, "more than chance"), (0.0, "what chance alone"), (-0.9, "less than chance")):
        test["found"] |= {"correlation": correlation, "low": -0.2, "high": 0.2}
        assert words in topology_sentences(changed)[0]
    test["found"] = None
    changed["twins"] = {"n": 0, "correlation": None}
    assert len(topology_sentences(changed)) == len(topology_sentences(topology)) - 2
    assert mantel_of(changed, "gates", "embeddings") is None


def test_no_sentence_claims_a_cause(topology: dict[str, Any]) -> None:
    assert not any(
        word in " ".join(topology_sentences(topology)) for word in ("because", "cause", "therefore", "leads to")
    )
