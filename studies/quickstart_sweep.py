"""The learning rates of the quickstart: the same search for every trained method, on validation groups only.

    make sweep                      # gss; resumable; writes docs/results/quickstart-sweep-gss.json
    make sweep ARGS="--benchmark wvs"

A trial trains a packaged recipe with one learning rate and measures soft EMD on the whole validation groups, which no
recipe trains on and the quickstart's table does not show. The control (shuffled profiles) takes CuMA's.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from cuma.answering.materials import Materials
from cuma.evaluation.curve import curve_point
from cuma.recipes.load import load_recipe
from cuma.runs.folder import write_json
from cuma.runs.machine import hardware, versions
from cuma.training.train import train_run

LEARNING_RATES = {
    "cuma": ("1e-3", "2e-3", "4e-3"),
    "lora": ("5e-4", "1e-3", "3e-3"),
    "semantic": ("1e-3", "2e-3", "4e-3"),
}
"""Method → what is tried: three values each, placed where the method learns."""


def main() -> None:
    """Run all trials that are not done, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=("gss", "wvs"), default="gss")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/sweep"))
    benchmark, home = (arguments := parser.parse_args()).benchmark, arguments.output_dir
    materials: Materials | None = None
    trials: list[dict[str, Any]] = []
    for method, rates in LEARNING_RATES.items():
        name = f"quickstart/{benchmark}/{method}"
        end = load_recipe(name).training.max_steps
        for rate in rates:
            recipe = load_recipe(name, (f"training.learning_rate={rate}", f"training.curve_steps=[{end}]"))
            materials = materials or Materials.load(recipe)
            watch = partial(curve_point, cells=None)
            run = train_run(recipe, home / benchmark / f"{method}-{rate}", materials, watch)
            point = next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)
            trials.append(
                {
                    "method": method,
                    "learning_rate": float(rate),
                    "parameters": run.info["trainable_parameters"],
                    "validation_groups": point["unseen"],
                    "seen_groups_validation_people": point["seen"],
                }
            )
            print(trials[-1], flush=True)
    best = {
        method: min((t for t in trials if t["method"] == method), key=lambda t: t["validation_groups"]["soft_emd"])
        for method in LEARNING_RATES
    }
    result = {
        "command": f"python studies/quickstart_sweep.py --benchmark {benchmark}",
        "chosen": {method: trial["learning_rate"] for method, trial in best.items()},
        "trials": trials,
        "seed": 0,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results") / f"quickstart-sweep-{benchmark}.json", result)


if __name__ == "__main__":
    main()
