"""From tokens to text while they come: whole characters only, and nothing that may turn out to be a stop string."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INCOMPLETE = "�"
"""What a decoder writes for bytes that are no whole character."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
"""How vocabularies with "▁" write a single byte."""
_PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {
    chr(256 + place): byte for place, byte in enumerate(byte for byte in range(256) if byte not in _PRINTED)
}
"""How byte-level vocabularies write bytes: those that are printed stand for themselves, the others from 256 on."""


class Spelling:
    """The bytes that each token of a vocabulary stands for.

    Decoding a token alone does not say it: decoders drop the space before the first token of a text, and write U+FFFD
    for a part of a character. So a token is decoded behind another one, and parts are looked up in the vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        words = (token for token in range(len(tokenizer)) if self._decoded([token]).isalnum())
        self._before = list(islice(words, 1))
        self._known: dict[tuple[int, bool], bytes | None] = {}

    def __call__(self, token: int, opens: bool = False) -> bytes | None:
        """A token's bytes; None for a special token, which is no text.

        opens: it is the first token of a text.
        """
        if (token, opens) not in self._known:
            self._known[token, opens] = self._spelled(token, [] if opens else self._before)
        return self._known[token, opens]

    def _spelled(self, token: int, before: list[int]) -> bytes | None:
        known = len(self._decoded(before))
        text = self._decoded([*before, token])[known:]
        if not text and self._decoded([*before, token], skip=False)[known:]:
            return None
        return self._part(token, text) if INCOMPLETE in text else text.encode()

    def _part(self, token: int, text: str) -> bytes:
        """The bytes of a token that is no whole character; of any other one, its text's."""
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if match := _BYTE_TOKEN.fullmatch(piece):
            return bytes.fromhex(match[1])
        if all(char in _BYTE_OF for char in piece):
            return bytes(_BYTE_OF[char] for char in piece)
        return text.encode()

    def _decoded(self, tokens: list[int], skip: bool = True) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=skip, clean_up_tokenization_spaces=False)


@lru_cache(maxsize=16)
def spelling_of(tokenizer: PreTrainedTokenizerBase) -> Spelling:
    """The one spelling of a tokenizer, with what it knows already."""
    return Spelling(tokenizer)


@dataclass(frozen=True)
class Piece:
    """What a token added to the text that may be shown."""

    text: str
    stopped: bool
    """True if a stop string came: the text ends right before it."""
    offset: int
    """Whole characters before the token."""
    opens: bool
    """True for the first token of the text."""


class Writer:
    """The text of one reply: its tokens' bytes, as whole characters. Call `push` for every token, then `rest` once."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = (), *, continues: bool = False
    ) -> None:
        """continues: the text goes on with another one, so that a space before its first token is kept."""
        self._spelling = spelling_of(tokenizer)
        self._stop = [text for text in stop if text]
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._opens = not continues
        self._length = 0
        self._held = ""
        """Text that is not shown yet, because a stop string may be beginning."""
        self._ended = False

    def push(self, token: int) -> Piece:
        """The text that can be shown now that `token` has come."""
        offset, opens = self._length, self._opens
        spelled = self._spelling(token, opens)
        self._opens = opens and spelled is None
        text = self._characters.decode(spelled or b"")
        self._length += len(text)
        self._held += text
        ends = [place for place in (self._held.find(text) for text in self._stop) if place >= 0]
        if ends:
            shown, self._held, self._ended = self._held[: min(ends)], "", True
            return Piece(shown, True, offset, opens)
        keep = max((_overlap(self._held, text) for text in self._stop), default=0)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return Piece(shown, False, offset, opens)

    def rest(self) -> str:
        """What was held back, once no further token comes."""
        if self._ended:
            return ""
        shown, self._held, self._ended = self._held + self._characters.decode(b"", final=True), "", True
        return shown


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`, which may still be completed."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if stop.startswith(text[-length:]):
            return length
    return 0
