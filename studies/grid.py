"""Who represents whom best? Every method with the same care: last 8 layers, as many trainable parameters and steps.

    make study                                  # gss, then wvs; resumable; writes docs/results/study-{gss,wvs}.json
    make study ARGS="--benchmark gss"
    make study ARGS="--methods cuma both"       # only their runs, beside other such processes; then once more without

Three learning rates of each method compete on the whole validation groups of split 1, after 200 steps. With the best,
each method is trained on splits 0 to 4 and measured on the test people of seen and of unseen groups; the control
(shuffled profiles) takes CuMA's. Statistical anchors stand beside them. Intervals are Student's over the five splits;
differences on unseen groups are paired by group, p-values are Holm's.

A study that was stopped goes on from the checked-in file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from ledger import Ledger
from tables import METRICS, anchors, interval, measured, paired_by_group

from cuma.answering.materials import Materials
from cuma.evaluation.curve import curve_point
from cuma.evaluation.evaluate import evaluate_run
from cuma.metrics.figures import estimate_text, p_text
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.training.train import train_run

COMMON = ("adapter.last_layers=8", "seed=0")
OF_BENCHMARK = {
    "gss": ("training.max_steps=400",),
    "wvs": ("training.max_steps=200", "training.per_device_train_batch_size=8"),
}
"""What every run has, and every run on a benchmark: on wvs a quarter of the work, so that CPUs get through it."""
METHODS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "cuma": ("cuma", (), ("1e-3", "2e-3", "4e-3")),
    "both": ("cuma", ("data.profile_in=both",), ("1e-3", "2e-3", "4e-3")),
    "lora": ("lora", (), ("5e-4", "1e-3", "3e-3")),
    "semantic": ("semantic", (), ("1e-3", "2e-3", "4e-3")),
}
"""Method → packaged recipe, what is changed in it, and the learning rates that are tried."""
CONTROL = "shuffled"
RUNNERS_UP = {"gss": {"lora-3e-3": ("lora", "3e-3")}, "wvs": {}}
"""Name → method and rate that are shown too: on gss LoRA's two best rates were 0.001 apart when they were compared."""
ANCHORS = ("average", "counts", "logistic", "process", "ridge")
LABELS = {
    "cuma": "CuMA",
    "both": "CuMA, profile in the prompt too",
    "lora": "LoRA, persona in the prompt",
    "lora-3e-3": "– the same at 3e-3",
    "semantic": "semantic mixture, persona in the prompt",
    "shuffled": "CuMA, profiles shuffled (control)",
    "average": "the population's average",
    "counts": "a group's own training counts",
    "logistic": "logistic regression on the fields",
    "process": "Gaussian process on the fields",
    "ridge": "ridge regression on e_d",
}
CHOICE_SPLIT, CHOICE_STEP = 1, 200


def main() -> None:
    """Train and measure what is not done yet, and write one table for each benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=("gss", "wvs"), nargs="+", default=["gss", "wvs"])
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", choices=METHODS, nargs="+", help="make only their runs, and no table")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/study"))
    arguments = parser.parse_args()
    for benchmark in arguments.benchmark:
        study = Study(benchmark, arguments.output_dir / benchmark)
        if arguments.methods:
            study.train(arguments.methods, arguments.splits)
        else:
            study.run(arguments.splits)


class Study:
    """One benchmark's runs, and the table that they give."""

    def __init__(self, benchmark: str, home: Path) -> None:
        self.benchmark = benchmark
        self.home = home
        self.ledger = Ledger(
            Path("docs/results") / f"study-{benchmark}.json", f"python studies/grid.py --benchmark {benchmark}"
        )
        self._materials: tuple[int, Materials] | None = None

    def train(self, methods: list[str], splits: list[int]) -> dict[str, str]:
        """Do what is missing of these methods; their learning rates. The control goes with CuMA."""
        chosen = {method: self.choose(method) for method in methods}
        for split in splits:
            for name, of in self.shown(chosen).items():
                self.scores(name, *of, split)
        return chosen

    def run(self, splits: list[int]) -> None:
        """Do what is missing, then write the table of these splits."""
        chosen = self.train(list(METHODS), splits)
        rows = {split: self.split_row(split, chosen) for split in splits}
        unseen = [name for name in rows[splits[0]] if rows[splits[0]][name]["unseen_groups"]]
        table = {
            "splits": splits,
            "learning_rates": chosen,
            **{side: self.table(rows, side) for side in ("seen", "unseen")},
            "seen_cuma_minus": self.seen_minus(rows),
            "unseen_cuma_minus": paired_by_group(rows, "cuma", [name for name in unseen if name != "cuma"]),
        }
        self.ledger.write(**table)
        print(page(table))
        for name, found in table["seen_cuma_minus"].items():
            print(f"Seen groups, CuMA minus {LABELS[name]}, over splits: {_with_ends(found, '+')}")

    def choose(self, method: str) -> str:
        """The learning rate with the lowest soft EMD on the validation groups of the split that chooses."""
        tried = {}
        for rate in METHODS[method][2]:
            recipe = recipe_of(self.benchmark, method, rate, CHOICE_SPLIT, f"training.curve_steps=[{CHOICE_STEP}]")
            tried[rate] = self.once(f"choice/{method}-{rate}", recipe, self.on_validation_groups)
        return min(tried, key=lambda rate: tried[rate]["soft_emd"])

    def split_row(self, split: int, chosen: dict[str, str]) -> dict[str, Any]:
        """Method → side → metrics, of one split; the anchors, which take seconds, are computed anew each time."""
        row = {name: self.scores(name, *of, split) for name, of in self.shown(chosen).items()}
        reads_profiles = recipe_of(self.benchmark, "cuma", chosen["cuma"], split)
        return {**row, **anchors(ANCHORS, self.materials(reads_profiles))}

    def shown(self, chosen: dict[str, str]) -> dict[str, tuple[str, str]]:
        """Name → method and rate, of all that is trained on every split; the control has CuMA's rate."""
        best = {method: (method, rate) for method, rate in chosen.items()}
        control = {CONTROL: (CONTROL, chosen["cuma"])} if "cuma" in chosen else {}
        return {**best, **control, **{name: of for name, of in RUNNERS_UP[self.benchmark].items() if of[0] in chosen}}

    def scores(self, name: str, method: str, rate: str, split: int) -> dict[str, Any]:
        """Side → metrics, of one method on one split."""
        recipe = recipe_of(self.benchmark, method, rate, split, "training.curve_steps=[]")
        return self.once(f"split-{split}/{name}", recipe, self.on_test_people)

    def once(self, name: str, recipe: Recipe, measure: Callable[[Recipe, Path], dict[str, Any]]) -> dict[str, Any]:
        """The scores of one run, trained now if they are not known."""
        return self.ledger.once(name, recipe.digest, lambda: measure(recipe, self.home / name))

    def on_validation_groups(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train and measure on whole groups that nobody was trained on."""
        materials = self.materials(recipe)
        watch = partial(curve_point, cells=None)
        run = train_run(recipe, folder, materials, watch)
        return dict(next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)["unseen"])

    def on_test_people(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train and measure on the test people of seen and of unseen groups."""
        materials = self.materials(recipe)
        train_run(recipe, folder, materials)
        (evaluation,) = evaluate_run(folder, materials).evaluations()
        return measured(pd.read_parquet(evaluation / "predictions.parquet"), materials.survey)

    def materials(self, recipe: Recipe) -> Materials:
        """The parts that all runs of a split share; one split's at a time."""
        split = recipe.data.split_seed
        if self._materials is None or self._materials[0] != split:
            self._materials = (split, Materials.load(recipe))
        return self._materials[1]

    def seen_minus(self, rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
        """Rival → soft EMD on seen groups, CuMA's minus its: mean and interval over the splits."""
        emd = {split: {name: of["seen"]["soft_emd"] for name, of in row.items()} for split, row in rows.items()}
        rivals = [name for name in emd[next(iter(emd))] if name != "cuma"]
        return {name: interval([row["cuma"] - row[name] for row in emd.values()]) for name in rivals}

    def table(self, rows: dict[int, dict[str, Any]], side: str) -> dict[str, Any]:
        """Method → metric → mean and interval over the splits."""
        return {
            name: {metric: interval([row[name][side][metric] for row in rows.values()]) for metric in METRICS}
            for name in next(iter(rows.values()))
            if all(side in row[name] for row in rows.values())
        }


def page(table: dict[str, Any]) -> str:
    """The table of docs/studies.md."""
    lines = [
        "| | seen: soft EMD ↓ | spread | unseen: soft EMD ↓ | spread | CuMA minus it | p (Holm) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, label in LABELS.items():
        if name in table["seen"]:
            seen, unseen = table["seen"][name], table["unseen"].get(name)
            test = table["unseen_cuma_minus"].get(name)
            cells = [_with_ends(seen["soft_emd"]), f"{seen['spread']['mean']:.2f}"]
            cells += (
                ["–", "–"] if unseen is None else [_with_ends(unseen["soft_emd"]), f"{unseen['spread']['mean']:.2f}"]
            )
            cells += ["", ""] if test is None else [_with_ends(test, sign=True), p_text(test["p_holm"])]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _with_ends(found: dict[str, float], sign: bool = False) -> str:
    return estimate_text({**found, "value": found["mean"]}, sign=sign)


def recipe_of(benchmark: str, method: str, rate: str, split: int, *more: str) -> Recipe:
    """What one run of the study does."""
    name, overrides, _ = METHODS["cuma" if method == CONTROL else method]
    control = ("data.shuffle_profiles=true",) if method == CONTROL else ()
    own = (f"training.learning_rate={rate}", f"data.split_seed={split}")
    options = (*COMMON, *OF_BENCHMARK[benchmark], *overrides, *control, *own, *more)
    return load_recipe(f"quickstart/{benchmark}/{name}", options)


if __name__ == "__main__":
    main()
