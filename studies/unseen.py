"""What helps on groups that nobody was trained on? Settings chosen on validation groups, reported once on new splits.

    make unseen                     # gss; resumable; writes docs/results/unseen-gss.json

First the candidates compete on the whole validation groups of splits 1 and 2. Then the best of them, CuMA as in the
quickstart and LoRA meet on the test people of the unseen groups of splits 5 to 9, which nothing was chosen on. With
several seeds a method's answer is the mean of its seeds' answers. Statistical anchors stand beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from quickstart_splits import ANCHORS, ROLES, difference, interval, sides

from cuma.evaluation.anchors import anchor_predictions
from cuma.evaluation.evaluate import curve_point, evaluate_run
from cuma.machine import hardware, versions
from cuma.materials import Materials
from cuma.metrics import score
from cuma.recipe import load_recipe
from cuma.runs import write_json
from cuma.training.train import train_run

CANDIDATES = {
    "fields, scale 3": ("ablations/gss/fields", ("adapter.profile_scale=3.0",)),
    "fields, scale 6": ("ablations/gss/fields", ("adapter.profile_scale=6.0",)),
    "cuma": ("quickstart/gss/cuma", ()),
}
"""What is tried for unseen groups: recipe and what is changed in it."""
RIVALS = {"cuma": CANDIDATES["cuma"], "lora": ("quickstart/gss/lora", ())}
CHOICE_SPLITS = (1, 2)


def main() -> None:
    """Choose, then report; whatever is done already is not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/unseen"))
    arguments = parser.parse_args()
    choice = {name: validation_emd(name, arguments.output_dir) for name in CANDIDATES}
    best = min((name for name in choice if name != "cuma"), key=lambda name: choice[name]["mean"])
    methods = {"fields": CANDIDATES[best], **RIVALS}
    rows = {split: split_row(methods, split, arguments.seeds, arguments.output_dir) for split in arguments.splits}
    rivals = [name for name in rows[arguments.splits[0]] if name != "fields"]
    result = {
        "command": f"python studies/unseen.py --seeds {' '.join(map(str, arguments.seeds))}",
        "validation_groups_soft_emd": choice,
        "chosen": best,
        "splits": rows,
        "unseen_soft_emd": {
            name: interval([row[name]["unseen"]["soft_emd"] for row in rows.values() if "unseen" in row[name]])
            for name in ("fields", *rivals)
        },
        "unseen_fields_minus": {name: interval(difference(rows, "fields", name)) for name in rivals},
        "seeds": arguments.seeds,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results/unseen-gss.json"), result)
    for key in ("validation_groups_soft_emd", "chosen", "unseen_soft_emd", "unseen_fields_minus"):
        print(key, result[key])


def validation_emd(name: str, home: Path) -> dict[str, Any]:
    """Soft EMD of one candidate on the validation groups of each of the splits that choose."""
    recipe_name, overrides = CANDIDATES[name]
    end = load_recipe(recipe_name).training.max_steps
    values = []
    for split in CHOICE_SPLITS:
        recipe = load_recipe(
            recipe_name, (*overrides, f"data.split_seed={split}", f"training.curve_steps=[{end}]", "seed=0")
        )
        folder = home / f"choice-{split}" / name.replace(", ", "-").replace(" ", "-")
        run = train_run(recipe, folder, *measured(recipe, folder))
        point = next(row["curve"] for row in run.stages()[0].read_log() if "curve" in row)
        values.append(point["unseen"]["soft_emd"])
        print(name, split, values[-1], flush=True)
    return {"splits": list(CHOICE_SPLITS), "values": values, "mean": float(np.mean(values))}


def measured(recipe: Any, folder: Path) -> tuple[Any, ...]:
    """Materials and the learning curve's measure, for a run that is still to be trained."""
    if (folder / "adapter").exists():
        return ()
    materials = Materials.load(recipe)
    return materials, curve_point(recipe, materials, "validation", ("seen", "validation"))


def split_row(methods: dict[str, Any], split: int, seeds: list[int], home: Path) -> dict[str, dict[str, Any]]:
    """Method → side → metrics, of one split."""
    row: dict[str, dict[str, Any]] = {}
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
        row[name] = sides(score(averaged(tables), materials.survey.questions, draws=0))
    assert materials is not None
    embeds = np.asarray(materials.group_embeds(materials.table, ROLES), dtype=np.float64)
    for name in ANCHORS:
        row[name] = sides(
            score(anchor_predictions(name, materials.survey, embeds), materials.survey.questions, draws=0)
        )
    print(split, {name: round(of["unseen"]["soft_emd"], 4) for name, of in row.items()}, flush=True)
    return row


def averaged(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One table whose probabilities are the mean over the tables."""
    mean = np.mean([np.stack(table["probabilities"].to_list()) for table in tables], axis=0)
    return tables[0].assign(probabilities=list(mean))


if __name__ == "__main__":
    main()
