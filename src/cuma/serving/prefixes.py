"""Keys and values kept for the next request that begins the same way: of the same person, for the same client only.

An adapted layer's keys and values depend on who asks. A cache that knows the tokens only would hand one person's
conversation to another; here the profile's embedding is part of the key, and so are the model and the client.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from cuma.serving.slots import Prefix, shared_length

LEAST = 16
"""Tokens below which keeping, or taking, is not worth the copy."""


@dataclass(frozen=True)
class Owner:
    """Whose keys and values these are. Two owners never share any."""

    model: str
    client: str
    """The client's identity, a hash of its key; "" where there are no keys."""
    person: bytes
    """The embedding that the router reads, byte by byte; b"" where it reads none."""


@dataclass(eq=False)
class _Kept:
    tokens: tuple[int, ...]
    prefix: Prefix
    bytes: int
    used: float


class Prefixes:
    """The last conversations' keys and values, least recently used first to go. Used by one thread."""

    def __init__(self, max_bytes: int, max_seconds: float = 600.0) -> None:
        """Args:
        max_bytes: what may be kept; 0: nothing.
        max_seconds: how long after its last use.
        """
        self.max_bytes, self.max_seconds = max_bytes, max_seconds
        self.bytes = 0
        self._kept: OrderedDict[Owner, list[_Kept]] = OrderedDict()

    def find(self, owner: Owner, tokens: Sequence[int]) -> Prefix | None:
        """The longest kept beginning of `tokens` of this owner, but never all of them: the last one must be run."""
        best, length = None, LEAST - 1
        for kept in self._kept.get(owner, []):
            shared = min(shared_length(kept.tokens, tokens), len(tokens) - 1)
            if shared > length:
                best, length = kept, shared
        if best is None:
            return None
        best.used = time.monotonic()
        self._kept.move_to_end(owner)
        return [(keys[:, :length], values[:, :length]) for keys, values in best.prefix]

    def put(self, owner: Owner, tokens: Sequence[int], prefix: Prefix) -> None:
        """Keep the keys and values of `tokens`; what they go on from is dropped, as it is a part of them."""
        size = sum(part.numel() * part.element_size() for layer in prefix for part in layer)
        if len(tokens) < LEAST or size > self.max_bytes:
            return
        own = self._kept.setdefault(owner, [])
        for kept in list(own):
            if shared_length(kept.tokens, tokens) == len(kept.tokens):
                self._drop(owner, kept)
        own = self._kept.setdefault(owner, [])
        own.append(_Kept(tuple(tokens), prefix, size, time.monotonic()))
        self._kept.move_to_end(owner)
        self.bytes += size
        self.tidy()

    def wants(self, tokens: Sequence[int]) -> bool:
        """False where keeping these tokens is not worth the copy."""
        return self.max_bytes > 0 and len(tokens) >= LEAST

    def tidy(self) -> None:
        """Drop what is too old, and the least recently used beyond `max_bytes`."""
        oldest = time.monotonic() - self.max_seconds
        for owner, own in list(self._kept.items()):
            for kept in [kept for kept in own if kept.used < oldest]:
                self._drop(owner, kept)
        while self.bytes > self.max_bytes:
            owner, own = next(iter(self._kept.items()))
            self._drop(owner, min(own, key=lambda kept: kept.used))

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()
        self.bytes = 0

    def _drop(self, owner: Owner, kept: _Kept) -> None:
        own = self._kept[owner]
        own.remove(kept)
        self.bytes -= kept.bytes
        if not own:
            del self._kept[owner]
