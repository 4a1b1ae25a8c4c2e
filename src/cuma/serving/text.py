"""From tokens to text while they come: whole characters only, and nothing that may turn out to be a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INCOMPLETE = "�"
"""What a decoder writes for bytes that are not a whole character yet."""
BYTES = 4
CONTEXT = 6
"""Tokens before the new ones that are decoded again, because a token's text can depend on the one before it."""


@dataclass(frozen=True)
class Piece:
    """What a token added to the text that may be shown."""

    text: str
    stopped: bool
    """True if a stop string came: the text ends right before it."""


class Writer:
    """The text of one reply. Call `push` for every token, then `rest` once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._tokens: list[int] = []
        self._read = 0
        """Tokens whose text is in `_held` or was shown."""
        self._held = ""
        """Text that is not shown yet, because a stop string may be beginning."""
        self._ended = False

    def push(self, token: int) -> Piece:
        """The text that can be shown now that `token` has come."""
        self._tokens.append(token)
        new = self._new_text()
        if new is None:
            return Piece("", False)
        self._held += new
        found = [place for place in (self._held.find(text) for text in self._stop) if place >= 0]
        if found:
            shown, self._held, self._ended = self._held[: min(found)], "", True
            return Piece(shown, True)
        keep = max((_overlap(self._held, text) for text in self._stop), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return Piece(shown, False)

    def rest(self) -> str:
        """What was held back, once no further token comes."""
        if self._ended:
            return ""
        tail = self._decoded(self._read)
        shown, self._held, self._ended = self._held + tail, "", True
        return shown

    def _new_text(self) -> str | None:
        """The text of the tokens not read yet; None while they end inside a character, which has four bytes at most."""
        text = self._decoded(self._read)
        if text.endswith(INCOMPLETE) and len(self._tokens) - self._read < BYTES:
            return None
        self._read = len(self._tokens)
        return text

    def _decoded(self, start: int) -> str:
        """The text that the tokens from `start` on add to what the few before them say."""
        before = self._tokens[max(0, start - CONTEXT) : start]
        known = self._tokenizer.decode(before, skip_special_tokens=True)
        whole = self._tokenizer.decode([*before, *self._tokens[start:]], skip_special_tokens=True)
        return whole[len(known) :]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`, which may still be completed."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
