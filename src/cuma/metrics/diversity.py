"""How varied texts are: Distinct-n and Self-BLEU, always at the same number of tokens.

Both depend strongly on how much text there is, so texts are dealt into blocks of a fixed budget of tokens, each block
is measured by itself, and the figure is the mean over blocks with Student's 95 % interval. What is left over is not
used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cuma.metrics.pointwise import distinct_n

BUDGET = 500
"""Tokens in a block."""
ORDERS = 4
"""Self-BLEU is BLEU-4."""
SMOOTHING = 0.1
"""Counted where a text shares no n-gram of an order (Chen & Cherry 2014, method 1), so that one order cannot make 0."""

_TOKEN = re.compile(r"\w+|[^\w\s]")
Block = list[list[str]]


def words(text: str) -> list[str]:
    """Lower-case words and single punctuation marks: tokens that do not depend on any model's tokenizer."""
    return _TOKEN.findall(text.casefold())


def blocks(texts: Sequence[str], budget: int = BUDGET, seed: int = 0) -> list[Block]:
    """Texts in a random order, dealt into blocks of exactly `budget` tokens; a text may be cut at a block's end."""
    full: list[Block] = []
    block: Block = []
    room = budget
    for place in np.random.default_rng(seed).permutation(len(texts)):
        tokens = words(texts[place])
        while tokens:
            part, tokens = tokens[:room], tokens[room:]
            block.append(part)
            room -= len(part)
            if not room:
                full.append(block)
                block, room = [], budget
    return full


def self_bleu(texts: Sequence[Sequence[str]]) -> float:
    """Mean BLEU-4 of each text against all the others (Zhu et al. 2018): 1 is the same text over and over.

    Texts of fewer than four tokens take part as references only. NaN with fewer than two texts, or none that long.
    """
    if len(texts) < 2:
        return float("nan")
    grams = [[Counter(_grams(text, n)) for text in texts] for n in range(1, ORDERS + 1)]
    most = [_two_largest(counts) for counts in grams]
    lengths = [len(text) for text in texts]
    scores = [
        _bleu(place, [counts[place] for counts in grams], most, lengths)
        for place in range(len(texts))
        if lengths[place] >= ORDERS
    ]
    return float(np.mean(scores)) if scores else float("nan")


def _grams(text: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(text[start : start + n]) for start in range(len(text) - n + 1)]


def _two_largest(counts: list[Counter]) -> dict[tuple[str, ...], tuple[int, int, int]]:
    """n-gram → how often the text with most of it has it, which text that is, and how often the next one has it."""
    largest: dict[tuple[str, ...], tuple[int, int, int]] = {}
    for place, own in enumerate(counts):
        for gram, count in own.items():
            best, whose, next_best = largest.get(gram, (0, -1, 0))
            largest[gram] = (count, place, best) if count > best else (best, whose, max(next_best, count))
    return largest


def _bleu(place: int, own: list[Counter], most: list[dict], lengths: list[int]) -> float:
    """Papineni et al. 2002: the geometric mean of clipped precisions, times the brevity penalty."""
    logs = []
    for grams, largest in zip(own, most, strict=True):
        shared = 0
        for gram, count in grams.items():
            best, whose, next_best = largest[gram]
            shared += min(count, next_best if whose == place else best)
        logs.append(np.log((shared or SMOOTHING) / sum(grams.values())))
    length, others = lengths[place], lengths[:place] + lengths[place + 1 :]
    closest = min(others, key=lambda other: (abs(other - length), other))
    return float(np.exp(np.mean(logs) + min(0.0, 1 - closest / length)))


def diversity(texts: Sequence[str], budget: int = BUDGET, seed: int = 0) -> dict[str, Any]:
    """Distinct-1, Distinct-2 and Self-BLEU: {"distinct_1": {"value", "low", "high"}, …, "budget", "blocks"}."""
    parts = blocks(texts, budget, seed)
    measures: dict[str, Callable[[Block], float]] = {
        "distinct_1": lambda block: distinct_n(block, 1),
        "distinct_2": lambda block: distinct_n(block, 2),
        "self_bleu": self_bleu,
    }
    means = {name: mean_over([measure(block) for block in parts]) for name, measure in measures.items()}
    return {**means, "budget": budget, "blocks": len(parts), "texts": len(texts)}


def mean_over(values: Sequence[float], bounds: tuple[float, float] = (0.0, 1.0)) -> dict[str, float | None]:
    """The mean with Student's 95 % interval over independent units; None where there are none, or but one."""
    known = np.array([value for value in values if np.isfinite(value)])
    if not len(known):
        return {"value": None, "low": None, "high": None}
    mean = float(known.mean())
    if len(known) < 2:
        return {"value": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, len(known) - 1) * stats.sem(known))
    return {"value": mean, "low": max(mean - half, bounds[0]), "high": min(mean + half, bounds[1])}
