"""Do the intervals hold the truth where a survey drew units of people? A simulation with known truth.

python studies/design_coverage.py [--worlds 200] [--output docs/results/design_coverage.json]

A population of strata whose units are alike inside and have people of every group (tests/helpers/design_worlds.py).
Every world draws new units and people; "over groups" also new groups, "single groups" the same ones. Each world is
scored twice: with its design, and as if only its weights were known. The truth of a metric is its expectation, the mean
of the estimates over all worlds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cuma.metrics import score
from cuma.metrics.breakdown import people_draws
from cuma.metrics.design import weighted_means
from cuma.metrics.inference import design_deviations, interval
from cuma.metrics.sample import read_parts
from cuma.runs.machine import hardware
from helpers.design_worlds import Plan, draw_design_world
from helpers.worlds import items

PLANS = {
    "25 strata × 2 units": Plan(),
    "8 strata × 3 units, alike inside": Plan(strata=8, units=3, people=60, between=0.6),
    "25 strata × 2 units, 5 with one": Plan(lonely=5),
    "8 strata × 10 units of one group each": Plan(strata=8, units=10, people=20, between=0.4, own=True),
}
OVER = ("soft_emd", "jsd", "accuracy", "brier", "spread", "alignment")
SINGLE = ("soft_emd", "accuracy", "brier")
GROUPS, FIXED = 20, 6
QUESTIONS = items(2, options=4)
WAYS = (True, False)
"""With the design, and without."""


def measure(plan: Plan, worlds: int, draws: int) -> dict[str, Any]:
    """Coverage of each kind of figure, with the design and without."""
    found: dict[tuple[str, bool], list[Any]] = {}
    for seed in range(worlds):
        rng = np.random.default_rng([seed, 3])
        drawn = draw_design_world(seed, QUESTIONS, 0.8 * rng.normal(size=GROUPS), plan)
        fixed = draw_design_world(seed, QUESTIONS, np.linspace(-1, 1, FIXED), plan)
        for known in WAYS:
            scores = score(drawn[0], QUESTIONS, draws, seed, drawn[1] if known else None)["seen"]
            for metric in OVER:
                ends = [scores[metric][end] for end in ("value", "low", "high")]
                found.setdefault((f"over groups: {metric}", known), []).append([ends])
            people, own = read_parts(fixed[0], QUESTIONS, fixed[1] if known else None)["seen"]
            groups = people_draws(people, own, draws, seed).values()
            for metric in SINGLE:
                rows = [_ends(group, metric) for group in groups]
                found.setdefault((f"single groups: {metric}", known), []).append(rows)
        found.setdefault(("mean of everybody, linearised", True), []).append([_mean(*fixed)])
    return {
        name: {("design" if way else "weights only"): _covered(np.array(found[name, way], dtype=float))
               for way in WAYS if (name, way) in found}
        for name in dict.fromkeys(name for name, _ in found)
    }  # fmt: skip


def _ends(group: Any, metric: str) -> list[float]:
    value = group.value[metric]
    ends = interval(value, design_deviations(value, group.replicates[metric], group.units, group.design))
    return [value, *(ends or (np.nan, np.nan))]


def _mean(table: Any, design: Any) -> list[float]:
    """The first question's mean answer, with the interval of its linearised standard error."""
    from scipy.stats import t

    rows = table[table["question_id"] == QUESTIONS[0].id]
    means = weighted_means(rows[["answer"]].to_numpy(float), rows["weight"].to_numpy(), design)
    value, error = float(means.mean[0, 0]), float(np.sqrt(means.variance[0, 0]))
    return [value, *(value + sign * error * t.ppf(0.975, design.freedom) for sign in (-1, 1))]


def _covered(rows: np.ndarray) -> dict[str, float]:
    """rows [worlds, figures, 3]: value, low, high. The truth of each figure is its mean over worlds."""
    truth = rows[:, :, 0].mean(axis=0)
    known = np.isfinite(rows[:, :, 1])
    held = (rows[:, :, 1] <= truth) & (rows[:, :, 2] >= truth)
    return {"covered": float(held[known].mean()), "n": int(known.sum())}


def table(result: dict[str, Any]) -> str:
    """The table of docs/metrics.md: with the design, and in brackets with weights only."""
    lines = ["| figure | " + " | ".join(PLANS) + " |", "| --- |" + " ---: |" * len(PLANS)]
    for figure in result[next(iter(PLANS))]["coverage"]:
        cells = [result[plan]["coverage"][figure] for plan in PLANS]
        shown = [
            f"{100 * cell['design']['covered']:.1f}"
            + (f" ({100 * cell['weights only']['covered']:.1f})" if "weights only" in cell else "")
            for cell in cells
        ]
        lines.append(f"| {figure} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def within_aim(result: dict[str, Any], low: float = 0.93, high: float = 0.97) -> str:
    """How many figures with the design lie in the aim, and how many may: their Wilson interval reaches into it."""
    found = [ways["design"] for plan in PLANS for ways in result[plan]["coverage"].values()]
    inside = sum(low <= cell["covered"] <= high for cell in found)
    ends = [binomtest(round(cell["covered"] * cell["n"]), cell["n"]).proportion_ci(method="wilson") for cell in found]
    may = sum(each.low <= high and each.high >= low for each in ends)
    return (
        f"With the design {inside} of {len(found)} figures lie in {100 * low:.0f} to {100 * high:.0f} %, and {may} may."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--output", type=Path, default=Path("docs/results/design_coverage.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"worlds": options.worlds, "draws": options.draws, "hardware": hardware()["cpu"]}
    for name, plan in PLANS.items():
        result[name] = {"plan": asdict(plan), "coverage": measure(plan, options.worlds, options.draws)}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))
    print(within_aim(result))


if __name__ == "__main__":
    main()
