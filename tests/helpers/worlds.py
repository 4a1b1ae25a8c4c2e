"""A small world whose truth is known: groups with a position each, people scattered around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from cuma.metrics.items import Item
from cuma.metrics.pointwise import pairwise_jsd_sum


def items(number: int, options: int = 2, ordinal: bool = True) -> tuple[Item, ...]:
    labels = tuple(f"option {index}" for index in range(options))
    return tuple(Item(f"q{index}", f"Question {index}?", labels, ordinal) for index in range(number))


def answer_shares(location: np.ndarray, options: int) -> np.ndarray:
    """[G, m]: how people scattered normally around `location` [G] fall into equally wide options."""
    edges = norm.cdf(np.linspace(-1, 1, options - 1)[None] - location[:, None])
    return np.diff(edges, axis=1, prepend=0.0, append=1.0)


@dataclass(frozen=True, eq=False)
class World:
    """`rows` lacks predictions; `truth` and `model` hold one [G, m] array per question."""

    rows: pd.DataFrame
    truth: dict[str, np.ndarray]
    model: dict[str, np.ndarray]


def draw_world(
    seed: int, questions: tuple[Item, ...], groups: int, people: int, shrink: float = 0.7, answered: float = 1.0
) -> World:
    """A model whose groups differ by `shrink` of what people's do, with errors; a person's answers hang together."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=groups)
    sizes = rng.integers(people // 2, people * 3 // 2 + 1, size=groups)
    group = np.repeat(np.arange(groups), sizes)
    trait = np.sqrt(0.5) * rng.normal(size=group.size)
    parts, truth, model = [], {}, {}
    for item in questions:
        options = len(item.options)
        location = 0.8 * place + 0.4 * rng.normal(size=groups)
        latent = location[group] + trait + np.sqrt(0.5) * rng.normal(size=group.size)
        parts.append(
            pd.DataFrame(
                {
                    "person": np.arange(group.size),
                    "group": [f"group {index:03d}" for index in group],
                    "seen": True,
                    "question_id": item.id,
                    "answer": np.searchsorted(np.linspace(-1, 1, options - 1), latent),
                    "number": group,
                }
            )[rng.random(group.size) < answered]
        )
        truth[item.id] = answer_shares(location, options)
        model[item.id] = answer_shares(shrink * location + 0.2 * rng.normal(size=groups), options)
    return World(pd.concat(parts, ignore_index=True), truth, model)


def predictions(world: World, shares: dict[str, np.ndarray]) -> pd.DataFrame:
    """A predictions table in which every person gets their group's distribution."""
    pairs = zip(world.rows["question_id"], world.rows["number"], strict=True)
    table = world.rows.drop(columns="number")
    return table.assign(probabilities=[shares[item][group] for item, group in pairs], option_mass=1.0)


def average(world: World) -> dict[str, np.ndarray]:
    """The same for everybody: the mean of the truth over groups."""
    return {item: np.tile(shares.mean(axis=0), (len(shares), 1)) for item, shares in world.truth.items()}


def true_spread(groups: int = 1500, options: int = 2) -> float:
    """The spread of the world's model for infinitely many people in very many groups."""
    rng = np.random.default_rng(99)
    location = 0.8 * rng.normal(size=groups) + 0.4 * rng.normal(size=groups)
    once = np.ones((groups, 1))
    model = answer_shares(0.7 * location + 0.2 * rng.normal(size=groups), options)
    sums = [pairwise_jsd_sum(shares.T[:, :, None], once)[0] for shares in (model, answer_shares(location, options))]
    return float(sums[0] / sums[1])
