"""What the server answers, in OpenAI's forms: whole, or piece by piece as server-sent events."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cuma.answering.answerer import Answerer
from cuma.serving.generation import Ended, TokenText
from cuma.serving.text import spelling_of

DONE = b"data: [DONE]\n\n"
LEAST_LOGPROB = -9999.0
"""OpenAI's number for a token that cannot come: JSON has no infinity."""


def event(value: Any) -> bytes:
    """One server-sent event, in ASCII: clients that split lines as Python does also split at U+0085, U+2028, U+2029."""
    return b"data: " + json.dumps(value, allow_nan=False).encode() + b"\n\n"


@dataclass
class Draft:
    """One choice, as far as it has come."""

    tokens: list[TokenText] = field(default_factory=list)
    end: Ended | None = None

    @property
    def text(self) -> str:
        """What was told so far."""
        return "".join(token.text for token in self.tokens) + (self.end.text if self.end else "")


class Form:
    """How one endpoint's replies look. `kind` is "chat.completion" or "text_completion"."""

    def __init__(self, answerer: Answerer, kind: str, logprobs: bool, choices: int) -> None:
        """choices: how many each prompt has."""
        self._tokenizer = answerer.tokenizer
        self._spelling = spelling_of(answerer.tokenizer)
        self._chat = kind == "chat.completion"
        self._kind = kind
        self._with_logprobs = logprobs
        self._choices = choices
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": answerer.name,
        }

    # ---- whole ------------------------------------------------------------------------------------------------------

    def whole(self, drafts: Sequence[Draft]) -> dict[str, Any]:
        """The reply, once every choice has ended."""
        choices = [self._choice(index, draft) for index, draft in enumerate(drafts)]
        return {**self._head, "object": self._kind, "choices": choices, "usage": self._usage(drafts)}

    def _choice(self, index: int, draft: Draft) -> dict[str, Any]:
        assert draft.end is not None
        text: dict[str, Any] = {"text": draft.text}
        if self._chat:
            text = {"message": {"role": "assistant", "content": draft.text, "refusal": None}}
        return self._with_experts(
            {"index": index, **text, "logprobs": self._logprobs(draft.tokens), "finish_reason": draft.end.reason},
            draft.end,
        )

    # ---- piece by piece ---------------------------------------------------------------------------------------------

    def opening(self, index: int) -> list[bytes]:
        """What comes before a choice's first token."""
        if not self._chat:
            return []
        return [self._chunk({"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})]

    def piece(self, index: int, token: TokenText) -> list[bytes]:
        """What a token adds; nothing while its text is held back and nobody asked for probabilities."""
        if not token.text and not self._with_logprobs:
            return []
        logprobs = self._logprobs([token])
        return [self._chunk({"index": index, **self._delta(token.text), "logprobs": logprobs, "finish_reason": None})]

    def closing(self, index: int, end: Ended) -> list[bytes]:
        """How a choice ends."""
        choice = {"index": index, **self._delta(end.text), "logprobs": None, "finish_reason": end.reason}
        return [self._chunk(self._with_experts(choice, end))]

    def bill(self, drafts: Sequence[Draft]) -> bytes:
        """The last event of a stream with stream_options.include_usage."""
        return event({**self._head, "object": self._object, "choices": [], "usage": self._usage(drafts)})

    @property
    def _object(self) -> str:
        return "chat.completion.chunk" if self._chat else "text_completion"

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        return event({**self._head, "object": self._object, "choices": [choice]})

    def _delta(self, text: str) -> dict[str, Any]:
        if not self._chat:
            return {"text": text}
        return {"delta": {"content": text} if text else {}}

    # ---- both -------------------------------------------------------------------------------------------------------

    @staticmethod
    def _with_experts(choice: dict[str, Any], end: Ended) -> dict[str, Any]:
        return choice if end.experts is None else {**choice, "experts": end.experts}

    def _usage(self, drafts: Sequence[Draft]) -> dict[str, Any]:
        """Tokens that were read and written. A prompt counts once, however many choices it has."""
        ends = [draft.end for draft in drafts if draft.end is not None]
        prompts = [drafts[first : first + self._choices] for first in range(0, len(drafts), self._choices)]
        firsts = [next((draft.end for draft in choices if draft.end), None) for choices in prompts]
        prompt = sum(end.prompt_tokens for end in firsts if end)
        completion = sum(end.completion_tokens for end in ends)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in firsts if end)},
        }

    # ---- log-probabilities ------------------------------------------------------------------------------------------

    def _logprobs(self, tokens: Sequence[TokenText]) -> dict[str, Any] | None:
        """The tokens' log-probabilities, in the endpoint's form."""
        if not self._with_logprobs:
            return None
        if self._chat:
            return {"content": [self._chat_logprobs(token) for token in tokens], "refusal": None}
        return {
            "tokens": [self._key(token.choice.token, token.opens) for token in tokens],
            "token_logprobs": [max(token.choice.logprob, LEAST_LOGPROB) for token in tokens],
            "top_logprobs": [self._keyed(token) for token in tokens],
            "text_offset": [token.offset for token in tokens],
        }

    def _chat_logprobs(self, token: TokenText) -> dict[str, Any]:
        top = [self._entry(each, value, token.opens) for each, value in token.choice.top]
        return {**self._entry(token.choice.token, token.choice.logprob, token.opens), "top_logprobs": top}

    def _entry(self, token: int, logprob: float, opens: bool) -> dict[str, Any]:
        spelled = self._spelling(token, opens)
        return {
            "token": self._word(token, spelled),
            "logprob": max(logprob, LEAST_LOGPROB),
            "bytes": None if spelled is None else list(spelled),
        }

    def _keyed(self, token: TokenText) -> dict[str, float]:
        """The likeliest tokens and the one that was chosen; where one reads like another, it is named by its id."""
        chosen, keyed = token.choice.token, dict[str, float]()
        ranked = dict(token.choice.top) | {chosen: token.choice.logprob}
        keys = {each: self._key(each, token.opens) for each in ranked}
        for each, value in ranked.items():
            taken = keys[each] in keyed or (each != chosen and keys[each] == keys[chosen])
            keyed[f"token_id:{each}" if taken else keys[each]] = max(value, LEAST_LOGPROB)
        return keyed

    def _key(self, token: int, opens: bool) -> str:
        """A token's text; where it is no whole character, its bytes as OpenAI writes them ("bytes:\\xf0\\x9f")."""
        spelled = self._spelling(token, opens)
        word = self._word(token, spelled)
        return word if spelled is None or word.encode() == spelled else f"bytes:{word}"

    def _word(self, token: int, spelled: bytes | None) -> str:
        if spelled is None:  # special
            return str(self._tokenizer.decode([token]))
        return spelled.decode("utf-8", "backslashreplace")
