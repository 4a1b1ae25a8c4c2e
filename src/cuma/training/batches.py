"""Datasets and batches: TRL's own columns, plus who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cuma.answering.letters import NO_TOKEN, SurveyTokens
from cuma.errors import ProfileError

if TYPE_CHECKING:
    from datasets import Dataset

PROFILE = "profile"
"""The dataset column that says who asks: an object of fields, a sentence, or null."""
SURVEY_COLUMNS = ("input_ids", "answer_tokens", "answer_weights")
"""Columns of a tokenised survey dataset, beside the profile."""
Embed = Callable[[Sequence[Any]], Tensor]
"""B profiles → [B, D] raw embeddings."""


def tokenise_cells(cells: Dataset, tokens: SurveyTokens, counts: bool = False) -> Dataset:
    """Survey cells as training rows.

    Args:
        cells: from `survey_cells`.
        tokens: the tokeniser.
        counts: people count alike, so that a cell counts as the number of its people. Otherwise cells count alike,
            however many people they have: small groups are heard as well as large ones.

    Returns:
        A dataset with input_ids (the prompt), answer_tokens [m] (the letters), answer_weights [m] (how many of the
        cell's people, or which share of them, chose each letter) and profile.
    """

    from datasets import Dataset

    return Dataset.from_list([_tokenised(cell, tokens, counts) for cell in cells])


def tokenise_answers(answers: Dataset, tokens: SurveyTokens) -> Dataset:
    """One person's answer a row, as a training row: the paper's letter loss.

    Args:
        answers: from `survey_answers`.
        tokens: the tokeniser.

    Returns:
        The columns of `tokenise_cells`; all of a row's weight, the person's survey weight, is on their own letter.
    """
    from datasets import Dataset

    known: dict[str, list[int]] = {}  # few prompts are asked of many people

    def row(answer: Mapping[str, Any]) -> dict[str, Any]:
        key = repr(answer["prompt"])
        if key not in known:
            known[key] = tokens.prompt(answer["prompt"])
        weights = [0.0] * answer["options"]
        weights[answer["answer"]] = answer["weight"]
        return {
            "input_ids": known[key],
            "answer_tokens": tokens.letters(answer["options"]),
            "answer_weights": weights,
            PROFILE: answer[PROFILE],
        }

    return Dataset.from_list([row(answer) for answer in answers])


def _tokenised(cell: Mapping[str, Any], tokens: SurveyTokens, counts: bool) -> dict[str, Any]:
    whole = 1.0 if counts else sum(cell["answer_counts"])
    return {
        "input_ids": tokens.prompt(cell["prompt"]),
        "answer_tokens": tokens.letters(len(cell["answer_counts"])),
        "answer_weights": [count / whole for count in cell["answer_counts"]],
        PROFILE: cell[PROFILE],
    }


class SurveyCollator:
    """Pads tokenised survey rows and adds profile_embeds [B, D] if the model reads them."""

    def __init__(self, tokens: SurveyTokens, embed: Embed | None) -> None:
        """Args:
        tokens: pads prompts.
        embed: looks profiles up; None: the model gets none.
        """
        self.tokens = tokens
        self.embed = embed

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Returns the model's inputs, last [B], answer_tokens [B, M] (padded with -1) and answer_weights [B, M]."""
        batch = self.tokens.batch([row["input_ids"] for row in rows])
        width = max(len(row["answer_tokens"]) for row in rows)
        batch["answer_tokens"] = torch.tensor([_padded(row["answer_tokens"], width, NO_TOKEN) for row in rows])
        batch["answer_weights"] = torch.tensor([_padded(row["answer_weights"], width, 0.0) for row in rows])
        if self.embed is not None:
            batch["profile_embeds"] = self.embed(profiles_of(rows))
        return batch


class ProfileCollator:
    """Any TRL collator, plus profile_embeds [B, D] from the rows' profile column."""

    def __init__(self, inner: Callable[[list[dict[str, Any]]], dict[str, Any]], embed: Embed, repeats: int = 1) -> None:
        """Args:
        inner: the trainer's own collator.
        embed: looks profiles up.
        repeats: how often `inner` repeats its rows, block by block ([chosen; rejected]: 2).
        """
        self.inner = inner
        self.embed = embed
        self.repeats = repeats

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Returns what `inner` returns, and profile_embeds [repeats · B, D]."""
        batch = self.inner([{key: value for key, value in row.items() if key != PROFILE} for row in rows])
        return {**batch, "profile_embeds": self.embed(profiles_of(rows)).repeat(self.repeats, 1)}


def profiles_of(rows: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The rows' profiles. Raises ProfileError if a row has none."""
    try:
        return [row[PROFILE] for row in rows]
    except KeyError:
        raise no_profile() from None


def no_profile() -> ProfileError:
    """The error of data that do not say who asks."""
    return ProfileError(
        f"the dataset has no {PROFILE!r} column. Add one (an object of fields, a sentence, or null for nobody in "
        'particular), or train with CumaConfig(router_input="semantic").'
    )


def _padded(values: Sequence[float], width: int, filler: float) -> list[float]:
    return [*values, *[filler] * (width - len(values))]
