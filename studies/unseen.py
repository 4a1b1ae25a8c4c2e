"""What helps on groups that nobody was trained on? Settings chosen on validation groups, reported once on new splits.

    make unseen                     # gss-all; resumable; writes docs/results/unseen-gss-all.json

Two families compete at their better learning rate: CuMA whose router also reads the profile's named fields, and, to see
what routing adds, a dense LoRA that reads the very same vector. Rates are compared on the whole validation groups of
splits 1 and 2. Then both meet on the test people of the unseen groups of new splits, which nothing was chosen on. A
method's answer is the mean of its seeds' answers. Statistical anchors, fitted to the same people, stand beside them.
Differences are paired by group; p-values are Holm's.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ledger import Ledger
from tables import METRICS, anchors, averaged, interval, measured, paired_by_group

from cuma.answering.materials import Materials
from cuma.data.surveys.gss import load_gss_all
from cuma.evaluation.curve import curve_point
from cuma.evaluation.evaluate import evaluate_run
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.training.train import train_run

FAMILIES = ("cuma", "dense")
"""Recipes of unseen/gss."""
RATES = ("1e-3", "2e-3")
"""Learning rates that are tried with each."""
ANCHORS = ("average", "logistic", "pairs", "process", "ridge")
FLOOR = "noise_floor"
"""What a perfect model would score, for all groups have few people."""
CHOICE_SPLITS = (1, 2)
WELL_MEASURED = 80
"""People from which on a group's own sampling error is small beside the differences in question."""


def main() -> None:
    """Choose, then report; whatever is done already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, nargs="+", default=[50, 51, 52, 53, 54])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/unseen"))
    arguments = parser.parse_args()
    home = arguments.output_dir
    ledger = Ledger(Path("docs/results/unseen-gss-all.json"), "python studies/unseen.py")
    chosen = {family: choose(ledger, family, home) for family in FAMILIES}
    rows = {split: split_row(ledger, chosen, split, arguments.seeds, home) for split in arguments.splits}
    large = {split: well_measured(row, split) for split, row in rows.items()}
    rivals = [name for name in rows[arguments.splits[0]] if name != "cuma"]
    table = {
        "chosen": chosen,
        "soft_emd": {name: over_splits(rows, name) for name in ("cuma", *rivals)},
        FLOOR: interval([row["average"]["unseen"][FLOOR] for row in rows.values()]),
        "cuma_minus": paired_by_group(rows, "cuma", rivals),
        "well_measured_soft_emd": {name: over_splits(large, name) for name in ("cuma", *rivals)},
        "well_measured_cuma_minus": paired_by_group(large, "cuma", rivals),
        "seeds": arguments.seeds,
    }
    ledger.write(**table)
    for key, value in table.items():
        print(key, value)


def choose(ledger: Ledger, family: str, home: Path) -> str:
    """The learning rate with the lowest soft EMD on the validation groups of the splits that choose."""
    tried = {
        rate: np.mean([on_validation_groups(ledger, family, rate, split, home)["soft_emd"] for split in CHOICE_SPLITS])
        for rate in RATES
    }
    return min(tried, key=lambda rate: tried[rate])


def recipe_of(family: str, rate: str, split: int, seed: int, *more: str) -> Recipe:
    """What one run does."""
    return load_recipe(
        f"unseen/gss/{family}",
        (f"training.learning_rate={rate}", f"data.split_seed={split}", f"seed={seed}", *more),
    )


def on_validation_groups(ledger: Ledger, family: str, rate: str, split: int, home: Path) -> dict[str, Any]:
    """The metrics of one candidate on whole groups that nobody was trained on."""
    end = load_recipe(f"unseen/gss/{family}").training.max_steps
    recipe = recipe_of(family, rate, split, 0, f"training.curve_steps=[{end}]")
    place = f"choice-{split}/{family}-{rate}"

    def measure() -> dict[str, Any]:
        materials = Materials.load(recipe)
        watch = partial(curve_point, cells=None)
        run = train_run(recipe, home / place, materials, watch)
        return dict(next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)["unseen"])

    return ledger.once(place, recipe.digest, measure)


def split_row(ledger: Ledger, chosen: dict[str, str], split: int, seeds: list[int], home: Path) -> dict[str, Any]:
    """Method → side → metrics, of one split."""
    row: dict[str, Any] = {}
    for family, rate in chosen.items():
        recipes = [recipe_of(family, rate, split, seed, "training.curve_steps=[]") for seed in seeds]
        place = f"split-{split}/{family}"
        digest = "+".join(recipe.digest for recipe in recipes)
        row[family] = ledger.once(place, digest, lambda recipes=recipes, place=place: answers_of(recipes, home / place))
    return {**row, **anchors(ANCHORS, Materials.load(recipes[0]), (*METRICS, FLOOR))}


def answers_of(recipes: list[Recipe], folder: Path) -> dict[str, Any]:
    """Train with every seed; the metrics of the mean of their answers."""
    materials = Materials.load(recipes[0])
    tables = []
    for recipe in recipes:
        run = folder.with_name(f"{folder.name}-seed-{recipe.seed}")
        train_run(recipe, run, materials)
        (evaluation,) = evaluate_run(run, materials).evaluations()
        tables.append(pd.read_parquet(evaluation / "predictions.parquet"))
    return measured(averaged(tables), materials.survey)


def over_splits(rows: dict[int, Any], name: str) -> dict[str, Any]:
    """Mean soft EMD over a split's unseen groups, and its interval over the splits."""
    return interval([np.mean(list(row[name]["unseen_groups"].values())) for row in rows.values()])


def well_measured(row: dict[str, Any], split: int) -> dict[str, Any]:
    """The row, of its larger groups only."""
    people = load_gss_all(split).people.groupby("group").size()
    return {
        name: {
            "unseen_groups": {
                group: emd for group, emd in of["unseen_groups"].items() if people[group] >= WELL_MEASURED
            }
        }
        for name, of in row.items()
    }


if __name__ == "__main__":
    main()
