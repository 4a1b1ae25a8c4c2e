"""The next token of one conversation, from its own logits and its own random numbers: nobody else's batch matters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

NUCLEUS_TRIES = 256
"""So many of the likeliest tokens are looked at first for top_p; sorting a whole vocabulary costs milliseconds."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen, in OpenAI's words."""

    temperature: float = 1.0
    """0: always the likeliest token, ties going to the lowest id."""
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    """None: unlike any other request's."""


class Choice(NamedTuple):
    """One chosen token."""

    token: int
    logprob: float
    """Natural logarithm of its probability under the model, before temperature and top_p."""
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens and their log-probabilities, as many as were asked for."""


class Sampler:
    """Chooses one conversation's tokens. The same seed, prompt and person give the same tokens in any batch, wherever
    no two candidates are closer than what rounding can move."""

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed % 2**63)
        self._counts: Counter[int] = Counter()

    def choose(self, logits: Tensor, top: int | None = None) -> Choice:
        """Args:
        logits: [V] fp32 on the CPU.
        top: how many of the likeliest tokens to tell; None: not even the chosen one's log-probability is wanted.
        """
        token = self._choose(self._penalised(logits))
        self._counts[token] += 1
        if top is None:
            return Choice(token, float("nan"), ())
        logprobs = logits.log_softmax(-1)
        values, ids = logprobs.topk(top) if top else (logprobs[:0], logprobs[:0].long())
        return Choice(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))

    def _penalised(self, logits: Tensor) -> Tensor:
        often, ever = self.sampling.frequency_penalty, self.sampling.presence_penalty
        if not self._counts or not (often or ever):
            return logits
        ids = torch.tensor(list(self._counts))
        counts = torch.tensor(list(self._counts.values()), dtype=logits.dtype)
        return logits.index_add(0, ids, -(often * counts + ever))

    def _choose(self, logits: Tensor) -> int:
        if self.sampling.temperature == 0:
            return int(logits.argmax())
        scores = logits.double() / self.sampling.temperature
        if self.sampling.top_p < 1:
            scores = scores.masked_fill(~nucleus(scores.softmax(-1), self.sampling.top_p), float("-inf"))
        # The Gumbel trick: every token has a random number of its own, and the best sum wins. The winner changes only
        # where the two best sums are nearer than rounding moves them; with one number and the inverse distribution
        # function, each of the vocabulary's 50,000 borders would be such a place.
        waiting = torch.empty_like(scores).exponential_(generator=self._generator)
        return int((scores - waiting.log()).argmax())


def nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """bool [V]: the smallest set of likeliest tokens whose probability reaches `top_p`."""
    for count in (min(NUCLEUS_TRIES, len(probabilities)), len(probabilities)):
        values, ids = probabilities.topk(count)
        kept = values.cumsum(-1) - values < top_p
        if not bool(kept.all()):
            break
    kept[0] = True
    return torch.zeros_like(probabilities, dtype=torch.bool).index_fill(0, ids[kept], True)
