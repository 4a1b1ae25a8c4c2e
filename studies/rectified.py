"""Do rectified intervals hold the truth? A simulation with known truth, and real people of gss.

python studies/rectified.py [--worlds 1000] [--run runs/quickstart/gss/cuma] [--output docs/results/rectified.json]

A population of 100,000 answers a question of three options that hangs on what is known of people, in groups of 10 who
are partly alike. In every world other people are sampled; what is compared with the population's true shares is the
sample alone, the model alone, and the two together. With a run that was evaluated, the same with its predictions and
the benchmark's real test people for a population.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.metrics.mean_variance import DrawnSample
from cuma.metrics.rectify import ModelMean, Rectified, rectify
from cuma.runs.machine import hardware

PEOPLE, UNIT = 100_000, 10
SLOPE = np.array([1.0, 0.0, -1.0])
COMMON, RARE = np.array([0.0, 0.3, -0.2]), np.array([4.5, 0.0, 0.0])
TILT = {"weights": 0.6, "heavy weights": 1.5}
"""How much likelier, in logs, somebody is to be sampled whose known feature is one standard deviation higher."""


@dataclass(frozen=True)
class Scenario:
    """One line of the table."""

    model: str = "biased"
    n: int = 400
    levels: str = "common"
    """How often options are chosen: "common" or "rare"."""
    population: str = "cells"
    """How the population is known: "cells", a list of other "people", or a "panel" that has the sampled people too."""
    drawn: str = "alike"
    """Each "alike", with one of `TILT`, or in "units" of `UNIT` within two strata."""


SCENARIOS = {
    "a good model": Scenario("good"),
    "a biased model": Scenario(),
    "a flat model (people differ too little)": Scenario("flat"),
    "a useless model": Scenario("useless"),
    "biased, for 1,000 other people": Scenario(population="people"),
    "biased, for a panel of 1,000 with the sampled": Scenario(population="panel"),
    "biased, weights": Scenario(drawn="weights"),
    "biased, 40 units in 2 strata": Scenario(drawn="units"),
    "biased, 10 units in 2 strata": Scenario(n=100, drawn="units"),
    "biased, 4 units in 2 strata": Scenario(n=40, drawn="units"),
    "biased, n = 100": Scenario(n=100),
    "biased, n = 100, weights": Scenario(n=100, drawn="weights"),
    "biased, n = 100, weights from 0.01 to 100": Scenario(n=100, drawn="heavy weights"),
    "biased, n = 50": Scenario(n=50),
    "biased, n = 25": Scenario(n=25),
    "biased, rare options": Scenario(levels="rare"),
    "biased, rare options, n = 50": Scenario(n=50, levels="rare"),
    "good, rare options, n = 50": Scenario("good", n=50, levels="rare"),
}


class World:
    """The population: what is known of people, their answers, and what each model expects."""

    def __init__(self, levels: str, seed: int) -> None:
        rng = np.random.default_rng([seed, levels == "rare"])
        self.known = rng.normal(size=PEOPLE)
        own = RARE if levels == "rare" else COMMON
        alike = np.repeat(rng.normal(size=PEOPLE // UNIT), UNIT) * 0.5
        shares = _softmax(own + np.outer(self.known, SLOPE))
        self.answers = _drawn(rng, _softmax(np.log(shares) + np.outer(alike, SLOPE)))
        self.truth = np.bincount(self.answers, minlength=3) / PEOPLE
        tilted = shares * [0.3, 1.0, 2.0]
        self.models = {
            "good": shares,
            "biased": tilted / tilted.sum(1, keepdims=True),
            "flat": 0.3 * np.array([0.5, 0.2, 0.3]) * np.ones((PEOPLE, 1)) + 0.7 * (0.9 / 3 + 0.1 * shares),
            "useless": rng.dirichlet(np.ones(3), size=PEOPLE),
        }


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def _drawn(rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    return (shares.cumsum(1) < rng.random((len(shares), 1))).sum(1).clip(max=shares.shape[1] - 1)


def sampled(world: World, scenario: Scenario, rng: np.random.Generator) -> tuple[np.ndarray, DrawnSample]:
    """Who is asked, and how they were drawn."""
    if scenario.drawn == "units":
        half = PEOPLE // UNIT // 2
        units = np.concatenate(
            [rng.choice(half, scenario.n // UNIT // 2, replace=False) + start for start in (0, half)]
        )
        rows = (units[:, None] * UNIT + np.arange(UNIT)).ravel()
        return rows, DrawnSample(np.ones(len(rows)), (rows >= half * UNIT).astype(int), rows // UNIT)
    if scenario.drawn in TILT:
        chance = np.exp(TILT[scenario.drawn] * world.known)
        rows = rng.choice(PEOPLE, scenario.n, p=chance / chance.sum())
        return rows, DrawnSample.simple(1 / chance[rows])
    rows = rng.choice(PEOPLE, scenario.n, replace=False)
    return rows, DrawnSample.simple(np.ones(scenario.n))


def model_mean(
    expected: np.ndarray, scenario: Scenario, rows: np.ndarray, rng: np.random.Generator, people: int = 1000
) -> ModelMean:
    """What the model says of the population, as far as that is known."""
    if scenario.population == "cells":
        return ModelMean(expected.mean(0), np.zeros(3))
    others = rng.choice(PEOPLE, people, replace=False)
    shared = 0.0
    if scenario.population == "panel":
        others[: len(rows)], shared = rows, 1.0
    variance = DrawnSample.simple(np.ones(people)).variance(expected[others])
    return ModelMean(expected[others].mean(0), variance, people, shared)


def measure(scenario: Scenario, worlds: int, seed: int) -> dict[str, Any]:
    """Coverage, and what the model is worth, over samples of one population."""
    world = World(scenario.levels, seed)
    expected = world.models[scenario.model]

    def found() -> Iterator[Rectified]:
        for number in range(worlds):
            rng = np.random.default_rng([seed, number])
            rows, design = sampled(world, scenario, rng)
            mean = model_mean(expected, scenario, rows, rng)
            yield rectify(world.answers[rows], expected[rows], design, mean)

    return {"truth": world.truth.round(4).tolist(), **_summary(list(found()), world.truth)}


def _summary(found: list[Rectified], truth: np.ndarray) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("classical", "rectified"):
        held = np.array([(getattr(one, name).low <= truth) & (truth <= getattr(one, name).high) for one in found])
        result[name] = held.mean(0).round(4).tolist()
    widths = {
        name: np.array([getattr(one, name).high - getattr(one, name).low for one in found])
        for name in ("classical", "rectified")
    }
    result["width"] = float((widths["rectified"].mean(0) / widths["classical"].mean(0)).mean().round(3))
    result["width_rectified"] = float(widths["rectified"].mean().round(4))
    result["model_off"] = float(np.abs(found[0].model.shares - truth).max().round(3))
    return result | {"gain": float(np.mean([one.gain for one in found]).round(3)), "n": len(found)}


def real(run: Path, sizes: tuple[int, ...], worlds: int, seed: int) -> dict[str, Any]:
    """The same with a run's predictions: its benchmark's test people are the population, whose cells are its groups."""
    (folder,) = {file.parent for file in run.glob("evaluations/*/predictions.parquet")}
    table = pd.read_parquet(folder / "predictions.parquet")
    result: dict[str, Any] = {}
    for seen, people in table.groupby("seen"):
        for n in sizes:
            rows = [
                _real_question(question, n, worlds, np.random.default_rng([seed, n]))
                for _, question in people.groupby("question_id")
            ]
            result[f"{'seen' if seen else 'unseen'} groups, n = {n}"] = {
                name: float(np.mean([row[name] for row in rows]).round(4)) for name in rows[0]
            }
    return result


def _real_question(people: pd.DataFrame, n: int, worlds: int, rng: np.random.Generator) -> dict[str, float]:
    answers, expected = people["answer"].to_numpy(), np.stack(people["probabilities"].to_list())
    options = expected.shape[1]
    truth = np.bincount(answers, minlength=options) / len(answers)
    mean = ModelMean(expected.mean(0), np.zeros(options))
    found = []
    for _ in range(worlds):
        rows = rng.choice(len(answers), n)
        found.append(rectify(answers[rows], expected[rows], DrawnSample.simple(np.ones(n)), mean))
    summary = _summary(found, truth)
    covered = {name: float(np.mean(summary[name])) for name in ("classical", "rectified")}
    return {**covered, **{name: summary[name] for name in ("width", "gain", "model_off")}}


def table(result: dict[str, Any]) -> str:
    """The table of docs/predict.md: coverage in percent, the lowest option's in brackets."""
    lines = ["| scenario | sample alone | rectified | width | worth | model off by |", "| --- |" + " ---: |" * 5]
    for name, row in {**result["simulated"], **result.get("real", {})}.items():
        cells = [_percent(row[key]) for key in ("classical", "rectified")]
        cells += [f"{row['width']:.2f}", f"{row['gain']:.2f} n", f"{row['model_off']:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _percent(covered: float | list[float]) -> str:
    if isinstance(covered, float):
        return f"{100 * covered:.1f}"
    return f"{100 * np.mean(covered):.1f} ({100 * min(covered):.1f}–{100 * max(covered):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="a run that was evaluated")
    parser.add_argument("--output", type=Path, default=Path("docs/results/rectified.json"))
    options = parser.parse_args()
    result: dict[str, Any] = {"worlds": options.worlds, "seed": options.seed, "hardware": hardware()["cpu"]}
    result["simulated"] = {
        name: measure(scenario, options.worlds, options.seed) for name, scenario in SCENARIOS.items()
    }
    if options.run is not None:
        result["real"] = real(options.run, (100, 400), options.worlds, options.seed)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
