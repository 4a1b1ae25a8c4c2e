"""Many questions: does it pay to tell the adapter who asks, does routing add to it, and does anything read new items?

    make questions ARGS="--anes data/anes.jsonl"      # us and ANES 2020; a night or two; docs/results/questions.json
    make questions ARGS="--splits 0 --methods cuma lora --steps 100"    # a few minutes, and the same table

Methods (recipes `questions/*`) have as many trained parameters each, or, named -r8, the paper's equal rank. Learning
rates compete at the end of full-length runs, on validation items, groups and people of split 0, which are in no test:
from 1e-3 on they are doubled or halved until the best one of a method lies between two worse ones. With it each is
trained on every split and measured in the four corners. Statistics that read the same texts stand beside them.
Differences are paired by cell; both items and groups are drawn (see `question_table`).

`--anes` is what `anes_thermometers.py` counts from the public file; without it only `us` is studied. The table is made
of what is done, and a study that was stopped goes on from the checked-in file. Several processes may work on it: each
takes runs that no other one has.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anes_thermometers import counted
from filelock import FileLock, Timeout
from learning_rates import RATES, next_rate
from ledger import Ledger
from products import with_16_bit_products
from question_cost import STEPS, step_seconds
from question_table import Arm, anchor_errors, cell_errors, cell_keys, corner_floors, mean_error, tables

from cuma.answering.materials import Materials
from cuma.data.builders.base import Options
from cuma.data.builders.build import build
from cuma.evaluation.anchors import ANCHORS
from cuma.evaluation.curve import curve_point
from cuma.evaluation.evaluate import evaluate_run
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import Run
from cuma.training.train import train_run

CHOICE_SPLIT = 0
SPLITS = {"anes": (0, 1, 2, 3, 4), "us": (0, 1, 2)}
FEWER = {"anes": (0, 1), "us": (0,)}
"""Splits of the methods that stand beside the main ones."""
SEEDS = (1, 2)
"""Further training seeds of `SEEDED`, on the split that chooses."""
EQUAL_RANK = ("adapter.r=8", "adapter.lora_alpha=16")


@dataclass(frozen=True)
class Method:
    """One arm of the study."""

    label: str
    recipe: str
    changes: tuple[str, ...] = ()
    main: bool = True
    """Whether it is trained on every split."""


METHODS = {
    "cuma": Method("CuMA", "cuma"),
    "cuma-experts": Method("CuMA, experts read the profile too", "cuma-experts"),
    "vector": Method("LoRA that reads the vector", "vector"),
    "lora": Method("LoRA, persona in the prompt", "lora"),
    "semantic": Method("semantic mixture, persona in the prompt", "semantic"),
    "hydralora": Method("HydraLoRA, persona in the prompt", "hydralora"),
    "shuffled": Method("CuMA, profiles shuffled (control)", "shuffled"),
    "lora-r8": Method("LoRA of rank 8, persona in the prompt", "lora", EQUAL_RANK, main=False),
    "hydralora-r8": Method("HydraLoRA of rank 8, persona in the prompt", "hydralora", EQUAL_RANK, main=False),
    "dora": Method("DoRA, persona in the prompt", "dora", main=False),
    "fields": Method("CuMA with the profile's fields", "fields", main=False),
    "both": Method("CuMA, persona in the prompt too", "both", main=False),
    "person-only": Method("CuMA, routed by the person alone", "person-only", main=False),
}
SEEDED = ("cuma", "vector", "lora")
RESULT = Path("docs/results/questions.json")


@dataclass(frozen=True)
class Trial:
    """One training: a method at a rate on a split of a benchmark."""

    benchmark: str
    split: int
    method: str
    rate: str
    seed: int = 0

    @property
    def name(self) -> str:
        """Its place in the result and on disk."""
        return f"{self.benchmark}/split-{self.split}/{self.method}-{self.rate}-seed-{self.seed}"


def main() -> None:
    """Do what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anes", type=counted, help="counted thermometers; left out: only us")
    parser.add_argument("--benchmark", choices=SPLITS, nargs="+")
    parser.add_argument("--splits", type=int, nargs="+")
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=list(METHODS))
    parser.add_argument("--steps", type=int, help="train so long only; such runs are kept apart, in the output folder")
    parser.add_argument("--table", action="store_true", help="train nothing: print what is known")
    parser.add_argument("--cost", action="store_true", help="time a step of each method on a quiet machine, in turns")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/questions"))
    arguments = parser.parse_args()
    logging.getLogger("cuma").setLevel(logging.ERROR)
    benchmarks = arguments.benchmark or (["anes", "us"] if arguments.anes else ["us"])
    if "anes" in benchmarks and not (arguments.anes or arguments.table):
        parser.error("anes needs --anes FILE, counted by studies/anes_thermometers.py from the public file")
    study = Study(arguments.output_dir, arguments.steps, arguments.anes)
    for benchmark in benchmarks:
        if arguments.cost:
            study.time_steps(benchmark, arguments.methods)
        elif not arguments.table:
            for trial in study.plan(benchmark, arguments.methods, arguments.splits):
                study.scores(trial)
        print(study.page(benchmark))


Measure = Callable[[Trial, Recipe, Path], dict[str, Any]]
"""Trial, its recipe and the folder of its run → what a study keeps."""


class Study:
    """The runs of all benchmarks, and what they show."""

    def __init__(
        self, home: Path, steps: int | None, anes: Path | None, result: Path | None = None, program: str = "questions"
    ) -> None:
        """steps: for all runs, in place of the recipes'; the result then stands in `home`. result: None: `RESULT`;
        program: what makes it, of this folder."""
        self.home = home if steps is None else home / f"{steps}-steps"
        self.steps = steps
        self.anes = anes
        file = result or RESULT
        file = file if steps is None else self.home / file.name
        file.parent.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(file, f"python studies/{program}.py --anes FILE")
        self._materials: dict[Any, Materials] = {}
        self._trunks: dict[int, dict[bytes, torch.Tensor]] = {}

    def plan(self, benchmark: str, methods: list[str], splits: list[int] | None = None) -> Iterator[Trial]:
        """What is to be done, in the order of what it tells: first the rates, then split by split."""
        wanted = SPLITS[benchmark] if splits is None else splits
        ordered = sorted(methods, key=lambda name: not METHODS[name].main)
        for method in ordered:
            yield from self.search(benchmark, method)
        for split in wanted:
            for method in ordered:
                if METHODS[method].main or split in FEWER[benchmark]:
                    rate = self.rate(benchmark, method)
                    if rate is not None:
                        yield Trial(benchmark, split, method, rate)
        for seed in SEEDS if benchmark == "anes" and splits is None else ():
            for method in (name for name in SEEDED if name in methods):
                rate = self.rate(benchmark, method)
                if rate is not None:
                    yield Trial(benchmark, CHOICE_SPLIT, method, rate, seed)

    def search(self, benchmark: str, method: str) -> Iterator[Trial]:
        """Trials of learning rates, until the best is known or another process is at the next one."""
        while (rate := next_rate(self.tried(benchmark, method))) is not None:
            trial = Trial(benchmark, CHOICE_SPLIT, _with_rate_of(method), rate)
            yield trial
            if self.known(trial) is None:
                return

    def rate(self, benchmark: str, method: str) -> str | None:
        """The rate with the least mean error over the validation corners at the end; None while it is searched."""
        tried = self.tried(benchmark, method)
        return min(tried, key=lambda rate: tried[rate]) if next_rate(tried) is None else None

    def tried(self, benchmark: str, method: str) -> dict[str, float]:
        """Learning rate → validation error, of the full-length trials that are done."""
        trials = [Trial(benchmark, CHOICE_SPLIT, _with_rate_of(method), rate) for rate in RATES]
        known = {trial.rate: self.known(trial) for trial in trials}
        return {rate: found["validation"] for rate, found in known.items() if found is not None}

    def known(self, trial: Trial) -> dict[str, Any] | None:
        """The scores of a run that is done; None if it is not."""
        found = self.ledger.runs.get(trial.name)
        return found if found is not None and found["recipe"] == self.recipe(trial).digest else None

    def scores(self, trial: Trial) -> None:
        """Make one run, unless it is known or another process is at it."""
        self.once(trial, self.recipe(trial), self.measure)

    def once(self, trial: Trial, recipe: Recipe, measure: Measure) -> None:
        """Keep what `measure` finds, unless it is known or another process is at it."""
        folder = self.home / trial.name
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder.with_suffix(".lock"), timeout=0):
                self.ledger.once(trial.name, recipe.digest, partial(measure, trial, recipe, folder))
        except Timeout:
            return

    def measure(self, trial: Trial, recipe: Recipe, folder: Path) -> dict[str, Any]:
        """Train, and measure in the four corners. The curve is of validation answers, the cells are the test's."""
        run, materials = self.trained(trial, recipe, folder)
        (evaluation,) = evaluate_run(folder, materials).evaluations()
        predictions = pd.read_parquet(evaluation / "predictions.parquet")
        curve = validation_curve(run)
        self.keep_cells(trial, cell_keys(predictions, evaluation))
        anchors = partial(anchor_errors, predictions, evaluation)
        self.ledger.once(_anchors_of(trial.benchmark, trial.split), "anchors", anchors)
        return {
            "parameters": run.info["trainable_parameters"],
            "validation": mean_error(curve[-1]),
            "curve": curve,
            "floors": corner_floors(evaluation),
            "cells": cell_errors(predictions, evaluation),
        }

    def trained(self, trial: Trial, recipe: Recipe, folder: Path) -> tuple[Run, Materials]:
        """One run, with the parts it was made of."""
        if trial.benchmark == "anes":
            self.build_thermometers(trial.split)
        materials = self.materials(recipe)
        return train_run(recipe, folder, materials, curve_point), materials

    def keep_cells(self, trial: Trial, keys: dict[str, Any]) -> None:
        """Say once for a split which cells its runs are tested on; ends the program if its earlier runs had others."""
        if self.ledger.once(_cells_of(trial.benchmark, trial.split), "cells", lambda: keys) != keys:
            raise SystemExit(
                f"{trial.benchmark}, split {trial.split}: the cells are not those of the runs in {self.ledger.file} "
                "and cannot be compared. Give the file that those were counted from, or move the result away."
            )

    def time_steps(self, benchmark: str, methods: list[str]) -> None:
        """Measure what a step costs, of the methods whose rate is known."""
        rates = {method: rate for method in methods if (rate := self.rate(benchmark, method)) is not None}
        if not rates:
            print(f"{benchmark}: no method's rate is known yet, so there is no step to time.")
            return
        short = (f"training.max_steps={STEPS}", "training.warmup_steps=2", "training.curve_steps=[]")
        if benchmark == "anes":
            self.build_thermometers(CHOICE_SPLIT)
        recipes = {
            method: self.recipe(Trial(benchmark, CHOICE_SPLIT, method, rate), short) for method, rate in rates.items()
        }
        made_by = " ".join(recipe.digest for recipe in recipes.values())

        def measure() -> dict[str, Any]:
            return {"seconds": step_seconds(recipes, self.materials(recipes[min(recipes)]))}

        self.ledger.once(_cost_of(benchmark), made_by, measure)

    def recipe(self, trial: Trial, further: tuple[str, ...] = ()) -> Recipe:
        """What one run does; further: options beyond the trial's own."""
        method = METHODS[trial.method]
        options = [f"training.learning_rate={trial.rate}", f"seed={trial.seed}", *method.changes]
        if trial.benchmark == "us":
            options += ["data.benchmark=us", f"data.split_seed={trial.split}"]
        else:
            options += [f"data.benchmark={_folder(trial.split)}"]
        if self.steps is not None:
            options += [f"training.max_steps={self.steps}", f"training.curve_steps=[{self.steps // 2}, {self.steps}]"]
        return load_recipe(f"questions/{method.recipe}", [*options, *further])

    def build_thermometers(self, split: int) -> None:
        """Split them by one seed, if that is not done."""
        output = _folder(split)
        output.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(output.with_suffix(".lock")):
            if not output.is_dir():
                build("own", self.anes, output, Options(seed=split, holdout_items=0.2, holdout_share=0.15))

    def materials(self, recipe: Recipe) -> Materials:
        """The parts of one split; what frozen layers make of a prompt is kept for all splits."""
        found = next((one for one in self._materials.values() if one.fit(recipe)), None)
        if found is None:
            found = with_16_bit_products(replace(Materials.load(recipe), trunks=self._trunks))
            self._materials = {recipe.digest: found}  # one split's at a time
        return found

    def runs(self, benchmark: str) -> dict[str, dict[int, Any]]:
        """Method → split → scores, at the method's rate and seed 0, of all that is done."""
        found: dict[str, dict[int, Any]] = {}
        for method in METHODS:
            rate = self.rate(benchmark, method)
            for split in SPLITS[benchmark] if rate is not None else ():
                run = self.known(Trial(benchmark, split, method, str(rate)))
                if run is not None:
                    found.setdefault(method, {})[split] = run
        return found

    def page(self, benchmark: str) -> str:
        """The tables of a benchmark, of all that is known of it."""
        runs = self.runs(benchmark)
        if not runs:
            tried = [Trial(benchmark, CHOICE_SPLIT, method, rate) for method in METHODS for rate in RATES]
            done = sum(self.known(trial) is not None for trial in tried)
            return f"{benchmark}: {done} runs are done as the recipes stand, and no method's rate is known yet."
        seconds = self.ledger.runs.get(_cost_of(benchmark), {"seconds": {}})["seconds"]
        arms = {
            name: Arm(METHODS[name].label, METHODS[name].main, str(self.rate(benchmark, name)), seconds.get(name, ()))
            for name in runs
        }
        splits = sorted({split for of in runs.values() for split in of})
        for split in splits:
            known = self.ledger.runs.get(_anchors_of(benchmark, split), {})
            for name in (name for name in ANCHORS if name in known):
                runs.setdefault(f"anchor {name}", {})[split] = {"cells": known[name]}
        arms |= {f"anchor {name}": Arm(f"anchor: {anchor.label}") for name, anchor in ANCHORS.items()}
        keys = {split: self.ledger.runs[_cells_of(benchmark, split)] for split in splits}
        return tables(benchmark, arms, runs, keys, self.seeds(benchmark))

    def seeds(self, benchmark: str) -> dict[str, dict[int, Any]]:
        """Method → training seed → scores on the split that chooses, of methods that were trained with several."""
        found: dict[str, dict[int, Any]] = {}
        for method in SEEDED:
            rate = self.rate(benchmark, method)
            trials = [Trial(benchmark, CHOICE_SPLIT, method, str(rate), seed) for seed in (0, *SEEDS) if rate]
            runs = {trial.seed: run for trial in trials if (run := self.known(trial)) is not None}
            if len(runs) > 1:
                found[method] = runs
        return found


def validation_curve(run: Run) -> list[dict[str, Any]]:
    """Points of a run's learning curve: step, seconds, and corner → soft EMD on validation answers."""
    points = [row for row in run.stages()[0].read_log() if "curve" in row]
    return [
        {
            "step": row["step"],
            "seconds": row["seconds"],
            **{name: part["soft_emd"] for name, part in row["curve"]["corners"].items()},
        }
        for row in points
    ]


def _with_rate_of(method: str) -> str:
    """The method whose learning rates are tried: a control takes those of what it controls."""
    return "cuma" if method == "shuffled" else method


def _folder(split: int) -> Path:
    """Where the thermometers are, split by one seed."""
    return Path("runs/questions/anes") / f"data-{split}"


def _cells_of(benchmark: str, split: int) -> str:
    """The entry that says which cells a split is tested on, in which order."""
    return f"{benchmark}/split-{split}/cells"


def _anchors_of(benchmark: str, split: int) -> str:
    """The entry with the anchors' errors on those cells."""
    return f"{benchmark}/split-{split}/anchors"


def _cost_of(benchmark: str) -> str:
    """The entry with the seconds of a step."""
    return f"{benchmark}/step"


if __name__ == "__main__":
    main()
