"""Rewards for GRPO: functions with TRL's signature that also get `profile`, like every other column of the data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cuma.benchmarks.prompts import LETTERS

_ANSWER = re.compile(rf"\s*\(?([{LETTERS}])(?![A-Za-z])")
"""A reply that begins with one letter: "B", "(B)", "B. No", "B) No". "Because" and "As I see it" are no answers."""


def agreement_reward(
    completions: Sequence[Any],
    answer: Sequence[int],
    options: Sequence[int],
    scale: Sequence[Sequence[int]],
    **_: Any,
) -> list[float]:
    """How far a reply agrees with what the person themself answered. Needs no network.

    1 for the person's own letter, 0 for another or for no letter; on an ordinal item 1 − |Δ| / (m − 1), Δ the steps
    between the two on the scale of m options. It rewards a group's most frequent (on a scale: median) answer, not its
    distribution: read soft EMD beside it.

    Args:
        completions: N replies, as text or as messages.
        answer: N indices of the people's own letters.
        options: N numbers of letters.
        scale: N lists: the option under each letter on an ordinal item, empty on others.

    Returns:
        N rewards in [0, 1].
    """
    rows = zip(completions, answer, options, scale, strict=True)
    return [_agreement(parse_letter(_text(reply), m), own, m, order) for reply, own, m, order in rows]


def parse_letter(reply: str, options: int) -> int | None:
    """The index of the letter that a reply begins with; None if there is none, or none of the `options` shown."""
    found = _ANSWER.match(reply)
    letter = LETTERS.index(found.group(1)) if found else options
    return letter if letter < options else None


def _agreement(said: int | None, own: int, options: int, order: Sequence[int]) -> float:
    if said is None:
        return 0.0
    if not order:
        return float(said == own)
    return 1 - abs(order[said] - order[own]) / (options - 1)


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


REWARDS = {"agreement": agreement_reward}
"""The rewards that recipes can name."""
