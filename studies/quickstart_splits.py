"""Is the quickstart's result on unseen groups one split's luck? CuMA and its control again, on other splits.

    make splits                     # gss, splits 1 to 4; resumable; writes docs/results/quickstart-splits-gss.json

The settings are the quickstart's, fixed before; each split deals groups and people anew. The table has, for each
split, soft EMD on the test people of the 15 unseen groups and of the seen ones, and the share of the population
average's that CuMA reaches.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tables import anchors, difference, interval, sides

from cuma.evaluation.evaluate import evaluate_run
from cuma.machine import hardware, versions
from cuma.materials import Materials
from cuma.recipe import load_recipe
from cuma.runs import read_json, write_json
from cuma.training.train import train_run

METHODS = ("cuma", "shuffled")
ANCHORS = ("average", "logistic", "process", "ridge")


def main() -> None:
    """Run what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", choices=("gss", "wvs"), default="gss")
    parser.add_argument("--splits", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/splits"))
    arguments = parser.parse_args()
    rows = {split: split_row(arguments.benchmark, split, arguments.output_dir) for split in arguments.splits}
    share = [row["cuma"]["unseen"]["soft_emd"] / row["average"]["unseen"]["soft_emd"] for row in rows.values()]
    result = {
        "command": f"python studies/quickstart_splits.py --benchmark {arguments.benchmark}",
        "splits": rows,
        "unseen_soft_emd_as_share_of_average": {**interval(share), "values": share},
        "unseen_shuffled_minus_average": interval(difference(rows, "shuffled", "average")),
        "unseen_cuma_minus_shuffled": interval(difference(rows, "cuma", "shuffled")),
        "unseen_cuma_minus_logistic": interval(difference(rows, "cuma", "logistic")),
        "seed": 0,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results") / f"quickstart-splits-{arguments.benchmark}.json", result)
    for key, value in result.items():
        if key.startswith("unseen"):
            print(key, value)


def split_row(benchmark: str, split: int, home: Path) -> dict[str, dict[str, Any]]:
    """Method → side → metrics, of one split."""
    overrides = (f"data.split_seed={split}", "training.curve_steps=[]")
    recipes = {name: load_recipe(f"quickstart/{benchmark}/{name}", overrides) for name in METHODS}
    materials = Materials.load(recipes["cuma"])
    row: dict[str, dict[str, Any]] = {}
    for name, recipe in recipes.items():
        folder = home / benchmark / f"split-{split}" / name
        train_run(recipe, folder, materials)
        (evaluation,) = evaluate_run(folder, materials).evaluations()
        row[name] = sides(read_json(evaluation / "scores.json"))
    row |= anchors(ANCHORS, materials)
    print(split, {name: round(of["unseen"]["soft_emd"], 4) for name, of in row.items()}, flush=True)
    return row


if __name__ == "__main__":
    main()
