"""Do the intervals of a corner hold the truth where items and groups are both drawn? A simulation with known truth.

python studies/corner_coverage.py [--worlds 400] [--output docs/results/corner_coverage.json]

Every world draws new items and new groups. An item leans one way and divides the groups more or less; a cell has
something of its own. A model knows the groups well and the items less well, and so does its rival, whose errors are
partly the same. The truth of a metric is its expectation at these sizes, the mean of the estimates over all worlds.
Beside our intervals, of people: those over groups alone, which sides without held-out items have.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cuma.metrics import score_many
from cuma.metrics.corners import ITEM_SEEN
from cuma.runs.machine import hardware
from helpers.worlds import answer_shares, items

SIZES = {
    "8 items × 12 groups": (8, 12),
    "4 items × 40 groups": (4, 40),
    "10 items × 21 groups": (10, 21),
    "34 items × 44 groups": (34, 44),
}
OPTIONS, PEOPLE = 5, 40
CORNER = "unseen items · unseen groups"
SHOWN = ("soft_emd", "js_similarity", "accuracy", "spread", "alignment")
BARE = "without"
"""Intervals as sides without held-out items have them, over groups alone."""
LARGE = 1000
"""So many cells take so long that a quarter of the worlds must do; people's answers, too."""


def draw(seed: int, n_items: int, n_groups: int, people: bool) -> tuple[tuple[Any, ...], dict[str, pd.DataFrame]]:
    """A world's items, and the tables of a model and its rival: of people, or of their shares."""
    rng = np.random.default_rng([seed, n_items, n_groups])
    shape = (n_items, n_groups)
    place = 0.8 * rng.normal(size=n_groups)
    slope, lean = rng.normal(1.0, 0.6, size=n_items), 0.7 * rng.normal(size=n_items)
    truth = lean[:, None] + slope[:, None] * place + 0.3 * rng.normal(size=shape)
    shared = 0.3 * rng.normal(size=n_items)[:, None] + 0.2 * rng.normal(size=n_groups) + 0.2 * rng.normal(size=shape)
    tables, counts = {}, np.stack([_answers(rng, row) for row in truth])
    for name, known, size in (("model", 0.8, 0.2), ("rival", 0.6, 0.3)):
        own = size * (rng.normal(size=n_items)[:, None] + rng.normal(size=n_groups) + rng.normal(size=shape))
        said = lean[:, None] + known * slope[:, None] * place + shared + own
        shares = np.stack([answer_shares(row, OPTIONS) for row in said])
        tables[name] = _people(counts, shares) if people else _shares(counts, shares)
    return items(n_items, OPTIONS), tables


def _answers(rng: np.random.Generator, location: np.ndarray) -> np.ndarray:
    """[G, OPTIONS]: how many people of each group gave each answer."""
    return rng.multinomial(PEOPLE, answer_shares(location, OPTIONS))


def _shares(counts: np.ndarray, said: np.ndarray) -> pd.DataFrame:
    rows = [(f"q{q}", f"group {g:03d}", *cell) for (q, g), cell in _cells(counts / PEOPLE, said)]
    table = pd.DataFrame(rows, columns=["question_id", "group", "shares", "probabilities"])
    return table.assign(seen=False, option_mass=1.0, **{ITEM_SEEN: False})


def _people(counts: np.ndarray, said: np.ndarray) -> pd.DataFrame:
    """Answers of one item and another are dealt out to a group's people anew."""
    rng = np.random.default_rng(0)
    rows = [
        (f"q{q}", f"group {g:03d}", g * PEOPLE + person, answer, shares)
        for (q, g), (cell, shares) in _cells(counts, said)
        for person, answer in enumerate(rng.permutation(np.repeat(np.arange(OPTIONS), cell)))
    ]
    table = pd.DataFrame(rows, columns=["question_id", "group", "person", "answer", "probabilities"])
    return table.assign(seen=False, option_mass=1.0, **{ITEM_SEEN: False})


def _cells(one: np.ndarray, other: np.ndarray) -> list[Any]:
    places = np.ndindex(one.shape[:2])
    return [(at, (one[at], other[at])) for at in places]


def measure(n_items: int, n_groups: int, people: bool, worlds: int, draws: int) -> dict[str, Any]:
    """Coverage and mean width of each metric's interval and of the paired difference's, ours and `BARE`."""
    found: dict[str, list[list[float]]] = {}
    for seed in range(worlds // 4 if people or n_items * n_groups >= LARGE else worlds):
        questions, tables = draw(seed, n_items, n_groups, people)
        ours = score_many(tables, questions, reference="rival", draws=draws, seed=seed)
        ways = {"ours": [ours[part]["model"]["corners"][CORNER] for part in ("scores", "differences")]}
        if people:
            bare = {name: table.drop(columns=ITEM_SEEN) for name, table in tables.items()}
            other = score_many(bare, questions, reference="rival", draws=draws, seed=seed)
            ways[BARE] = [other[part]["model"]["unseen"] for part in ("scores", "differences")]
        for way, (scores, paired) in ways.items():
            for metric in SHOWN:
                for name, part in ((metric, scores), (f"{metric}, paired", paired)):
                    if metric in part:
                        ends = [np.nan if part[metric][end] is None else part[metric][end] for end in ENDS]
                        found.setdefault(f"{name} | {way}", []).append(ends)
    return {name: _covered(np.array(rows)) for name, rows in found.items()}


ENDS = ("value", "low", "high")


def _covered(rows: np.ndarray) -> dict[str, float]:
    """rows [worlds, 3]: value, low, high. width: the mean, over that of a normal interval of the true scatter."""
    truth, known = rows[:, 0].mean(), rows[np.isfinite(rows[:, 1])]
    held = (known[:, 1] <= truth) & (known[:, 2] >= truth)
    width = (known[:, 2] - known[:, 1]).mean() / (2 * 1.96 * rows[:, 0].std(ddof=1))
    return {"covered": float(held.mean()), "width": float(width), "n": len(known)}


def table(result: dict[str, Any]) -> str:
    """The table of docs/metrics.md: coverage in percent and relative width; in brackets the coverage of `BARE`."""
    heads = [name for name in result if isinstance(result[name], dict)]
    lines = ["| figure | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for figure in [name for metric in SHOWN for name in (metric, f"{metric}, paired")]:
        shown = []
        for head in heads:
            ours, bare = (result[head].get(f"{figure} | {way}") for way in ("ours", BARE))
            text = "–" if ours is None else f"{100 * ours['covered']:.1f} · {ours['width']:.2f}"
            shown.append(text if bare is None else f"{text} ({100 * bare['covered']:.1f})")
        lines.append(f"| {figure} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=400)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("docs/results/corner_coverage.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"worlds": options.worlds, "draws": options.draws, "hardware": hardware()["cpu"]}
    first = next(iter(SIZES))  # of people the smallest alone: the cells are those of the shares
    for name, people in (*((name, False) for name in SIZES), (first, True)):
        head = f"{name}, {'people' if people else 'shares'}"
        result[head] = measure(*SIZES[name], people, options.worlds, options.draws)
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(head, "done", flush=True)
    print(table(result))


if __name__ == "__main__":
    main()
