"""Rewards for GRPO: functions with TRL's signature that also get `profile`, like every other column of the data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cuma.data.surveys.prompts import parse_letter
from cuma.errors import RecipeError
from cuma.judge import Judge, Pair
from cuma.people.profiles import Profile
from cuma.recipes.schema import Recipe


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


def judge_reward(judge: Judge) -> Callable[..., list[float | None]]:
    """A reward: what the judge thinks of a reply beside the row's `reference`, for the row's own person.

    1 if the reply wins, 0.5 at a tie, 0 if it loses; None, which leaves the reply out, if the verdict is invalid. Each
    distinct reply costs two requests. The judge's errors end the training.

    Args:
        judge: compares the replies.

    Returns:
        a function for `CumaGRPOTrainer`. It reads the columns `prompt`, `reference` (another reply, such as the one
        that the person preferred; as text or as messages) and, if there is one, `profile`.
    """

    def reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        reference: Sequence[Any],
        profile: Sequence[Any] | None = None,
        **_: Any,
    ) -> list[float | None]:
        people = [None] * len(completions) if profile is None else profile
        rows = zip(prompts, completions, reference, people, strict=True)
        return judge.scores(
            [Pair(prompt, _text(reply), _text(other), Profile.parse(who)) for prompt, reply, other, who in rows]
        )

    reward.__name__ = "judge_reward"
    return reward


def _agreement(said: int | None, own: int, options: int, order: Sequence[int]) -> float:
    if said is None:
        return 0.0
    if not order:
        return float(said == own)
    return 1 - abs(order[said] - order[own]) / (options - 1)


def _text(completion: Any) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]


@dataclass(frozen=True)
class Reward:
    """A reward that recipes can name."""

    columns: tuple[str, ...]
    """What it reads of the data, beside prompt and profile."""
    make: Callable[[Recipe], Callable[..., list[Any]]]
    """The function, as the recipe wants it."""


REWARDS = {
    "agreement": Reward(("answer", "options", "scale"), lambda recipe: agreement_reward),
    "judge": Reward(("reference",), lambda recipe: judge_reward(Judge(**asdict(recipe.judge)))),
}


def check_reward(recipe: Recipe, columns: Collection[str]) -> None:
    """Refuse a reward that the data cannot feed.

    Args:
        recipe: names the reward.
        columns: of the data.

    Raises:
        RecipeError: the reward reads a column that is not there.
    """
    name = recipe.grpo.reward
    missing = [column for column in REWARDS[name].columns if column not in columns]
    if missing:
        raise RecipeError(
            f"'grpo.reward' is {name!r}, which reads the column {', '.join(map(repr, missing))}; the benchmark "
            f"{recipe.data.benchmark!r} has only {', '.join(columns)}. Choose another reward, or bring rows that have "
            "the column to CumaGRPOTrainer (docs/judge.md)."
        )
