"""Who represents whom best? Every method with the same care: last 8 layers, as many trainable parameters, 200 steps.

    make study                                  # gss, then wvs; resumable; writes docs/results/study-{gss,wvs}.json
    make study ARGS="--benchmark gss"

Three learning rates of each method compete on the whole validation groups of split 1. With the best, each method is
trained on splits 0 to 4 and measured on the test people of seen and of unseen groups; the control (shuffled profiles)
takes CuMA's. Statistical anchors stand beside them. Intervals are Student's over the five splits; differences on unseen
groups are paired by group, p-values are Holm's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from tables import METRICS, anchors, interval, measured, paired_by_group

from cuma.evaluation.evaluate import curve_point, evaluate_run
from cuma.machine import hardware, versions
from cuma.materials import Materials
from cuma.recipe import load_recipe
from cuma.recipe_schema import Recipe
from cuma.runs import write_json
from cuma.training.train import train_run

COMMON = ("adapter.last_layers=8", "training.max_steps=200", "seed=0")
METHODS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "cuma": ("cuma", (), ("1e-3", "2e-3", "4e-3")),
    "both": ("cuma", ("data.profile_in=both",), ("1e-3", "2e-3", "4e-3")),
    "lora": ("lora", (), ("5e-4", "1e-3", "3e-3")),
    "semantic": ("semantic", (), ("1e-3", "2e-3", "4e-3")),
}
"""Method → packaged recipe, what is changed in it, and the learning rates that are tried."""
CONTROL = "shuffled"
ANCHORS = ("average", "counts", "logistic", "ridge")
CHOICE_SPLIT, SPLITS = 1, (0, 1, 2, 3, 4)


def main() -> None:
    """Train and measure what is not done yet, and write one table for each benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=("gss", "wvs"), nargs="+", default=["gss", "wvs"])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/study"))
    arguments = parser.parse_args()
    for benchmark in arguments.benchmark:
        study(benchmark, arguments.output_dir / benchmark)


def study(benchmark: str, home: Path) -> None:
    """One benchmark's table."""
    trials = {method: choose(benchmark, method, home) for method in METHODS}
    chosen = {method: min(tried, key=lambda rate: tried[rate]["soft_emd"]) for method, tried in trials.items()}
    rows = {split: split_row(benchmark, split, chosen, home) for split in SPLITS}
    names = list(rows[SPLITS[0]])
    result = {
        "command": f"python studies/grid.py --benchmark {benchmark}",
        "validation_groups_of_split_1": trials,
        "learning_rates": chosen,
        "splits": rows,
        **{
            side: {
                name: {metric: interval([row[name][side][metric] for row in rows.values()]) for metric in METRICS}
                for name in names
                if side in rows[SPLITS[0]][name]
            }
            for side in ("seen", "unseen")
        },
        "unseen_cuma_minus": paired_by_group(
            rows, "cuma", [name for name in names if name != "cuma" and rows[SPLITS[0]][name]["unseen_groups"]]
        ),
        "seed": 0,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results") / f"study-{benchmark}.json", result)
    for key in ("learning_rates", "seen", "unseen", "unseen_cuma_minus"):
        print(key, result[key])


def recipe_of(benchmark: str, method: str, rate: str, split: int, *more: str) -> Recipe:
    """What one run of the study does."""
    name, overrides, _ = METHODS["cuma" if method == CONTROL else method]
    control = ("data.shuffle_profiles=true",) if method == CONTROL else ()
    options = (*COMMON, *overrides, *control, f"training.learning_rate={rate}", f"data.split_seed={split}", *more)
    return load_recipe(f"quickstart/{benchmark}/{name}", options)


def choose(benchmark: str, method: str, home: Path) -> dict[str, dict[str, float]]:
    """Learning rate → scores on the validation groups of the split that chooses."""
    materials: Materials | None = None
    tried = {}
    for rate in METHODS[method][2]:
        recipe = recipe_of(benchmark, method, rate, CHOICE_SPLIT, "training.curve_steps=[200]")
        folder = home / "choice" / f"{method}-{rate}"
        if not (folder / "adapter").exists():
            materials = materials or Materials.load(recipe)
            train_run(recipe, folder, materials, curve_point(recipe, materials, "validation", ("seen", "validation")))
        run = train_run(recipe, folder)
        tried[rate] = next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)["unseen"]
        print(method, rate, tried[rate], flush=True)
    return tried


def split_row(benchmark: str, split: int, chosen: dict[str, str], home: Path) -> dict[str, Any]:
    """Method → side → metrics, of one split."""
    row: dict[str, Any] = {}
    materials: Materials | None = None
    for method, rate in {**chosen, CONTROL: chosen["cuma"]}.items():
        recipe = recipe_of(benchmark, method, rate, split, "training.curve_steps=[]")
        materials = materials or Materials.load(recipe)
        folder = home / f"split-{split}" / method
        train_run(recipe, folder, materials)
        (evaluation,) = evaluate_run(folder, materials).evaluations()
        row[method] = measured(pd.read_parquet(evaluation / "predictions.parquet"), materials)
    assert materials is not None
    row |= anchors(ANCHORS, materials)
    print(split, {name: of.get("unseen", {}).get("soft_emd") for name, of in row.items()}, flush=True)
    return row


if __name__ == "__main__":
    main()
