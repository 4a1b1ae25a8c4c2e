"""One set of gates for all of a person's tokens, and what is lost where the router would also look at the tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cuma.answering.answerer import Answerer
from cuma.answering.letters import SurveyTokens, option_shares
from cuma.exchange.calibration import TaskTokens
from cuma.exchange.lora import Gates, applied, fold
from cuma.metrics import emd

FOLDS = 2
"""Parts of the calibration set: what gates averaged over the others cost is measured on each."""


@dataclass(frozen=True)
class Cost:
    """How far the LoRA's answers are from the mixture's."""

    kl: float
    """Mean KL(mixture ‖ LoRA) of the next token over the compared positions, in nats."""
    kl_max: float
    """Of the worst position."""
    emd: float | None
    """Mean earth mover's distance between the option distributions, 0 to 1; None: no survey questions."""
    positions: int
    """Compared positions."""

    @classmethod
    def of(cls, parts: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Cost:
        """From the divergences and the distances of some parts of the rows."""
        divergences = [value for part, _ in parts for value in part]
        distances = [value for _, part in parts for value in part]
        mean_emd = float(np.mean(distances)) if distances else None
        return cls(float(np.mean(divergences)), max(divergences), mean_emd, len(divergences))

    def plain(self) -> dict[str, Any]:
        """As it goes into JSON."""
        return asdict(self)


@torch.inference_mode()
def gates_of_person(answerer: Answerer, embeds: Tensor) -> dict[str, Tensor]:
    """Gates [E] by routing layer of a router that looks at the person alone: those of any token."""
    device = next(answerer.model.parameters()).device
    with answerer.recording():
        answerer.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), profile_embeds=embeds)
    return {layer: gates[0, 0].clone() for layer, gates in answerer.model.routing().items()}


@torch.inference_mode()
def mean_gates(answerer: Answerer, rows: Iterable[TaskTokens], embeds: Tensor | None) -> dict[str, Tensor]:
    """Gates [E] by routing layer, averaged over all tokens of the rows."""
    total: dict[str, Tensor] = {}
    tokens = 0
    for row in rows:
        with answerer.recording():
            _logits(answerer, row, embeds)
        tokens += len(row.tokens)
        for layer, gates in answerer.model.routing().items():
            total[layer] = total.get(layer, 0) + gates[0].double().sum(0)
    return {layer: (gates / tokens).float() for layer, gates in total.items()}


def cost_of(answerer: Answerer, rows: Sequence[TaskTokens], embeds: Tensor | None, gates: Gates) -> Cost:
    """What it costs on these rows that the gates are fixed."""
    return Cost.of([_compared(answerer, rows, embeds, gates)])


def cross_checked(answerer: Answerer, rows: Sequence[TaskTokens], embeds: Tensor | None) -> Cost | None:
    """The cost on tasks that the gates were not averaged over: each fold with the gates of the others. None if there is
    one task only."""
    tasks = sorted({row.task for row in rows})
    if len(tasks) < FOLDS:
        return None
    parts = []
    for number in range(FOLDS):
        held_out = set(tasks[number::FOLDS])
        gates = mean_gates(answerer, [row for row in rows if row.task not in held_out], embeds)
        parts.append(_compared(answerer, [row for row in rows if row.task in held_out], embeds, gates))
    return Cost.of(parts)


@torch.inference_mode()
def _compared(
    answerer: Answerer, rows: Sequence[TaskTokens], embeds: Tensor | None, gates: Gates
) -> tuple[list[float], list[float]]:
    """KL of every compared position, and EMD of every survey row."""
    lora = fold(answerer, gates, embeds)
    tokens = SurveyTokens(answerer.tokenizer)
    divergences: list[float] = []
    distances: list[float] = []
    for row in rows:
        whole = _logits(answerer, row, embeds)
        with applied(answerer, lora):
            fixed = _logits(answerer, row, None)
        p, q = whole.double().log_softmax(-1), fixed.double().log_softmax(-1)
        divergences += (p.exp() * (p - q)).sum(-1).clamp(min=0).tolist()
        if row.order:
            shares = [option_shares(logits[-1:], [row.order], tokens)[0] for logits in (whole, fixed)]
            ours, theirs = (share / share.sum() for share in shares)
            distances.append(float(emd(ours, theirs, row.ordinal)))
    return divergences, distances


def _logits(answerer: Answerer, row: TaskTokens, embeds: Tensor | None) -> Tensor:
    """[positions, V] at the compared positions of one row."""
    device = next(answerer.model.parameters()).device
    ids = torch.tensor([row.tokens], device=device)
    conditioning = {} if embeds is None else {"profile_embeds": embeds}
    output = answerer.model(
        input_ids=ids, attention_mask=torch.ones_like(ids), logits_to_keep=row.scored, use_cache=False, **conditioning
    )
    return output.logits[0]
