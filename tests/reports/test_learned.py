"""What topology.json says on the page: sentences that follow the numbers, and only groups that may be shown."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cuma.reports.learned import learned_payload, mantel_of, sentences


@pytest.fixture(scope="module")
def found(four_runs: list[Path]) -> dict[str, Any]:
    run = next(run for run in four_runs if run.name == "cuma")
    return dict(json.loads(next(run.glob("evaluations/*/topology.json")).read_text()))


def layers(found: dict[str, Any]) -> list[str]:
    return [row["layer"] for row in found["layers"]]


def test_a_group_that_may_not_be_shown_is_nowhere(found: dict[str, Any]) -> None:
    hidden = found["groups"][0]
    shown = found["groups"][:0:-1]  # another order, without the first
    payload = learned_payload(found, shown, layers(found))
    assert hidden not in json.dumps(payload)
    size = len(shown)
    for space in ("gates", "answers", "embeddings"):
        near = payload["neighbours"][space]
        assert sorted(near) == list(range(size))
        for new, others in near.items():
            old = found["groups"].index(shown[new])
            named = [found["groups"][i] for i in found["neighbours"][space][old] if found["groups"][i] != hidden]
            assert [shown[i] for i in others] == named
    assert all(0 <= change["group"] < size for change in payload["changes"])
    made = {shown[change["group"]] for change in payload["changes"]}
    assert made == {found["groups"][c["group"]] for c in found["counterfactuals"]} - {hidden}
    assert {shown[i] for i in payload["unchanged"]} == made


def test_a_group_that_was_not_measured_has_no_place(found: dict[str, Any]) -> None:
    payload = learned_payload(found, [*found["groups"], "Atlantis"], layers(found))
    assert payload["maps"]["answers"]["positions"][-1] is None
    assert payload["maps"]["answers"]["positions"][0] == found["maps"]["answers"]["positions"][0]


def test_sentences_follow_the_numbers(found: dict[str, Any]) -> None:
    changed = deepcopy(found)
    test = next(t for t in changed["mantel"] if (t["of"], t["with"]) == ("gates", "embeddings"))
    for correlation, words in ((0.9, "more than chance"), (0.0, "what chance alone"), (-0.9, "less than chance")):
        test["found"] |= {"correlation": correlation, "low": -0.2, "high": 0.2}
        assert words in sentences(changed)[0]
    test["found"] = None
    changed["twins"] = {"n": 0, "correlation": None}
    assert len(sentences(changed)) == len(sentences(found)) - 2
    assert mantel_of(changed, "gates", "embeddings") is None


def test_no_sentence_claims_a_cause(found: dict[str, Any]) -> None:
    assert not any(word in " ".join(sentences(found)) for word in ("because", "cause", "therefore", "leads to"))
