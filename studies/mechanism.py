"""What happens inside: do groups pull apart, does it hurt where there is no room, and what do experts specialise in?

    make mechanism                              # gss-all; resumable; writes docs/results/mechanism-gss-all.json
    make mechanism ARGS="--splits 1 --steps 50 --tiny-steps 50"        # a cut

Conflict: a dense LoRA with the persona in the prompt, a dense LoRA that reads the profile's vector, and CuMA, as many
trainable parameters each, are stopped at several steps of one training and asked how far groups' gradients agree
(`conflict.py`); CuMA also which of its experts serve which side of an item (`expert_sides.py`).

Tiny: one layer, experts of rank 1. There a dense adapter has the least room to keep groups apart. Learning rates are
doubled or halved until the best one of a family has worse neighbours: by soft EMD on whole validation groups, at the
end of full-length runs, over the splits. With it each is shown on test groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conflict import conflict_point
from expert_sides import sides_point
from learning_rates import next_rate
from ledger import Ledger
from tables import group_emds, paired_by_group

from cuma.answering.materials import Materials
from cuma.evaluation.evaluate import predict_people
from cuma.metrics.figures import estimate_text, p_text
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.training.train import train_run

PERSONA = ("adapter.method=lora", "data.profile_in=prompt", "encoder.fields=false")
METHODS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "cuma": ("CuMA", "unseen/gss/cuma", ()),
    "vector": ("LoRA that reads the vector", "unseen/gss/dense", ()),
    "persona": (
        "LoRA, persona in the prompt", "unseen/gss/cuma", (*PERSONA, "adapter.r=195", "adapter.lora_alpha=195"),
    ),
}  # fmt: skip
"""Name → label, recipe and overrides; about 0.75 million trainable parameters each, in two layers."""
RATE = "2e-3"
"""Of all three: nothing is compared by its error there."""
LINEAR = ("adapter.router_hidden_dim=null",)
TINY: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "cuma": ("CuMA, 8 experts of rank 1", "unseen/gss/cuma", (*LINEAR, "adapter.r=1")),
    "vector": ("LoRA that reads the vector, rank 8", "unseen/gss/dense", ("adapter.r=8",)),
    "vector-1": ("the same, rank 1", "unseen/gss/dense", ("adapter.r=1",)),
    "persona": ("LoRA, persona in the prompt, rank 12", "unseen/gss/cuma", (*PERSONA, "adapter.r=12")),
    "persona-1": ("the same, rank 1", "unseen/gss/cuma", (*PERSONA, "adapter.r=1")),
}
"""Name → label, recipe and overrides; only the last layer is adapted, and lora_alpha is the rank's."""
PLACES = {
    "frozen": "the frozen weights under it",
    "trained": "the adapter, or all experts",
    "each expert": "each expert by itself, by use",
    "router": "the router",
}

SHOWN = ("own different", "own alike", "own gap", "own same")
"""Figures of the conflict table."""


def main() -> None:
    """Train and measure what is not done yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="gss-all")
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tiny-steps", type=int, default=1000)
    parser.add_argument("--families", choices=TINY, nargs="+", default=list(TINY), help="of the tiny part")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/mechanism"))
    parser.add_argument("--results", type=Path, help="left out: docs/results/mechanism-BENCHMARK.json")
    arguments = parser.parse_args()
    study = Study(arguments)
    table = {
        "benchmark": arguments.benchmark,
        "splits": arguments.splits,
        "steps": {"conflict": arguments.steps, "tiny": arguments.tiny_steps},
        "conflict": study.conflict(),
        "tiny": study.tiny(),
    }
    study.ledger.write(**table)
    print(page({**table, "runs": study.ledger.runs}))


class Study:
    """One benchmark's runs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.benchmark, self.splits = arguments.benchmark, arguments.splits
        self.families: list[str] = arguments.families
        self.steps, self.tiny_steps = arguments.steps, arguments.tiny_steps
        name = Path(self.benchmark).name
        self.home = arguments.output_dir / name
        file = arguments.results or Path("docs/results") / f"mechanism-{name}.json"
        self.ledger = Ledger(file, f"python studies/mechanism.py --benchmark {self.benchmark}")
        self._materials: dict[str, Materials] = {}
        self._trunks: dict[int, dict[bytes, torch.Tensor]] = {}

    def conflict(self) -> dict[str, Any]:
        """Method → place → step → figure → mean over splits, with its interval."""
        runs: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
        for split in self.splits:
            for method in METHODS:
                recipe = conflict_recipe(method, self.benchmark, split, self.steps)
                place = f"split-{split}/{method}"
                made = self.ledger.once(place, recipe.digest, partial(watched, recipe, self.home / place))
                runs[method].append(made["points"])
        return {method: over_splits(points) for method, points in runs.items()}

    def tiny(self) -> dict[str, Any]:
        """Family → chosen rate, parameters and soft EMD on the unseen groups of each split; and CuMA minus each."""
        tried = {family: self.search(family) for family in self.families}
        choice = {family: {rate: mean_choice(of) for rate, of in rates.items()} for family, rates in tried.items()}
        chosen = {family: min(errors, key=errors.__getitem__) for family, errors in choice.items()}
        rows = {split: {f: tried[f][chosen[f]][split] for f in self.families} for split in self.splits}
        first = rows[self.splits[0]]
        return {
            "chosen": chosen,
            "choice": choice,
            "parameters": {family: first[family]["parameters"] for family in self.families},
            "soft_emd": {
                family: [float(np.mean(list(row[family]["unseen_groups"].values()))) for row in rows.values()]
                for family in self.families
            },
            "cuma_minus": paired_by_group(rows, "cuma", [family for family in self.families if family != "cuma"]),
            "groups": len({group for row in rows.values() for group in row["cuma"]["unseen_groups"]}),
        }

    def search(self, family: str) -> dict[str, dict[int, dict[str, Any]]]:
        """Learning rate → split → run, of all rates that it takes to know a family's best."""
        found: dict[str, dict[int, dict[str, Any]]] = {}
        while (rate := next_rate({tried: mean_choice(of) for tried, of in found.items()})) is not None:
            found[rate] = {split: self.tried(family, rate, split) for split in self.splits}
        return found

    def tried(self, family: str, rate: str, split: int) -> dict[str, Any]:
        """One run of the tiny part: its error on validation groups, which chooses, and its scores on test people."""
        recipe = tiny_recipe(family, rate, self.benchmark, split, self.tiny_steps)
        place = f"tiny/split-{split}/{family}-{rate}"
        return self.ledger.once(
            place, recipe.digest, lambda: errors_at_the_end(recipe, self.home / place, self.materials(recipe))
        )

    def materials(self, recipe: Recipe) -> Materials:
        """The parts of one split; what frozen layers make of a prompt is kept for all splits."""
        found = next((one for one in self._materials.values() if one.fit(recipe)), None)
        if found is None:
            found = replace(Materials.load(recipe), trunks=self._trunks)
            self._materials = {recipe.digest: found}  # one split's at a time
        return found


def conflict_recipe(method: str, benchmark: str, split: int, steps: int) -> Recipe:
    """A training of the conflict part; it is looked at after 1/30, 1/6 and 1/2 of its steps and at its end, and CuMA's
    sides before it."""
    _, name, overrides = METHODS[method]
    points = sorted({0, max(1, steps // 30), max(1, steps // 6), max(1, steps // 2), steps})
    own = (f"training.learning_rate={RATE}", f"training.max_steps={steps}", f"training.curve_steps={points}")
    return _recipe(name, benchmark, split, (*overrides, *own, f"training.logging_steps={max(1, steps // 30)}"))


def tiny_recipe(family: str, rate: str, benchmark: str, split: int, steps: int) -> Recipe:
    """A training of the tiny part; the curve's one point, at the end, is of validation groups."""
    _, name, overrides = TINY[family]
    rank = overrides[-1].removeprefix("adapter.r=")
    own = (f"training.learning_rate={rate}", f"training.max_steps={steps}", f"training.curve_steps=[{steps}]")
    return _recipe(name, benchmark, split, ("adapter.last_layers=1", *overrides, f"adapter.lora_alpha={rank}", *own))


def _recipe(name: str, benchmark: str, split: int, overrides: tuple[str, ...]) -> Recipe:
    return load_recipe(name, (f"data.benchmark={benchmark}", f"data.split_seed={split}", *overrides))


def watched(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train and look at the model on the way: {"points": step → what was found, "parameters"}."""
    materials = Materials.load(recipe)
    mixture = recipe.adapter.num_experts > 1 and recipe.adapter.method == "cuma"

    def look(*_: Any) -> Callable[[Any], dict[str, Any]]:
        begun: list[bool] = []

        def measure(model: Any) -> dict[str, Any]:
            point = {"conflict": conflict_point(model, recipe, materials)} if begun else {}
            begun.append(True)
            return {**point, **({"sides": sides_point(model, recipe, materials)} if mixture else {})}

        return measure

    run = train_run(recipe, folder, materials, look)
    log = run.stages()[0].read_log()
    losses = {row["step"]: row["loss"] for row in log if "loss" in row}
    points = {str(row["step"]): {**row["curve"], "loss": losses.get(row["step"])} for row in log if "curve" in row}
    return {"points": points, "parameters": run.info["trainable_parameters"]}


def errors_at_the_end(recipe: Recipe, folder: Path, materials: Materials) -> dict[str, Any]:
    """Train; the mean soft EMD on whole validation groups at the end, which chooses, and that of each test group."""

    def look(*_: Any) -> Callable[[Any], dict[str, Any]]:
        def measure(model: Any) -> dict[str, Any]:
            errors = {role: _group_errors(model, recipe, materials, role) for role in ("validation", "test")}
            return {"choice": float(np.mean(list(errors["validation"].values()))), "unseen_groups": errors["test"]}

        return measure

    run = train_run(recipe, folder, materials, look)
    point = next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)
    return {**point, "parameters": run.info["trainable_parameters"]}


def _group_errors(model: Any, recipe: Recipe, materials: Materials, role: str) -> dict[str, float]:
    """Group → soft EMD of the whole groups with this role, on their own people."""
    survey = materials.survey
    groups = tuple(group for group in survey.groups if group.role == role)
    people = survey.people[survey.people["group"].isin([group.id for group in groups])]
    only = replace(survey, groups=groups, people=people)
    predicted = predict_people(model, recipe, replace(materials, survey=only), role, ("seen", role))
    return group_emds(predicted, only.questions)


def mean_choice(runs: dict[int, dict[str, Any]]) -> float:
    """Over splits, of the error that chooses a rate."""
    return float(np.mean([run["choice"] for run in runs.values()]))


def over_splits(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Place → step → figure → {"value", "low", "high"}: means over splits; errors over groups are independent."""
    result: dict[str, Any] = {}
    for step in (step for step, point in runs[0].items() if "conflict" in point):
        for place, of in runs[0][step]["conflict"].items():
            for figure in of:
                found = [run[step]["conflict"][place][figure] for run in runs]
                if any(one["value"] is None for one in found):
                    entry = {"value": None, "low": None, "high": None}
                else:
                    mean = float(np.mean([one["value"] for one in found]))
                    half = 1.96 * float(np.sqrt(np.sum([one["error"] ** 2 for one in found]))) / len(found)
                    entry = {"value": mean, "low": mean - half, "high": mean + half}
                result.setdefault(place, {}).setdefault(step, {})[figure] = entry
    return result


# --- the tables of docs/studies.md ------------------------------------------------------------------------------------


def page(found: dict[str, Any]) -> str:
    """All tables, from a results file."""
    return "\n\n".join((conflict_table(found), tiny_table(found), sides_table(found), items_table(found)))


def conflict_table(found: dict[str, Any]) -> str:
    """Rows: method, place and step; columns: the figures of groups' own gradients (`conflict_point`)."""
    lines = [
        "| gradients in | step | loss | most different | most alike | difference | the same group |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method, places in found["conflict"].items():
        for place, steps in places.items():
            for step, figures in steps.items():
                if figures[SHOWN[0]]["value"] is None:  # one expert has a router with nothing to learn
                    continue
                losses = [found["runs"][f"split-{split}/{method}"]["points"][step]["loss"] for split in found["splits"]]
                loss = "–" if None in losses else f"{np.mean(losses):.2f}"
                cells = [estimate_text(figures[name], 2, sign=True) for name in SHOWN]
                lines.append(f"| {METHODS[method][0]}: {PLACES[place]} | {step} | {loss} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tiny_table(found: dict[str, Any]) -> str:
    """Rows: families, best on unseen groups first after CuMA."""
    lines = [
        "| one layer | parameters | rate | unseen groups, by split | CuMA minus it | p (Holm) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    tiny = found["tiny"]
    for family in tiny["chosen"]:
        label = TINY[family][0]
        unseen = ", ".join(f"{value:.3f}" for value in tiny["soft_emd"][family])
        test = tiny["cuma_minus"].get(family)
        minus = "" if test is None else estimate_text({**test, "value": test["mean"]}, sign=True)
        p = "" if test is None else p_text(test["p_holm"])
        size = f"{tiny['parameters'][family]:,}"
        lines.append(f"| {label} | {size} | {tiny['chosen'][family]} | {unseen} | {minus} | {p} |")
    return "\n".join(lines)


def sides_table(found: dict[str, Any]) -> str:
    """Rows: split and step; the mutual information between expert and side, beside chance."""
    lines = [
        "| split | step | information, nats | by chance (95 % below) | above chance | p |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for split in found["splits"]:
        for step, point in found["runs"][f"split-{split}/cuma"]["points"].items():
            of = point["sides"]["information"]
            chance = f"{of['null']:.4f} ({of['high']:.4f})"
            above = of["value"] - of["null"]
            lines.append(f"| {split} | {step} | {of['value']:.4f} | {chance} | {above:+.4f} | {p_text(of['p'])} |")
    return "\n".join(lines)


def items_table(found: dict[str, Any]) -> str:
    """One split's trained CuMA, last layer: the mean gate of each expert (%) in groups on either side of each item."""
    points = found["runs"][f"split-{found['splits'][0]}/cuma"]["points"]
    sides = list(points.values())[-1]["sides"]
    number = len(next(iter(sides["items"].values()))["gates"][0][-1])
    lines = [
        "| item | groups that mostly say | " + " | ".join(f"{expert + 1}" for expert in range(number)) + " |",
        "| --- | --- | " + " | ".join("---:" for _ in range(number)) + " |",
    ]
    for item, of in sides["items"].items():
        for option, groups, gates in zip(of["options"], of["groups"], of["gates"], strict=True):
            cells = " | ".join(f"{100 * gate:.0f}" for gate in gates[-1])
            lines.append(f"| {item} | {option} ({groups}) | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
