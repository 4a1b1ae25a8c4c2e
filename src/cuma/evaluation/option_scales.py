"""Questions whose answers can be laid on one another, so that one item's answers say something of another's.

All ordinal questions are one kind: with as many options, first lies on first; otherwise an option is a stretch of the
line from 0 to 1, with people spread evenly on it, and the line is cut anew. Ordinal questions with the same words in
another order, such as reversed scales, lie word on word. Nominal questions are of one kind only if their options have
the same words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cuma.data.surveys.survey import Question
from cuma.evaluation.anchor_data import Cells, Floats, Ints, Known, Said

OWN, SAME, LIKE, NONE = (
    "the item's own answers", "items with the same options", "ordinal items", "no training item with such options",
)  # fmt: skip
"""What a prediction of an item is made from."""


def words(question: Question) -> tuple[str, ...]:
    """The options, whatever their case, unless nothing else tells them apart."""
    folded = tuple(option.casefold() for option in question.options)
    return folded if len(set(folded)) == len(folded) else question.options


def in_order(values: Floats, of: tuple[str, ...], wanted: tuple[str, ...]) -> Floats:
    """Values of options, in the order of the wanted ones, which are the same."""
    return np.asarray(values[[of.index(option) for option in wanted]])


def recut(shares: Floats, size: int) -> Floats:
    """The shares [m] of an ordinal question as shares of `size` options."""
    if len(shares) == size:
        return shares
    below = np.concatenate([[0.0], np.cumsum(shares)])
    return np.diff(np.interp(np.linspace(0, 1, size + 1), np.linspace(0, 1, len(below)), below))


def average(known: Known, question: int) -> tuple[Floats, str]:
    """A question's own average; of a new one, the mean over training questions with the same options, or every option
    alike; and which it was."""
    own = known.training.where(known.training.question == question)
    if len(own):
        table = np.stack(own.counts)
        return (table.sum(axis=0) / table.sum() if known.pooled else np.stack(own.shares).mean(axis=0)), OWN
    wanted = words(known.questions[question])
    same = [k for k in known.trained if sorted(words(known.questions[k])) == sorted(wanted)]
    if not same:
        return np.full(len(wanted), 1 / len(wanted)), NONE
    return np.mean([in_order(average(known, k)[0], words(known.questions[k]), wanted) for k in same], axis=0), SAME


def position(known: Known, question: int) -> tuple[Floats, str]:
    """As the average; but of a new ordinal question, the mean by position over ordinal training questions with as many
    options, or else over all of them."""
    if question in known.trained or not known.questions[question].ordinal:
        return average(known, question)
    size = len(known.questions[question].options)
    scales = [k for k in known.trained if known.questions[k].ordinal]
    alike = [k for k in scales if len(known.questions[k].options) == size] or scales
    return (
        (np.mean([recut(average(known, k)[0], size) for k in alike], axis=0), LIKE)
        if alike
        else average(known, question)
    )


def said_of(known: Known, shares: list[Floats | None], new: str, left_out: int = 0) -> Said:
    """What is said of the asked cells; where that is None, the average. new: from what new items are answered."""
    without = {int(k) for k, answer in zip(known.asked[1], shares, strict=True) if answer is None}
    averages = {k: average(known, k) for k in without}
    items = {int(k): averages[k][1] if k in averages else OWN if k in known.trained else new for k in known.asked[1]}
    answers = [
        averages[int(k)][0] if answer is None else answer for k, answer in zip(known.asked[1], shares, strict=True)
    ]
    return Said(answers, dict(sorted(Counter(items.values()).items())), left_out)


def same_for_all(known: Known, rule: Callable[[Known, int], tuple[Floats, str]]) -> Said:
    """What a rule says of each question, to every group."""
    told = {int(question): rule(known, int(question)) for question in np.unique(known.asked[1])}
    sources = Counter(source for _, source in told.values())
    return Said([told[int(question)][0] for question in known.asked[1]], dict(sorted(sources.items())))


@dataclass(frozen=True, eq=False)
class Scale:
    """The questions of one kind that training knows."""

    known: Known
    cells: Cells
    """Their training cells."""
    orders: dict[tuple[str, ...], tuple[str, ...]]
    """Sorted words of the options → the order in which the kind has them."""

    def targets(self, size: int) -> tuple[Floats, Floats]:
        """[N, size] and [size]: roots of the cells' shares, less the mean over questions with as many options; and that
        mean for questions of `size` options.

        The root makes a share's noise the same whatever the share, 1 / 4n (Bartlett 1936).
        """
        of = self.cells.question
        roots = np.sqrt([recut(self._ordered(row), size) for row in range(len(self.cells))])
        sizes = np.array([len(counts) for counts in self.cells.counts])
        middles = {number: self._middle(roots, of, sizes == number) for number in set(sizes.tolist())}
        mean = middles[size] if size in middles else self._middle(roots, of, sizes > 0)
        return roots - np.stack([middles[number] for number in sizes.tolist()]), mean

    def only(self, kept: NDArray[np.bool_]) -> Scale:
        """The same of some of the cells [N]."""
        return Scale(self.known, self.cells.where(kept), self.orders)

    def predictions(self, asked: Ints, predict: Callable[[Ints, Floats], Floats]) -> list[tuple[int, Floats]]:
        """Asked places [A], each with the shares of its options, from what `predict` says, given rows of `asked` and
        the cells' targets [N, m], of roots less their mean."""
        lengths = np.array([len(self.known.questions[k].options) for k in self.known.asked[1][asked]])
        found = []
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            roots, mean = self.targets(int(length))
            shares = squared(predict(rows, roots) + mean)
            for row, answer in zip(asked[rows].tolist(), shares, strict=True):
                found.append((row, self._back(answer, int(self.known.asked[1][row]))))
        return found

    def _back(self, shares: Floats, question: int) -> Floats:
        own = words(self.known.questions[question])
        return in_order(shares, self.orders.get(tuple(sorted(own)), own), own)

    def _ordered(self, row: int) -> Floats:
        own = words(self.known.questions[int(self.cells.question[row])])
        return in_order(self.cells.shares[row], own, self.orders[tuple(sorted(own))])

    @staticmethod
    def _middle(roots: Floats, of: Ints, rows: NDArray[np.bool_]) -> Floats:
        return np.mean([roots[rows & (of == k)].mean(axis=0) for k in np.unique(of[rows])], axis=0)


def squared(roots: Floats) -> Floats:
    """Shares [A, m] from roots that a linear rule gave."""
    shares = np.maximum(roots, 1e-6) ** 2
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def scales(known: Known, cells: Cells) -> list[tuple[Scale, Ints]]:
    """Each kind that has cells to fit on, with the asked places [A] that it answers."""
    kinds = [_kind(question) for question in known.questions]
    by_kind: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place in np.unique(cells.question):
        by_kind[kinds[place]].append(int(place))
    found = []
    for kind, places in sorted(by_kind.items()):
        asked = np.array([kinds[question] == kind for question in known.asked[1]], dtype=bool)
        own = cells.where(np.isin(cells.question, places))
        found.append((Scale(known, own, _orders([known.questions[k] for k in places])), np.flatnonzero(asked)))
    return found


def _kind(question: Question) -> tuple[str, ...]:
    return ("ordinal",) if question.ordinal else ("nominal", *sorted(words(question)))


def _orders(questions: list[Question]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The commonest order of each set of options."""
    met = Counter(words(question) for question in questions)
    return {tuple(sorted(order)): order for order, _ in sorted(met.items(), key=lambda one: (one[1], one[0]))}
