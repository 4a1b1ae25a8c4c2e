"""Do the intervals hold the truth? A simulation with known truth: many worlds, and how often 95 % intervals hold it.

python studies/coverage.py [--worlds 500] [--output docs/results/coverage.json]

A world has groups with a position each and people scattered around it (tests/helpers/worlds.py); the model's groups
differ by 0.7 of what people's do, with errors. The truth of a metric is its expectation at these sizes, the mean of the
estimates over all worlds; of the spread, which removes the noise of small samples, its value for very many people.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cuma.metrics import METRICS, score_many
from cuma.runs.machine import hardware
from helpers.worlds import World, draw_world, items, predictions, true_spread

SIZES = {
    "few groups, 2 questions": (15, 80, 2, 2),
    "many groups, 2 questions": (40, 60, 2, 2),
    "few groups, 6 questions": (15, 80, 6, 4),
    "many groups, 6 questions": (40, 60, 6, 4),
}
"""Name → groups, people in each on average, questions, options of each."""

NOT_SHOWN = ("noise_floor", "sampler_floor", "entropy_normalised", "option_mass", "wvb_auc")
"""Not in the table: the same for every model, or said by the row of another metric."""


def measure(groups: int, people: int, asked: int, options: int, worlds: int, draws: int) -> dict[str, Any]:
    """Coverage of every metric's interval, and of a paired difference's."""
    questions = items(asked, options)
    found: dict[str, list[tuple[float, float, float]]] = {}
    moving = []
    for seed in range(worlds):
        world = draw_world(seed, questions, groups, people)
        other = rival_model(world, seed)
        moving.append(can_move(world.model))
        tables = {"model": predictions(world, world.model), "rival": predictions(world, other)}
        both = score_many(tables, questions, reference="rival", draws=draws, seed=seed)
        scores, paired = both["scores"]["model"]["seen"], both["differences"]["model"]["seen"]
        for metric in METRICS:
            for name, entry in ((metric, scores[metric]), (f"{metric}, paired", paired[metric])):
                row = (np.nan if entry[end] is None else entry[end] for end in ("value", "low", "high"))
                found.setdefault(name, []).append(tuple(row))
    truths = {"spread": true_spread(options=options)}
    rows = {name: np.array(each) for name, each in found.items() if np.isfinite(each).all(axis=1).any()}
    return {name: _covered(each, truths.get(name)) for name, each in rows.items()} | by_reason(rows, np.array(moving))


def can_move(model: dict[str, np.ndarray]) -> bool:
    """Whether every question has several likeliest answers among the groups."""
    return bool(np.ptp(np.stack([said.argmax(axis=1) for said in model.values()]), axis=1).all())


def by_reason(rows: dict[str, np.ndarray], moving: np.ndarray) -> dict[str, Any]:
    """Coverage of macro-F1 where the likeliest answers that it hangs on can move (`can_move`), and in the other
    worlds."""
    truth = float(rows["macro_f1"][:, 0].mean())
    return {
        f"macro_f1, {where}": _covered(rows["macro_f1"][kept], truth)
        for where, kept in (("where it can move", moving), ("where it cannot", ~moving))
        if kept.any()
    }


def rival_model(world: World, seed: int) -> dict[str, np.ndarray]:
    """Another model of the same world, which mixes the first one's answers with errors of its own."""
    rng = np.random.default_rng([seed, 7])
    return {
        name: 0.5 * said + 0.5 * rng.dirichlet(np.full(said.shape[1], 2.0), size=len(said))
        for name, said in world.model.items()
    }


def _covered(rows: np.ndarray, truth: float | None) -> dict[str, float]:
    """rows [worlds, 3]: value, low, high; NaN ends where there is no interval, which count for the truth only."""
    value = float(rows[:, 0].mean()) if truth is None else truth
    known = rows[np.isfinite(rows[:, 1])]
    held = (known[:, 1] <= value + 1e-12) & (known[:, 2] >= value - 1e-12)
    return {"covered": float(held.mean()), "truth": value, "n": len(known)}


def table(result: dict[str, Any]) -> str:
    """The table of docs/metrics.md: coverage by metric and size, of intervals and of paired differences."""
    sizes = [result[name] for name in SIZES]
    heads = [f"{size['groups']} × {size['people']}, {size['questions']} q." for size in sizes]
    lines = ["| metric | " + " | ".join(f"{head} | paired" for head in heads) + " |", "| --- |" + " ---: |" * 8]
    for metric in sizes[0]:
        if f"{metric}, paired" in sizes[0] and metric not in NOT_SHOWN:
            cells = [size.get(name) for size in sizes for name in (metric, f"{metric}, paired")]
            shown = ["–" if cell is None else f"{100 * cell['covered']:.1f}" for cell in cells]
            lines.append(f"| {metric} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def within_aim(result: dict[str, Any], low: float = 0.93, high: float = 0.97) -> str:
    """How many figures of the table lie in the aim, and how many may: their Wilson interval reaches into it."""
    found = [
        size[name]
        for size in (result[name] for name in SIZES)
        for metric in METRICS
        for name in (metric, f"{metric}, paired")
        if metric not in NOT_SHOWN and name in size
    ]
    inside = sum(low - 1e-9 <= cell["covered"] <= high + 1e-9 for cell in found)
    ends = [binomtest(round(cell["covered"] * cell["n"]), cell["n"]).proportion_ci(method="wilson") for cell in found]
    may = sum(each.low <= high and each.high >= low for each in ends)
    return f"{inside} of {len(found)} figures lie in {100 * low:.0f} to {100 * high:.0f} %, and {may} may."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=500)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("docs/results/coverage.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"worlds": options.worlds, "draws": options.draws, "hardware": hardware()["cpu"]}
    for name, (groups, people, asked, each) in SIZES.items():
        size = {"groups": groups, "people": people, "questions": asked, "options": each}
        result[name] = size | measure(groups, people, asked, each, options.worlds, options.draws)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(within_aim(result))


if __name__ == "__main__":
    main()
