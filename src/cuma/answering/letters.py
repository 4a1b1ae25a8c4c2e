"""From survey cells to model inputs: tokens of the prompt, the letters' token ids, padding.

Shared by training and evaluation, so that both ask exactly the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cuma.data.surveys.prompts import LETTERS
from cuma.errors import BenchmarkError
from cuma.models.chat_template import conversation_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Shares = NDArray[np.float64]
"""Probabilities over the options of one question."""


NO_TOKEN = -1
"""Pads answer tokens."""


class SurveyTokens:
    """Tokenises prompts and pads batches.

    Attributes:
        padding_side: "left" or "right"; results do not depend on it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, padding_side: str = "left") -> None:
        """Args:
            tokenizer: the model's.
            padding_side: "left" or "right".

        Raises:
            BenchmarkError: another padding side.
        """
        if padding_side not in ("left", "right"):
            raise BenchmarkError(f"padding_side is {padding_side!r}; allowed: 'left', 'right'.")
        self.tokenizer = tokenizer
        self.padding_side = padding_side
        self.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the answer's first token goes. Raises ConversationError."""
        return conversation_tokens(self.tokenizer, messages)

    def letters(self, count: int) -> list[int]:
        """Token ids of the first `count` answer letters, as they stand at the start of an answer.

        Raises:
            BenchmarkError: the tokenizer splits a letter, or does not tell two apart.
        """
        ids = [self.tokenizer.encode(letter, add_special_tokens=False) for letter in LETTERS[:count]]
        if any(len(tokens) != 1 for tokens in ids) or len({tokens[0] for tokens in ids}) < count:
            raise BenchmarkError(
                f"this tokenizer does not write each of the {count} answer letters to {LETTERS[count - 1]} as one "
                "token of its own. Ask questions with fewer options, or use another model."
            )
        return [tokens[0] for tokens in ids]

    def batch(self, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Pad prompts to a batch.

        Args:
            prompts: B lists of token ids.

        Returns:
            input_ids, attention_mask, position_ids [B, T] (positions start at 0 on each row's first real token), and
            last [B], the index of each row's last real token.
        """
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.full((len(prompts), width), self.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            start = width - len(prompt) if self.padding_side == "left" else 0
            ids[row, start : start + len(prompt)] = torch.tensor(list(prompt))
            mask[row, start : start + len(prompt)] = 1
        last = torch.full_like(lengths, width - 1) if self.padding_side == "left" else lengths - 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "last": last}


def answer_logits(model: Any, batch: Mapping[str, Tensor], **conditioning: Any) -> tuple[Tensor, Any]:
    """Next-token logits after each row's last real token.

    Only the positions that are needed go through the output head: with a 49,152-word vocabulary that head costs more
    than several layers.

    Args:
        model: a causal LM (bare or PeftModel).
        batch: from `SurveyTokens.batch`, on the model's device.
        conditioning: further keywords for the model, such as profile_embeds.

    Returns:
        logits [B, V] fp32 and the model's output.
    """
    last = batch["last"]
    kept, inverse = torch.unique(last, return_inverse=True)
    output = model(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        position_ids=batch["position_ids"],
        logits_to_keep=kept,
        use_cache=False,
        **conditioning,
    )
    rows = torch.arange(len(last), device=last.device)
    return output.logits[rows, inverse].float(), output


def survey_loss(logits: Tensor, answer_tokens: Tensor, answer_weights: Tensor, whole: Tensor | None = None) -> Tensor:
    """−Σ w log p(letter) / Σ w: the letter loss of one respondent a row, for a whole cell at once.

    Args:
        logits: [B, V] fp32 next-token logits.
        answer_tokens: [B, M], padded with -1.
        answer_weights: [B, M], how many people (or which share) gave each answer.
        whole: scalar to divide by in the place of Σ w: what such a batch weighs on average, where it is one of several.

    Returns:
        scalar.
    """
    log_p = logits.log_softmax(dim=-1).gather(-1, answer_tokens.clamp(min=0))
    weights = answer_weights * (answer_tokens != NO_TOKEN)
    return -(weights * log_p).sum() / (weights.sum() if whole is None else whole)


def option_shares(logits: Tensor, orders: Sequence[Sequence[int]], tokens: SurveyTokens) -> list[Shares]:
    """Probability of each option (not letter), not renormalised.

    Args:
        logits: [B, V] next-token logits.
        orders: B letter orders; order[i] is the option under letter i.
        tokens: knows the letters' token ids.

    Returns:
        B arrays, each over its question's options.
    """
    probability = logits.double().softmax(-1).cpu()
    result = []
    for order, row in zip(orders, probability, strict=True):
        result.append(by_option(order, row[tokens.letters(len(order))].numpy()))
    return result


def by_option(order: Sequence[int], shown: Shares) -> Shares:
    """Probabilities of the options, from those of the letters under which they were shown."""
    options = np.empty_like(shown)
    options[list(order)] = shown
    return options


def mean_over_orders(shares: Sequence[Shares]) -> tuple[Shares, float]:
    """One question's answer from its letter orders: probabilities that sum to 1, and the option mass."""
    raw = np.stack(list(shares))
    total = raw.sum(-1, keepdims=True)
    each = np.where(total > 0, raw / np.where(total > 0, total, 1.0), 1 / raw.shape[-1])  # no letter at all: uniform
    mean = each.mean(0)
    return mean / mean.sum(), float(raw.sum(-1).mean())
