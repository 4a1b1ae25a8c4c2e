"""Does a second stage improve what it trains on, for unseen people? sft → dpo and sft → grpo, three seeds.

    make stages                     # resumable; writes docs/results/stages-gss.json

Both stages start from CuMA after SFT and train on the training people of the seen groups; everything is measured on
their test people, before the second stage and after it:

- dpo: its own loss, between each person's answer and every other option. Before the stage it is ln 2 by definition.
- grpo: the expected agreement of a sampled answer with the person's own. It rewards the most frequent answer.
- soft EMD beside both: sharpening towards a group's mode makes a distribution worse.

Differences are paired by person; the intervals resample people within groups.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cuma.answering.adapter_files import load_adapter, take_off
from cuma.answering.materials import Materials
from cuma.evaluation.evaluate import predict_people
from cuma.metrics import score
from cuma.recipes.load import load_recipe
from cuma.recipes.schema import Recipe
from cuma.runs.folder import read_json, write_json
from cuma.runs.machine import hardware, versions
from cuma.training.train import train_run

RECIPE = "quickstart/gss/cuma"
SFT = (
    "training.max_steps=150",
    "training.learning_rate=4e-3",
    "training.adam_beta2=0.999",
    "training.curve_steps=[]",
)
STAGES = {
    "dpo": ("pipeline=[sft, dpo]", "dpo.max_steps=100", "dpo.learning_rate=5e-4"),
    "grpo": (
        "pipeline=[sft, grpo]",
        "grpo.max_steps=60",
        "grpo.learning_rate=5e-4",
        "grpo.per_device_train_batch_size=32",
    ),
}
"""Second stage → what is changed in the recipe."""
DRAWS = 2000


def main() -> None:
    """Train and measure what is not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output-dir", type=Path, default=Path("runs/stages"))
    arguments = parser.parse_args()
    materials: Materials | None = None
    rows: dict[str, dict[str, Any]] = {}
    for seed in arguments.seeds:
        for stage, overrides in STAGES.items():
            recipe = load_recipe(RECIPE, (f"seed={seed}", *SFT, *overrides))
            materials = materials or Materials.load(recipe)
            folder = arguments.output_dir / f"{stage}-{seed}"
            rows.setdefault(stage, {})[str(seed)] = row = measured(stage, recipe, folder, materials)
            print(stage, seed, row, flush=True)
    result = {
        "command": "python studies/stages.py",
        "recipe": RECIPE,
        "changed": {"sft": SFT, **STAGES},
        "stages": rows,
        "draws": DRAWS,
        "hardware": hardware(),
        "versions": versions(),
    }
    write_json(Path("docs/results/stages-gss.json"), result)


def measured(stage: str, recipe: Recipe, folder: Path, materials: Materials) -> dict[str, Any]:
    """One run's figures, before the second stage and after it; kept beside the run."""
    kept = folder / "stages.json"
    if kept.exists():
        return dict(read_json(kept))
    run = train_run(recipe, folder, materials)
    before, after = (answers(recipe, stage.adapter, materials) for stage in run.stages())
    same = ["person", "question_id", "answer"]
    if not before[same].equals(after[same]):
        raise AssertionError("the two predictions are not of the same people and questions")
    ordinal = {question.id: question.ordinal for question in materials.survey.questions}
    if stage == "dpo":
        values = {"before": np.full(len(before), np.log(2)), "after": dpo_loss(before, after, recipe.dpo.beta)}
    else:
        values = {"before": agreement(before, ordinal), "after": agreement(after, ordinal)}
    result: dict[str, Any] = {name: float(value.mean()) for name, value in values.items()}
    result["difference"] = interval(after, values["after"] - values["before"])
    questions = materials.survey.questions
    result["soft_emd"] = {
        name: score(table, questions, draws=0)["seen"]["soft_emd"]["value"]
        for name, table in (("before", before), ("after", after))
    }
    result["people"] = int(after["person"].nunique())
    write_json(kept, result)
    return result


def answers(recipe: Recipe, adapter: Path, materials: Materials) -> pd.DataFrame:
    """What a stage's adapter predicts for the test people of the seen groups."""
    model = load_adapter(materials.backbone.model, adapter).eval()
    try:
        return predict_people(model, recipe, materials, roles=("seen",))
    finally:
        take_off(model)


def dpo_loss(reference: pd.DataFrame, policy: pd.DataFrame, beta: float) -> np.ndarray:
    """[rows] −log σ(β · change of log p(own)/p(other)), averaged over the other options."""
    losses = []
    for own, before, after in zip(policy["answer"], reference["probabilities"], policy["probabilities"], strict=True):
        change = np.log(np.asarray(after)) - np.log(np.asarray(before))
        margin = beta * (change[own] - np.delete(change, own))
        losses.append(np.logaddexp(0.0, -margin).mean())
    return np.array(losses)


def agreement(predictions: pd.DataFrame, ordinal: dict[str, bool]) -> np.ndarray:
    """[rows] the reward that a sampled letter earns on average; what is no letter earns 0."""
    values = []
    for row in predictions.itertuples():
        probabilities = np.asarray(row.probabilities)
        away = np.abs(np.arange(len(probabilities)) - row.answer)
        worth = 1 - away / (len(probabilities) - 1) if ordinal[row.question_id] else (away == 0).astype(float)
        values.append(row.option_mass * (probabilities @ worth))
    return np.array(values)


def interval(rows: pd.DataFrame, difference: np.ndarray) -> dict[str, float]:
    """Mean difference, and its 95 % interval over people drawn again within their groups."""
    people = pd.DataFrame({"person": rows["person"], "group": rows["group"], "sum": difference, "n": 1})
    people = people.groupby(["group", "person"], sort=True)[["sum", "n"]].sum().reset_index()
    generator = np.random.default_rng(0)
    blocks = [block[["sum", "n"]].to_numpy() for _, block in people.groupby("group")]
    means = []
    for _ in range(DRAWS):
        total = sum(block[generator.integers(len(block), size=len(block))].sum(axis=0) for block in blocks)
        means.append(total[0] / total[1])
    low, high = np.quantile(means, (0.025, 0.975))
    return {"value": float(difference.mean()), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
