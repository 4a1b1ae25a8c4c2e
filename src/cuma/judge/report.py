"""What many verdicts add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cuma.judge.question import TEMPLATE_VERSION, Pair
from cuma.metrics import length_controlled_win_rate


@dataclass(frozen=True)
class Outcome:
    """One pair in both orders: the candidate's score in each, None where the verdict is invalid."""

    as_a: float | None
    as_b: float | None

    @property
    def is_consistent(self) -> bool:
        """True if the two orders agree."""
        return self.as_a == self.as_b

    @property
    def score(self) -> float | None:
        """1, 0.5 or 0; 0.5 if the orders disagree, None if either verdict is invalid."""
        if self.as_a is None or self.as_b is None:
            return None
        return self.as_a if self.is_consistent else 0.5


@dataclass(frozen=True)
class Tally:
    """What judging took."""

    verdicts: int
    """Distinct questions answered: two for a pair, unless pairs repeat."""
    invalid: int
    """Verdicts that were not valid, even when asked again."""
    requests: int
    """Requests sent, second tries and failed ones included."""
    failures: int
    """Requests that failed, most of which were made again."""
    cache_hits: int
    """Verdicts that were known already."""

    def since(self, before: Tally) -> Tally:
        """The difference to an earlier tally."""
        return Tally(
            self.verdicts - before.verdicts,
            self.invalid - before.invalid,
            self.requests - before.requests,
            self.failures - before.failures,
            self.cache_hits - before.cache_hits,
        )


@dataclass(frozen=True)
class JudgeReport:
    """The result of one comparison. Holds no text. Rates are NaN when no pair has a score."""

    model: str
    """The judge."""
    template_version: str
    """Of the question it was asked."""
    pairs: int
    """How many were given."""
    win_rate: float
    """The candidates' mean score; a tie counts one half. Pairs with an invalid verdict are left out, here and below."""
    length_controlled_win_rate: float
    """The same at equal length: see `cuma.metrics.length_controlled_win_rate`. Read both."""
    position_consistency: float
    """The share of pairs on which the two orders agree. A judge that tosses coins has 0.5, one that reads only the
    first reply has 0."""
    tally: Tally
    """Verdicts, invalid ones, requests, cache hits."""
    scores: tuple[float | None, ...]
    """One for each pair: 1, 0.5, 0, or None where a verdict is invalid."""


def summarise(model: str, pairs: Sequence[Pair], outcomes: Sequence[Outcome], tally: Tally) -> JudgeReport:
    """The report on `pairs` and their outcomes, in the same order."""
    all_scores = tuple(outcome.score for outcome in outcomes)
    rows = zip(pairs, outcomes, all_scores, strict=True)
    scored = [(pair, outcome.is_consistent, score) for pair, outcome, score in rows if score is not None]
    scores = [score for _, _, score in scored]
    return JudgeReport(
        model=model,
        template_version=TEMPLATE_VERSION,
        pairs=len(pairs),
        win_rate=float(np.mean(scores)) if scores else np.nan,
        length_controlled_win_rate=length_controlled_win_rate(
            scores, [len(pair.candidate) for pair, _, _ in scored], [len(pair.reference) for pair, _, _ in scored]
        ),
        position_consistency=float(np.mean([agree for _, agree, _ in scored])) if scored else np.nan,
        tally=tally,
        scores=all_scores,
    )
