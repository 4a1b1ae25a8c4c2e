"""What anchors know, small and made by hand, and an encoder that knows words."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

import numpy as np

from cuma.data.surveys.survey import Group, Question
from cuma.evaluation.anchor_data import Cells, Known
from cuma.people.profiles import Profile

Shares = Callable[[int, int], list[float]]
"""Group and question, as places → what its people say."""


def bag_of_words(texts: Iterable[str]) -> np.ndarray:
    """[B, 32]: the mean direction of a text's words, each a random one of its own; zeros for no words."""
    rows = []
    for text in texts:
        words = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=32) for word in text.split()]
        total = np.sum(words, axis=0) if words else np.zeros(32)
        rows.append(total / max(float(np.linalg.norm(total)), 1e-12))
    return np.array(rows).reshape(-1, 32)


def question(name: str, options: str, ordinal: bool = True, role: str = "seen", text: str = "") -> Question:
    """Options: their words, with blanks between."""
    return Question(name, text or f"{name}?", tuple(options.split()), ordinal, role)  # type: ignore[arg-type]


def people(count: int, seen: int, fields: bool = True) -> tuple[Group, ...]:
    """Groups g0, g1 …, with three countries by turns, two sexes, and five ages; the first `seen` are seen."""
    groups = []
    for k in range(count):
        of = {"country": f"land{k % 3}", "sex": ("Male", "Female")[k % 2], "age": f"{20 + 10 * (k % 5)}"}
        profile = Profile(**of) if fields else Profile.parse(f"somebody from place{k}")
        groups.append(Group(f"g{k}", profile, "seen" if k < seen else "test"))
    return tuple(groups)


def cells_of(pairs: Iterable[tuple[int, int]], shares: Shares, n: Callable[[int, int], float]) -> Cells:
    """Cells of (group, question), in the order of `Cells`."""
    order = sorted(pairs, key=lambda pair: pair[::-1])
    counts = tuple(np.array(shares(*pair)) * n(*pair) for pair in order)
    places = np.array(order, dtype=np.int64).reshape(-1, 2)
    return Cells(places[:, 0], places[:, 1], counts)


def known(
    questions: tuple[Question, ...],
    groups: tuple[Group, ...],
    shares: Shares,
    n: Callable[[int, int], float] = lambda group, question: 100.0,
    training: Iterable[tuple[int, int]] | None = None,
    choosing: Iterable[tuple[int, int]] = (),
    pooled: bool = True,
    counted: bool = True,
) -> Known:
    """Every group is asked everything. training: (group, question) places; left out: all seen ones."""
    everything = [(g, q) for q in range(len(questions)) for g in range(len(groups))]
    if training is None:
        training = [(g, q) for g, q in everything if groups[g].role == questions[q].role == "seen"]
    asked = np.array(everything, dtype=np.int64)
    both = (cells_of(pairs, shares, n) for pairs in (training, choosing))
    return Known("made", questions, groups, *both, (asked[:, 0], asked[:, 1]), counted, pooled).read(bag_of_words)


def table_of(known: Known, shares: list[np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """(group, question) → what is said of it."""
    places = zip(*known.asked, shares, strict=True)
    return {(known.groups[g].id, known.questions[q].id): said for g, q, said in places}
