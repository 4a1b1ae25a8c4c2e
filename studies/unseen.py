"""What helps on groups that nobody was trained on? Settings chosen on validation groups, reported once on new splits.

    make unseen                     # gss-all; resumable; writes docs/results/unseen-gss-all.json

Two families compete with their best member: CuMA whose router also reads the profile's named fields, and, to see what
routing adds, a dense LoRA that reads the very same vector. Members are compared on the whole validation groups of
splits 1 and 2. Then the best ones meet on the test people of the unseen groups of new splits, which nothing was chosen
on. A method's answer is the mean of its seeds' answers. Statistical anchors, fitted to the same people, stand beside
them. Differences are paired by group; p-values are Holm's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tables import anchors, averaged, interval, measured, paired_by_group

from cuma.benchmarks.gss import load_gss_all
from cuma.evaluation.evaluate import curve_point, evaluate_run
from cuma.machine import hardware, versions
from cuma.materials import Materials
from cuma.recipe import load_recipe
from cuma.recipe_schema import Recipe
from cuma.runs import write_json
from cuma.training.train import train_run

RATES = {"cuma": ("2e-3", "4e-3"), "dense": ("1e-3", "3e-3")}
FAMILIES: dict[str, dict[str, tuple[str, ...]]] = {
    family: {
        f"scale {scale}, {rate}": (f"adapter.profile_scale={scale}.0", f"training.learning_rate={rate}")
        for scale in (3, 6)
        for rate in rates
    }
    for family, rates in RATES.items()
}
"""Family, which is a recipe of unseen/gss → what is tried: its settings."""
ANCHORS = ("average", "logistic", "pairs", "process", "ridge")
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
    choice = {
        family: {name: validation_emd(family, name, settings, home) for name, settings in members.items()}
        for family, members in FAMILIES.items()
    }
    chosen = {family: min(tried, key=lambda name: tried[name]["mean"]) for family, tried in choice.items()}
    rows = {split: split_row(chosen, split, arguments.seeds, home) for split in arguments.splits}
    methods = [*chosen, *ANCHORS]
    large = {split: well_measured(row, split) for split, row in rows.items()}
    result = {
        "command": "python studies/unseen.py",
        "validation_groups_soft_emd": choice,
        "chosen": chosen,
        "splits": rows,
        **{
            f"{name}_soft_emd": {
                method: interval([np.mean(list(row[method]["unseen_groups"].values())) for row in of.values()])
                for method in methods
            }
            for name, of in (("unseen", rows), ("well_measured", large))
        },
        "unseen_cuma_minus": paired_by_group(rows, "cuma", methods[1:]),
        "well_measured_cuma_minus": paired_by_group(large, "cuma", methods[1:]),
        "seeds": arguments.seeds,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results/unseen-gss-all.json"), result)
    for key in ("chosen", "unseen_soft_emd", "unseen_cuma_minus", "well_measured_soft_emd", "well_measured_cuma_minus"):
        print(key, result[key])


def recipe_of(family: str, settings: tuple[str, ...], split: int, seed: int, *more: str) -> Recipe:
    """What one run does."""
    return load_recipe(f"unseen/gss/{family}", (*settings, f"data.split_seed={split}", f"seed={seed}", *more))


def validation_emd(family: str, name: str, settings: tuple[str, ...], home: Path) -> dict[str, Any]:
    """Soft EMD of one candidate on the validation groups of each of the splits that choose."""
    end = load_recipe(f"unseen/gss/{family}").training.max_steps
    values = []
    for split in CHOICE_SPLITS:
        recipe = recipe_of(family, settings, split, 0, f"training.curve_steps=[{end}]")
        folder = home / f"choice-{split}" / f"{family}-{name}".replace(", ", "-").replace(" ", "-")
        run = train_run(recipe, folder, *watched(recipe, folder))
        point = next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)
        values.append(point["unseen"]["soft_emd"])
        print(family, name, split, values[-1], flush=True)
    return {"splits": list(CHOICE_SPLITS), "values": values, "mean": float(np.mean(values))}


def watched(recipe: Recipe, folder: Path) -> tuple[Any, ...]:
    """Materials and the learning curve's measure, for a run that is still to be trained."""
    if (folder / "adapter").exists():
        return ()
    materials = Materials.load(recipe)
    return materials, curve_point(recipe, materials, "validation", ("seen", "validation"))


def split_row(chosen: dict[str, str], split: int, seeds: list[int], home: Path) -> dict[str, Any]:
    """Method → side → metrics, of one split."""
    row: dict[str, Any] = {}
    materials: Materials | None = None
    for family, name in chosen.items():
        tables = []
        for seed in seeds:
            recipe = recipe_of(family, FAMILIES[family][name], split, seed, "training.curve_steps=[]")
            if materials is None or not materials.fit(recipe):
                materials = Materials.load(recipe)
            folder = home / f"split-{split}" / f"{family}-seed-{seed}"
            train_run(recipe, folder, materials)
            (evaluation,) = evaluate_run(folder, materials).evaluations()
            tables.append(pd.read_parquet(evaluation / "predictions.parquet"))
        assert materials is not None
        row[family] = measured(averaged(tables), materials)
    assert materials is not None
    row |= anchors(ANCHORS, materials)
    print(split, {name: round(of["unseen"]["soft_emd"], 4) for name, of in row.items()}, flush=True)
    return row


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
