"""How people would answer a closed question: the probabilities that `cuma evaluate` measures, for whoever is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from cuma.answering.answerer import Answerer
from cuma.answering.letters import Shares, SurveyTokens, answer_logits, mean_over_orders, option_shares
from cuma.data.surveys.prompts import question_orders, survey_messages
from cuma.data.surveys.survey import Question
from cuma.people.profiles import Profile
from cuma.serving.schemas import OpinionsRequest

ROWS = 32
"""Prompts in one forward."""


@dataclass(frozen=True)
class Opinion:
    """What one person is expected to answer."""

    probabilities: Shares
    """Over the options, in the order in which they were given; sums to 1."""
    option_mass: float
    """Probability of all letters together before renormalising; low: the model would rather say something else."""
    experts: dict[str, list[float]] | None
    """Mean gates [E] over the prompt's tokens and the letter orders, by routing layer; None: not asked for, or no
    mixture."""


class OpinionBatch:
    """A question put to several people in all its letter orders: rows that are forwarded in batches."""

    def __init__(
        self,
        answerer: Answerer,
        text: str,
        options: Sequence[str],
        people: Sequence[Profile],
        *,
        ordinal: bool = False,
        routing: bool = False,
    ) -> None:
        """ordinal: the options are steps on a scale.

        Raises:
        ProfileError: somebody is described to a model that reads no profile.
        BenchmarkError: the tokenizer does not write letters as one token.
        """
        self.answerer = answerer
        self.routing = routing and answerer.config is not None
        self.tokens = SurveyTokens(answerer.tokenizer, answerer.source.padding_side)
        self.tokens.letters(len(options))
        self.people = len(people)
        question = Question("opinions", text, tuple(options), ordinal, option_orders=answerer.source.option_orders)
        self.orders = question_orders(question)
        texts = [person.sentence if answerer.profile_in_prompt else None for person in people]
        self.prompts = [
            self.tokens.prompt(survey_messages(question, order, persona)) for persona in texts for order in self.orders
        ]
        embeds = answerer.embeds(people)
        self.embeds = None if embeds is None else embeds.repeat_interleave(len(self.orders), 0)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(map(len, self.prompts))

    def parts(self) -> Iterator[Callable[[], list[tuple[Shares, dict[str, Any]]]]]:
        """The work, cut into forwards of at most `ROWS` rows, to be run by whoever runs the model, in order."""
        for start in range(0, len(self.prompts), ROWS):
            yield partial(self._forward, slice(start, start + ROWS))

    def opinions(self, done: Sequence[tuple[Shares, dict[str, Any]]]) -> list[Opinion]:
        """One opinion for each person, from the results of all parts."""
        orders = len(self.orders)
        opinions = []
        for start in range(0, len(done), orders):
            rows = done[start : start + orders]
            probabilities, mass = mean_over_orders([shares for shares, _ in rows])
            layers = rows[0][1]
            experts = {layer: np.mean([gates[layer] for _, gates in rows], axis=0).tolist() for layer in layers}
            opinions.append(Opinion(probabilities, mass, experts or None))
        return opinions

    @torch.inference_mode()
    def _forward(self, rows: slice) -> list[tuple[Shares, dict[str, Any]]]:
        """(shares over the options, mean gates by layer) for some rows."""
        self.answerer.activate()
        model = self.answerer.model
        device = next(model.parameters()).device
        batch = {name: tensor.to(device) for name, tensor in self.tokens.batch(self.prompts[rows]).items()}
        conditioning = {} if self.embeds is None else {"profile_embeds": self.embeds[rows]}
        gates: dict[str, Any] = {}
        if self.routing:
            with self.answerer.recording():
                logits, _ = answer_logits(model, batch, **conditioning)
            gates = {layer: _mean(recorded, batch["attention_mask"]) for layer, recorded in model.routing().items()}
        else:
            logits, _ = answer_logits(model, batch, **conditioning)
        count = len(self.prompts[rows])
        orders = [self.orders[(rows.start + row) % len(self.orders)] for row in range(count)]
        shares = option_shares(logits, orders, self.tokens)
        return [(shares[row], {layer: mean[row] for layer, mean in gates.items()}) for row in range(count)]


def ask(asking: OpinionBatch, run: Callable[[Callable[[], Any]], Future[Any]]) -> list[Opinion]:
    """Wait for the opinions; `run` hands each part to the thread that runs the model (`Engine.call`)."""
    return asking.opinions([row for part in asking.parts() for row in run(part).result()])


def of_population(opinions: Sequence[Opinion], weights: Sequence[float]) -> tuple[Shares, float]:
    """The whole population's answer: probabilities and option mass, people counting with their weights."""
    share = np.asarray(weights, dtype=np.float64)
    share = share / share.max()
    share = share / share.sum()
    whole = np.einsum("p,po->o", share, np.stack([opinion.probabilities for opinion in opinions]))
    return whole / whole.sum(), float(share @ [opinion.option_mass for opinion in opinions])


def reply_of(model: str, body: OpinionsRequest, answers: Sequence[Opinion]) -> dict[str, Any]:
    """What /v1/opinions says. answers: one for each of the body's members."""
    whole, mass = of_population(answers, [member.weight for member in body.members])
    entries = [
        {"index": index, "probabilities": opinion.probabilities.tolist(), "option_mass": opinion.option_mass}
        | ({"experts": opinion.experts} if opinion.experts else {})
        for index, opinion in enumerate(answers)
    ]
    return {
        "object": "opinions",
        "model": model,
        "options": body.options,
        "data": entries,
        "population": {"probabilities": whole.tolist(), "option_mass": mass},
    }


def _mean(gates: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """[B, E] mean gates over each row's real tokens, from gates [B, T, E] and mask [B, T]."""
    weight = mask.unsqueeze(-1).to(gates)
    return ((gates * weight).sum(1) / weight.sum(1)).float().cpu().numpy()
