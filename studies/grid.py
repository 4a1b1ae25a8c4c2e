"""Who represents whom best? Every method with the same care: last 8 layers, as many trainable parameters, 200 steps.

    make study                                  # gss, then wvs; resumable; writes docs/results/study-{gss,wvs}.json
    make study ARGS="--benchmark gss"

Three learning rates of each method compete on the whole validation groups of split 1. With the best, each method is
trained on splits 0 to 4 and measured on the test people of seen and of unseen groups; the control (shuffled profiles)
takes CuMA's. Statistical anchors stand beside them. Intervals are Student's over the five splits; differences on unseen
groups are paired by group, p-values are Holm's.

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

from cuma.evaluation.evaluate import curve_point, evaluate_run
from cuma.materials import Materials
from cuma.recipe import load_recipe
from cuma.recipe_schema import Recipe
from cuma.training.train import train_run

COMMON = ("adapter.last_layers=8", "training.max_steps=200", "seed=0")
OF_BENCHMARK = {"gss": ("training.adam_beta2=0.999",), "wvs": ("training.per_device_train_batch_size=8",)}
"""What every run has, and every run on a benchmark: gss was studied before the recipes had another beta2."""
METHODS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "cuma": ("cuma", (), ("1e-3", "2e-3", "4e-3")),
    "both": ("cuma", ("data.profile_in=both",), ("1e-3", "2e-3", "4e-3")),
    "lora": ("lora", (), ("5e-4", "1e-3", "3e-3")),
    "semantic": ("semantic", (), ("1e-3", "2e-3", "4e-3")),
}
"""Method → packaged recipe, what is changed in it, and the learning rates that are tried."""
CONTROL = "shuffled"
ANCHORS = ("average", "counts", "logistic", "process", "ridge")
CHOICE_SPLIT = 1


def main() -> None:
    """Train and measure what is not done yet, and write one table for each benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=("gss", "wvs"), nargs="+", default=["gss", "wvs"])
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/study"))
    arguments = parser.parse_args()
    for benchmark in arguments.benchmark:
        Study(benchmark, arguments.output_dir / benchmark).run(arguments.splits)


class Study:
    """One benchmark's runs, and the table that they give."""

    def __init__(self, benchmark: str, home: Path) -> None:
        self.benchmark = benchmark
        self.home = home
        self.ledger = Ledger(
            Path("docs/results") / f"study-{benchmark}.json", f"python studies/grid.py --benchmark {benchmark}"
        )
        self._materials: tuple[int, Materials] | None = None

    def run(self, splits: list[int]) -> None:
        """Do what is missing, then write the table of these splits."""
        chosen = {method: self.choose(method) for method in METHODS}
        rows = {split: self.split_row(split, chosen) for split in splits}
        unseen = [name for name in rows[splits[0]] if rows[splits[0]][name]["unseen_groups"]]
        table = {
            "splits": splits,
            "learning_rates": chosen,
            **{side: self.table(rows, side) for side in ("seen", "unseen")},
            "unseen_cuma_minus": paired_by_group(rows, "cuma", [name for name in unseen if name != "cuma"]),
        }
        self.ledger.write(**table)
        for key, value in table.items():
            print(key, value)

    def choose(self, method: str) -> str:
        """The learning rate with the lowest soft EMD on the validation groups of the split that chooses."""
        tried = {}
        for rate in METHODS[method][2]:
            recipe = recipe_of(self.benchmark, method, rate, CHOICE_SPLIT, "training.curve_steps=[200]")
            tried[rate] = self.once(f"choice/{method}-{rate}", recipe, self.on_validation_groups)
        return min(tried, key=lambda rate: tried[rate]["soft_emd"])

    def split_row(self, split: int, chosen: dict[str, str]) -> dict[str, Any]:
        """Method → side → metrics, of one split; the anchors, which take seconds, are computed anew each time."""
        row = {
            method: self.once(
                f"split-{split}/{method}",
                recipe_of(self.benchmark, method, rate, split, "training.curve_steps=[]"),
                self.on_test_people,
            )
            for method, rate in {**chosen, CONTROL: chosen["cuma"]}.items()
        }
        reads_profiles = recipe_of(self.benchmark, "cuma", chosen["cuma"], split)
        return {**row, **anchors(ANCHORS, self.materials(reads_profiles))}

    def once(self, name: str, recipe: Recipe, measure: Callable[[Recipe, Path], dict[str, Any]]) -> dict[str, Any]:
        """The scores of one run, trained now if they are not known."""
        return self.ledger.once(name, recipe.digest, lambda: measure(recipe, self.home / name))

    def on_validation_groups(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train and measure on whole groups that nobody was trained on."""
        materials = self.materials(recipe)
        watch = partial(curve_point, part="validation", roles=("seen", "validation"))
        run = train_run(recipe, folder, materials, watch)
        return dict(next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)["unseen"])

    def on_test_people(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train and measure on the test people of seen and of unseen groups."""
        materials = self.materials(recipe)
        train_run(recipe, folder, materials)
        (evaluation,) = evaluate_run(folder, materials).evaluations()
        return measured(pd.read_parquet(evaluation / "predictions.parquet"), materials)

    def materials(self, recipe: Recipe) -> Materials:
        """The parts that all runs of a split share; one split's at a time."""
        split = recipe.data.split_seed
        if self._materials is None or self._materials[0] != split:
            self._materials = (split, Materials.load(recipe))
        return self._materials[1]

    def table(self, rows: dict[int, dict[str, Any]], side: str) -> dict[str, Any]:
        """Method → metric → mean and interval over the splits."""
        return {
            name: {metric: interval([row[name][side][metric] for row in rows.values()]) for metric in METRICS}
            for name in next(iter(rows.values()))
            if all(side in row[name] for row in rows.values())
        }


def recipe_of(benchmark: str, method: str, rate: str, split: int, *more: str) -> Recipe:
    """What one run of the study does."""
    name, overrides, _ = METHODS["cuma" if method == CONTROL else method]
    control = ("data.shuffle_profiles=true",) if method == CONTROL else ()
    own = (f"training.learning_rate={rate}", f"data.split_seed={split}")
    options = (*COMMON, *OF_BENCHMARK[benchmark], *overrides, *control, *own, *more)
    return load_recipe(f"quickstart/{benchmark}/{name}", options)


if __name__ == "__main__":
    main()
