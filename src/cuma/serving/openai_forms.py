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
from cuma.serving.sampling import Choice

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


@dataclass
class Draft:
    """One choice, as far as it has come."""

    said: list[TokenText] = field(default_factory=list)
    end: Ended | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.said) + (self.end.text if self.end else "")


class Form:
    """How one endpoint's replies look. `kind` is "chat.completion" or "text_completion"."""

    def __init__(self, answerer: Answerer, kind: str, logprobs: bool) -> None:
        self._answerer = answerer
        self._chat = kind == "chat.completion"
        self._kind = kind
        self._logprobs = logprobs
        self._head = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": answerer.name,
        }

    # ---- whole ------------------------------------------------------------------------------------------------------

    def whole(self, drafts: Sequence[Draft]) -> dict[str, Any]:
        """The reply, once every choice has ended."""
        choices = [self._choice(index, draft) for index, draft in enumerate(drafts)]
        return {**self._head, "object": self._kind, "choices": choices, "usage": usage(drafts)}

    def _choice(self, index: int, draft: Draft) -> dict[str, Any]:
        assert draft.end is not None
        text: dict[str, Any] = {"text": draft.text}
        if self._chat:
            text = {"message": {"role": "assistant", "content": draft.text, "refusal": None}}
        return self._with_experts(
            {"index": index, **text, "logprobs": self._told(draft.said), "finish_reason": draft.end.reason}, draft.end
        )

    # ---- piece by piece ---------------------------------------------------------------------------------------------

    def opening(self, index: int) -> list[bytes]:
        """What comes before a choice's first token."""
        if not self._chat:
            return []
        return [self._chunk({"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None})]

    def piece(self, index: int, said: TokenText) -> list[bytes]:
        """What a token adds; nothing while its text is held back and nobody asked for probabilities."""
        if not said.text and not self._logprobs:
            return []
        logprobs = self._told([said])
        return [self._chunk({"index": index, **self._delta(said.text), "logprobs": logprobs, "finish_reason": None})]

    def closing(self, index: int, end: Ended) -> list[bytes]:
        """How a choice ends."""
        choice = {"index": index, **self._delta(end.text), "logprobs": None, "finish_reason": end.reason}
        return [self._chunk(self._with_experts(choice, end))]

    def bill(self, drafts: Sequence[Draft]) -> bytes:
        """The last event of a stream with stream_options.include_usage."""
        return event({**self._head, "object": self._object, "choices": [], "usage": usage(drafts)})

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

    def _told(self, said: Sequence[TokenText]) -> dict[str, Any] | None:
        """The tokens' log-probabilities, in the endpoint's form."""
        if not self._logprobs:
            return None
        choices = [piece.choice for piece in said]
        if self._chat:
            return {"content": [self._chat_logprob(choice) for choice in choices], "refusal": None}
        texts = [self._word(choice.token) for choice in choices]
        offsets = [sum(map(len, texts[:place])) for place in range(len(texts))]
        return {
            "tokens": texts,
            "token_logprobs": [choice.logprob for choice in choices],
            "top_logprobs": [{self._word(token): value for token, value in choice.top} for choice in choices],
            "text_offset": offsets,
        }

    def _chat_logprob(self, choice: Choice) -> dict[str, Any]:
        top = [self._token(token, value) for token, value in choice.top]
        return {**self._token(choice.token, choice.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        word = self._word(token)
        return {"token": word, "logprob": logprob, "bytes": list(word.encode("utf-8", "replace"))}

    def _word(self, token: int) -> str:
        return str(self._answerer.tokenizer.decode([token]))


def usage(drafts: Sequence[Draft]) -> dict[str, Any]:
    """Tokens that were read and written. A prompt with several choices counts once for each."""
    ends = [draft.end for draft in drafts if draft.end is not None]
    prompt, written = sum(end.prompt_tokens for end in ends), sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends)},
    }
