"""A real model behind an OpenAI-compatible server on this machine: log-probabilities, samples, and who asks."""

from __future__ import annotations

import json
from typing import Any

import torch

from cuma.evaluation.predict import LocalModel
from cuma.people.profiles import Profile
from helpers.judging import Server, completion


class ModelServer(Server):
    """Answers chat completions with the model of an `LocalModel`; `profile` in the body is who asks."""

    def __init__(self, asking: LocalModel, logprobs: bool = True) -> None:
        super().__init__(lambda *_: "")
        self.asking = asking
        self.logprobs = logprobs
        self.fail_after: int | None = None
        self._generator = torch.Generator().manual_seed(0)

    def respond(self, body: dict[str, Any], text: str, key: str) -> tuple[int, str, dict[str, str]]:
        if body.get("logprobs") and not self.logprobs:
            return 400, json.dumps({"error": {"message": "logprobs are not supported"}}), {}
        with self.lock:
            if self.fail_after is not None and len(self.bodies) > self.fail_after:
                return 401, json.dumps({"error": {"message": text}}), {}
            return 200, json.dumps(self._answer(body)), {}

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        tokens, tokenizer = self.asking.tokens, self.asking.tokens.tokenizer
        batch = tokens.batch([tokens.prompt(body["messages"])])
        table = self.asking.table
        people = {} if table is None else {"profile_embeds": table([Profile(**body.get("profile", {}))])}
        with torch.no_grad():
            logits = self.asking.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], logits_to_keep=1, **people
            ).logits[0, -1]
        if not body.get("logprobs"):
            drawn = torch.multinomial(logits.softmax(-1), body["n"], replacement=True, generator=self._generator)
            return completion([tokenizer.decode([token]) for token in drawn.tolist()])
        top = logits.log_softmax(-1).topk(body["top_logprobs"])
        tops = [
            {"token": tokenizer.decode([token]), "logprob": value, "bytes": None}
            for value, token in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]
        return completion([tops[0]["token"]], {"content": [{**tops[0], "top_logprobs": tops}], "refusal": None})
