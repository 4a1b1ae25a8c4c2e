"""How often training goes through its rows, and what each pass leaves out of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from datasets import Dataset, concatenate_datasets

from cuma.recipes.schema import Recipe, TrainingSection
from cuma.training.processes import processes


def in_passes(cells: Callable[[], Dataset], recipe: Recipe) -> Dataset:
    """The rows of SFT. Where nothing is left out, one pass: the trainer goes through it again and again.

    cells: the rows of one pass; with profile_dropout other fields are left out of them at each call.
    """
    first, training = cells(), recipe.training
    if training.item_dropout:
        return without_items(first, cells if training.profile_dropout else lambda: first, recipe)
    if not training.profile_dropout:
        return first
    number = 1 if training.max_steps is None else math.ceil(_needed(training) / len(first))
    return concatenate_datasets([first, *(cells() for _ in range(number - 1))])


def without_items(first: Dataset, cells: Callable[[], Dataset], recipe: Recipe) -> Dataset:
    """Pass behind pass, each in an order of its own, without item_dropout of the items: as many as max_steps take.

    Of n items floor(share · n + u) are left out, u uniform in [0, 1) and drawn for each pass, so that the share holds
    on average however few items there are; one is always kept. All is drawn with the recipe's seed.

    Args:
        first: the rows of the first pass, with a column question_id.
        cells: gives those of every further one.
        recipe: says how many items, and how many rows training takes.
    """
    items = np.unique(first["question_id"])
    rng = np.random.default_rng([recipe.seed, 4])
    passes: list[Dataset] = []
    while sum(map(len, passes)) < _needed(recipe.training):
        rows = cells() if passes else first
        number = min(int(recipe.training.item_dropout * len(items) + rng.random()), len(items) - 1)
        kept = np.flatnonzero(~np.isin(rows["question_id"], rng.permutation(items)[:number]))
        passes.append(rows.select(rng.permutation(kept)))
    return concatenate_datasets(passes)


def _needed(training: TrainingSection) -> int:
    """Rows that training takes; with several passes max_steps is set (the recipe was checked)."""
    assert training.max_steps is not None
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * processes().num_processes
    return training.max_steps * batch
