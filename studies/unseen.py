"""What helps on groups that nobody was trained on? Settings chosen on validation groups, reported once on new splits.

    make unseen                     # gss; resumable; writes docs/results/unseen-gss.json

Two families compete with their best member: CuMA whose router also reads the profile's named fields, and, to see what
routing adds, a dense LoRA that reads the very same vector. Members are compared on the whole validation groups of
splits 1 and 2. Then the best ones, CuMA as in the quickstart, and LoRA with a persona in the prompt meet on the test
people of the unseen groups of splits 5 to 9, which nothing was chosen on. A method's answer is the mean of its seeds'
answers. Statistical anchors stand beside them. Differences are paired by group; p-values are Holm's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tables import anchors, averaged, interval, measured, paired_by_group

from cuma.evaluation.evaluate import curve_point, evaluate_run
from cuma.machine import hardware, versions
from cuma.materials import Materials
from cuma.recipe import load_recipe
from cuma.runs import write_json
from cuma.training.train import train_run

FIELDS, DENSE = "ablations/gss/fields", "ablations/gss/dense-fields"
FAMILIES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "fields": {
        "fields, scale 3": (FIELDS, ("adapter.profile_scale=3.0",)),
        "fields, scale 6": (FIELDS, ("adapter.profile_scale=6.0",)),
    },
    "dense-fields": {
        f"dense, scale {scale}, {rate}": (
            DENSE,
            (f"adapter.profile_scale={scale}.0", f"training.learning_rate={rate}"),
        )
        for scale in (3, 6)
        for rate in ("1e-3", "3e-3")
    },
}
"""Family → what is tried: recipe and what is changed in it. CuMA's learning rate is the quickstart's, from three."""
FIXED = {"cuma": ("quickstart/gss/cuma", ()), "lora": ("quickstart/gss/lora", ())}
ANCHORS = ("average", "logistic", "process", "ridge")
CHOICE_SPLITS = (1, 2)


def main() -> None:
    """Choose, then report; whatever is done already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/unseen"))
    arguments = parser.parse_args()
    home = arguments.output_dir
    choice = {
        family: {name: validation_emd(name, *member, home) for name, member in members.items()}
        for family, members in FAMILIES.items()
    }
    chosen = {family: min(tried, key=lambda name: tried[name]["mean"]) for family, tried in choice.items()}
    methods = {family: FAMILIES[family][name] for family, name in chosen.items()} | FIXED
    rows = {split: split_row(methods, split, arguments.seeds, home) for split in arguments.splits}
    rivals = [name for name in (*methods, *ANCHORS) if name != "fields"]
    result = {
        "command": "python studies/unseen.py",
        "validation_groups_soft_emd": choice,
        "chosen": chosen,
        "splits": rows,
        "unseen_soft_emd": {
            name: interval([row[name]["unseen"]["soft_emd"] for row in rows.values()]) for name in ("fields", *rivals)
        },
        "unseen_fields_minus": paired_by_group(rows, "fields", rivals),
        "seeds": arguments.seeds,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results/unseen-gss.json"), result)
    for key in ("chosen", "unseen_soft_emd", "unseen_fields_minus"):
        print(key, result[key])


def validation_emd(name: str, recipe_name: str, overrides: tuple[str, ...], home: Path) -> dict[str, Any]:
    """Soft EMD of one candidate on the validation groups of each of the splits that choose."""
    end = load_recipe(recipe_name).training.max_steps
    values = []
    for split in CHOICE_SPLITS:
        recipe = load_recipe(
            recipe_name, (*overrides, f"data.split_seed={split}", f"training.curve_steps=[{end}]", "seed=0")
        )
        folder = home / f"choice-{split}" / name.replace(", ", "-").replace(" ", "-")
        run = train_run(recipe, folder, *watched(recipe, folder))
        point = next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)
        values.append(point["unseen"]["soft_emd"])
        print(name, split, values[-1], flush=True)
    return {"splits": list(CHOICE_SPLITS), "values": values, "mean": float(np.mean(values))}


def watched(recipe: Any, folder: Path) -> tuple[Any, ...]:
    """Materials and the learning curve's measure, for a run that is still to be trained."""
    if (folder / "adapter").exists():
        return ()
    materials = Materials.load(recipe)
    return materials, curve_point(recipe, materials, "validation", ("seen", "validation"))


def split_row(methods: dict[str, Any], split: int, seeds: list[int], home: Path) -> dict[str, Any]:
    """Method → side → metrics, of one split."""
    row: dict[str, Any] = {}
    materials: Materials | None = None
    for name, (recipe_name, overrides) in methods.items():
        tables = []
        for seed in seeds:
            options = (*overrides, f"data.split_seed={split}", "training.curve_steps=[]", f"seed={seed}")
            recipe = load_recipe(recipe_name, options)
            if materials is None or not materials.fit(recipe):
                materials = Materials.load(recipe)
            folder = home / f"split-{split}" / f"{name}-seed-{seed}"
            train_run(recipe, folder, materials)
            (evaluation,) = evaluate_run(folder, materials).evaluations()
            tables.append(pd.read_parquet(evaluation / "predictions.parquet"))
        assert materials is not None
        row[name] = measured(averaged(tables), materials)
    assert materials is not None
    row |= anchors(ANCHORS, materials)
    print(split, {name: round(of["unseen"]["soft_emd"], 4) for name, of in row.items()}, flush=True)
    return row


if __name__ == "__main__":
    main()
