"""One reply that is being written: what was asked for, what has come so far, and who is to be told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from cuma.answering.answerer import Answerer
from cuma.errors import ServingError
from cuma.serving.prefixes import Owner
from cuma.serving.sampling import Choice, Sampler, Sampling
from cuma.serving.text import Writer


@dataclass(frozen=True, eq=False)
class Order:
    """What is to be generated."""

    answerer: Answerer
    prompt: Sequence[int]
    """Token ids, at least one."""
    embeds: Tensor | None
    """[1, D] what the router reads of the person; None: it reads nothing."""
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop: Sequence[str] = ()
    top_logprobs: int | None = None
    """How many alternatives to tell of each token; 0: only the token's own log-probability; None: nothing."""
    routing: bool = False
    """True: tell which experts spoke."""
    continues: bool = False
    """True: the reply goes on with the prompt's text, in the middle of a sentence perhaps."""
    client: str = ""
    """Whose kept keys and values may be used; see `Owner`."""

    @property
    def owner(self) -> Owner:
        """Whose cached prompt may be used: of this adapter, client and person."""
        person = b"" if self.embeds is None else self.embeds.numpy().tobytes()
        return Owner(self.answerer.name, self.client, person)


@dataclass(frozen=True)
class TokenText:
    """A token that may be told, and the text that can be shown with it."""

    choice: Choice
    text: str
    offset: int
    """Whole characters of the reply before it."""
    opens: bool
    """True for the reply's first token, whose space some decoders drop."""


@dataclass(frozen=True)
class Ended:
    """The end of a reply."""

    reason: str
    """"stop", "length", "cancelled" or "error"."""
    text: str = ""
    """What was held back for a stop string that did not come."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    experts: dict[str, list[float]] | None = None
    """Mean gates [E] of the tokens that were said, by routing layer, if they were asked for."""


Event = TokenText | Ended


class Generation:
    """A reply in the making. The engine's thread writes; others only cancel."""

    def __init__(self, order: Order, tell: Callable[[Event], Any]) -> None:
        """Args:
        order: what is asked for.
        tell: called in the engine's thread with every event, `Ended` last; must not block.
        """
        self.order = order
        self.sampler = Sampler(order.sampling)
        self.tokens: list[int] = []
        self.slot = -1
        """Where its keys and values are while it runs."""
        self.cached = 0
        self._writer = Writer(order.answerer.tokenizer, order.stop, continues=order.continues)
        self._tell = tell
        self._gates: dict[str, np.ndarray] = {}
        self._cancelled = threading.Event()
        self._over = False

    def cancel(self) -> None:
        """Nobody listens any more: the slot is freed before the next token. From any thread, and more than once."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether the client has gone."""
        return self._cancelled.is_set()

    def choose(self, logits: Tensor) -> str | None:
        """Take the next token from `logits` [V], and tell it. Returns why the reply ends with it, or None.

        Raises:
            ServingError: the model's numbers are not finite.
        """
        if not bool(logits.isfinite().any()) or bool(logits.isnan().any()):
            raise ServingError("the model's logits are not finite")
        choice = self.sampler.choose(logits, self.order.top_logprobs)
        self.tokens.append(choice.token)
        if choice.token in ends_of(self.order.answerer):
            return "stop"
        piece = self._writer.push(choice.token)
        if piece.text or not piece.stopped:
            self._tell(TokenText(choice, piece.text, piece.offset, piece.opens))
        if piece.stopped:
            return "stop"
        return "length" if len(self.tokens) >= self.order.max_tokens else None

    def note_gates(self, gates: dict[str, Tensor], row: int) -> None:
        """Add up which experts made the next token: gates [B, T, E] by layer, the last token of `row`."""
        for layer, tensor in gates.items():
            self._gates[layer] = self._gates.get(layer, 0) + tensor[row, -1].float().cpu().numpy()

    def end(self, reason: str) -> None:
        """Tell that it is over; only the first call does anything."""
        if self._over:
            return
        self._over = True
        experts = {layer: (total / total.sum()).tolist() for layer, total in self._gates.items()}
        rest = self._writer.rest() if reason in ("stop", "length") else ""
        self._tell(
            Ended(
                reason,
                rest,
                prompt_tokens=len(self.order.prompt),
                cached_tokens=self.cached,
                completion_tokens=len(self.tokens),
                experts=experts if self.order.routing and experts else None,
            )
        )


def ends_of(answerer: Answerer) -> frozenset[int]:
    """The tokens that end a reply: the tokenizer's, and those of the model's own generation settings."""
    ends = {answerer.tokenizer.eos_token_id}
    settings = answerer.backbone.model.generation_config
    named = None if settings is None else settings.eos_token_id
    ends.update(named if isinstance(named, list) else [named])
    return frozenset(token for token in ends if token is not None)
