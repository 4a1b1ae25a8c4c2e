"""The per-call conditioning that reaches the layers: whose request each row is, and what the routers decided.

A layer deep inside somebody else's model gets a hidden state and nothing more. State kept on the modules would be
silently wrong as soon as two calls overlap (threads, two forwards before a backward), so the conditioning of one call
is a value of its own, which the running thread knows. (Not a ContextVar: torch.compile cannot trace one.) Gradient
checkpointing runs layers again during the backward, when the call is long over; `CarryingCheckpoint` takes the value
along.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cuma.errors import ProfileError, UnsupportedError
from cuma.tuner.layouts import are_all, like
from cuma.tuner.router import Router, Routing, load_balancing_loss


@dataclass(eq=False)
class Conditioning:
    """One call of the model."""

    profile: Tensor | None = None
    """[P, D'] standardised profiles, one per row of the call (or see `rows`); None for semantic routers."""
    rows: Tensor | None = None
    """[B, T], for packed rows: which profile each token belongs to; −1 for padding. None: a profile a row."""
    mask: Tensor | None = None
    """[B, T] with 1 for real tokens, as in `attention_mask`; None: all are real."""
    shape: tuple[int, int] | None = None
    """(B, T) of the tokens that the base model was last called with; None: not known."""
    expands: bool = False
    """True in `generate`, which repeats each row for beams and num_return_sequences (interleaved)."""
    balanced: bool = False
    """True if the load-balancing loss is wanted."""
    record: dict[str, Tensor] | None = None
    """Where to put the gates of each routing layer, if recording was asked for."""
    losses: list[Tensor] = field(default_factory=list)
    """The load-balancing loss of each routing so far."""
    closed: bool = False
    """True once the forward is over: layers that run again (checkpointing) compute the same, but add nothing."""
    _latest: tuple[weakref.ref[Tensor] | Tensor, Router, Routing] | None = None
    _kept: dict[str, Tensor] = field(default_factory=dict)
    """What `once` has made."""

    def route(self, router: Router, hidden: Tensor, layer: str) -> Tensor:
        """The gates for `hidden`, computed once for all layers that share this router and this very input.

        Only the latest routing is kept, and its input only weakly, so that nothing is pinned under checkpointing. A
        layer that shares the router but has another input (keys and values in cross-attention) is routed by its own.

        Args:
            router: the router's parameters.
            hidden: [B, T, H], the layer's input.
            layer: name of the layer that owns the router.

        Returns:
            gates [B, T, E] fp32.
        """
        if self._latest is not None:
            known_hidden, known_router, routing = self._latest
            if known_router is router and _referent(known_hidden) is hidden:
                return routing.gates
        part = None
        if self.profile is not None:
            people = self.profile
            part = self.once(layer, lambda: router.profile_part(people.to(hidden.device)))
            part = self._for_tokens(part, hidden, layer)
        routing = router(hidden, part=part)
        self._keep(hidden, router, routing)
        self._observe(routing, router.top_k, layer)
        return routing.gates

    def _keep(self, hidden: Tensor, router: Router, routing: Routing) -> None:
        if not torch.compiler.is_compiling():
            self._latest = (weakref.ref(hidden), router, routing)
        elif not self.expands:
            # A graph has no weak references. What is traced forgets at the end; a compiled step of `generate` never
            # would, but there a router that runs twice on one input is one common subexpression.
            self._latest = (hidden, router, routing)

    def forget(self) -> None:
        """Drop the latest routing."""
        self._latest = None

    def balance_loss(self) -> Tensor | None:
        """The load-balancing loss averaged over routings; None if there was none."""
        if not self.losses:
            return None
        return torch.stack([loss.to(self.losses[0].device) for loss in self.losses]).mean()

    def profile_of_tokens(self, hidden: Tensor, layer: str) -> Tensor | None:
        """The standardised profile of each token of `hidden`, or what broadcasts to it; None for semantic routers."""
        return None if self.profile is None else self._for_tokens(self.profile.to(hidden.device), hidden, layer)

    def once(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """make(), and in `generate` the same tensor again at every later step.

        Only there: without gradients, and with weights that cannot change before the call is over.
        """
        if not self.expands or torch.is_grad_enabled():
            return make()
        kept = self._kept.get(key)
        if kept is None:
            kept = make()
            if not torch.compiler.is_compiling():
                self._kept[key] = kept
        return kept

    def _for_tokens(self, people: Tensor, hidden: Tensor, layer: str) -> Tensor:
        """people [P, X] → what broadcasts over the tokens of `hidden`: [B, 1, X] for one person a row, else a row each.

        Raises:
            ProfileError: nobody can say whose the tokens are: they are neither one row per person nor all tokens of the
                call in their order.
        """
        count, tokens = len(people), hidden.shape[:-1]
        if self.rows is not None:
            if not are_all(tokens, self.rows.shape):
                raise ProfileError(
                    f"profile_rows is {list(self.rows.shape)} but {layer or 'an adapted layer'} got tokens "
                    f"{list(tokens)}. Packed rows need an index for every token the layer sees, so no cached keys and "
                    "no encoder-decoder."
                )
            return people[self.rows.to(people.device).clamp(min=0).reshape(tokens)]
        if count > 1 and tokens[0] != count:
            repeats, rest = divmod(tokens[0], count)
            if self.shape is None:
                fits = self.expands and len(tokens) > 1
            else:
                fits = tokens[0] == self.shape[0] or (len(tokens) == 1 and tokens[0] == math.prod(self.shape))
            if rest or not fits:
                raise ProfileError(
                    f"{layer or 'an adapted layer'} got tokens {list(tokens)} in a call for {count} people: neither "
                    "one row per person nor all tokens in their order, so nobody can say whose they are. Put the "
                    f"adapter on without it: exclude_modules={like(layer)!r}."
                )
            people = people.repeat_interleave(repeats, dim=0)
        return people.view(len(people), *[1] * (hidden.dim() - 2), people.shape[-1])

    def _observe(self, routing: Routing, top_k: int, layer: str) -> None:
        tokens = routing.logits.shape[:-1]
        if self.balanced:
            loss = load_balancing_loss(routing.logits, top_k, self._mask_for(tokens))
            if not self.closed:
                self.losses.append(loss)
        if self.record is not None and not self.closed:
            gates = routing.gates.detach()
            known = self.shape is not None and are_all(tokens, self.shape)
            self.record[layer] = gates.view(*self.shape, -1) if known and self.shape else gates

    def _mask_for(self, tokens: torch.Size) -> Tensor | None:
        """The mask in the shape of a layer's `tokens`: its last T columns (earlier ones are cached keys)."""
        if self.rows is not None and are_all(tokens, self.rows.shape):
            return (self.rows >= 0).reshape(tokens)
        length = tokens[-1] if len(tokens) > 1 else self.shape[1] if self.shape else 0
        if self.mask is None or self.mask.dim() != 2 or not are_all(tokens, (len(self.mask), length)):
            return None
        mask = self.mask[:, -length:]
        return mask.reshape(tokens) if mask.shape[1] == length else None


def _referent(reference: weakref.ref[Tensor] | Tensor) -> Tensor | None:
    return reference if isinstance(reference, Tensor) else reference()


class _Thread(threading.local):
    """What the running thread is doing."""

    call: Conditioning | None = None


_thread = _Thread()


def current() -> Conditioning | None:
    """The conditioning of the call that is running in this thread; None outside of one."""
    return _thread.call


@contextmanager
def conditioned(conditioning: Conditioning) -> Iterator[Conditioning]:
    """Run the body under `conditioning`."""
    before = _thread.call
    _thread.call = conditioning
    try:
        yield conditioning
    finally:
        conditioning.forget()
        _thread.call = before


class CarryingCheckpoint:
    """A checkpoint function that runs the checkpointed layer, now and when it is recomputed, under its call's value."""

    def __init__(self, checkpoint: Callable[..., Any]) -> None:
        """Args:
        checkpoint: the function that transformers (or TRL) installed as `_gradient_checkpointing_func`.
        """
        self.checkpoint = checkpoint

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        conditioning = current()
        if conditioning is None:
            return self.checkpoint(function, *args, **kwargs)
        grad_outside = torch.is_grad_enabled()
        call = conditioning

        def run(*inner_args: Any, **inner_kwargs: Any) -> Any:
            if grad_outside and not torch.is_grad_enabled():
                # Only the reentrant form runs the first pass without gradients; the balance loss would get none.
                raise UnsupportedError(
                    "reentrant gradient checkpointing is not supported: the load-balancing loss would silently have no "
                    'gradient. Use gradient_checkpointing_kwargs={"use_reentrant": False}.'
                )
            with conditioned(call):
                call.forget()
                return function(*inner_args, **inner_kwargs)

        return self.checkpoint(run, *args, **kwargs)


def carry_through_checkpoints(model: nn.Module) -> None:
    """Wrap the checkpoint function of every checkpointed layer of `model` that is not wrapped yet.

    Called on every training forward, because trainers install a new function at any time.
    """
    for module in model.modules():
        if module.__dict__.get("gradient_checkpointing", False):
            checkpoint = module.__dict__.get("_gradient_checkpointing_func")
            if checkpoint is not None and not isinstance(checkpoint, CarryingCheckpoint):
                module._gradient_checkpointing_func = CarryingCheckpoint(checkpoint)
