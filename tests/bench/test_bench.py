"""The benchmark measures what it says: same functions before clocks, fair turns, the page that docs show."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from bench.layers import CENTRE, GPU_CENTRE, layer_runs
from bench.pairs import AGAIN, ROUTED, interleaved, order, ratio
from bench.parity import assert_same
from bench.table import page

from cuma.runs.folder import read_json
from helpers import ROOT

RESULTS = ROOT / "docs" / "results"
SMALL = {"width": 32, "tokens": 4}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("centre", [CENTRE, GPU_CENTRE], ids=["fp32", "bf16"])
def test_a_cells_rivals_are_compared_and_run(centre: object, train: bool) -> None:
    runs = layer_runs(replace(centre, **SMALL, train=train))
    assert {"base", "lora", "ours", ROUTED, AGAIN, "double loop", "double loop, with router"} <= set(runs)
    for run in runs.values():
        run()


def test_a_cell_whose_rivals_differ_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.layers.double_loop", lambda hidden, gates, *_: torch.zeros_like(hidden))
    with pytest.raises(AssertionError, match="not the same function"):
        layer_runs(replace(CENTRE, **SMALL))
    with pytest.raises(AssertionError, match="somewhere"):
        assert_same([torch.ones(3)], [torch.ones(3) * 1.01], 1e-3, "somewhere")


@pytest.mark.parametrize("count", [2, 3, 8, 9])
def test_everybody_takes_every_place_and_follows_everybody_equally_often(count: int) -> None:
    rounds = [order(count, turn) for turn in range(2 * count)]
    assert all(sorted(each) == list(range(count)) for each in rounds)
    places = Counter((place, name) for each in rounds for place, name in enumerate(each))
    assert set(places.values()) == {2}
    follows = Counter(pair for each in rounds for pair in pairwise(each))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) == 1


def test_ratios_are_paired_and_their_interval_is_around_them() -> None:
    seconds = {"ours": [1.0, 2.0, 3.0], "other": [2.0, 4.0, 6.0]}  # a machine that slows down for both alike
    assert ratio(seconds, "ours", "other") == {"ratio": 0.5, "low": 0.5, "high": 0.5, "n": 3}
    timed = interleaved({"one": lambda: None, "two": lambda: sum(range(20_000))}, 5, "cpu", limit=0)
    assert {len(each) for each in timed.values()} == {5}
    assert ratio(timed, "two", "one")["low"] > 1


@pytest.mark.parametrize("name", ["cpu", "h100"])
def test_the_page_shows_every_cell_of_a_checked_in_result(name: str) -> None:
    result = read_json(RESULTS / f"performance-{name}.json")
    shown = page(result)
    for row in result["cells"]:
        assert f"| {row['kind']}: {row['cell']} |" in shown
    assert ("## The floor" in shown) == (name == "cpu")
    assert ("NVIDIA" in shown) == (name == "h100")
