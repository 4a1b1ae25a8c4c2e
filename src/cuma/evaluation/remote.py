"""Option probabilities of a model behind an OpenAI-compatible server: from log-probabilities, or from samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from cuma.data.surveys.prompts import LETTERS, parse_letter
from cuma.errors import EndpointError, EndpointRequestError
from cuma.evaluation.answer_log import AnswerLog, distinct
from cuma.models.endpoint import Endpoint

How = Literal["logprobs", "samples"]
TOP = 20
"""Tokens whose log-probabilities are asked for: the most that the API allows."""
MOST = TOP - 2
"""Options of a question that so few tokens can hold beside other ones; with more, replies are sampled and counted."""
SILENT_SHARE = 0.02
"""More answers without any letter than this share end the evaluation: what they would have been is unknown."""
COUNTED_AS = 100
"""Fewer rows are allowed as many silent answers as this number: two."""
SPACES = " \t\r\n▁ĠĊ"
"""Also as vocabularies write them: some servers send tokens undecoded."""
REFUSALS = (400, 404, 422, 501)
"""HTTP statuses by which servers say that they do not know log-probabilities."""


@dataclass
class RemoteModel:
    """A model behind a server, asked several questions at a time."""

    endpoint: Endpoint
    how: How
    samples: int = 20
    """Replies to each prompt, where there are no log-probabilities, or not enough of them."""
    workers: int = 8
    """Requests at once."""
    profile_field: bool = False
    """Whether the row's profile goes along as the request's field `profile`, as `cuma serve` takes it."""

    def answer(self, rows: Sequence[dict[str, Any]], log: AnswerLog, progress: str | None) -> list[np.ndarray]:
        """Probability of each option (not letter, not renormalised) of each row; what is the same is asked once.

        With log-probabilities, a letter that is not among the `TOP` likeliest tokens has 0; rows of more than `MOST`
        options are sampled. Both are counted (`facts`). A row in which no letter
        was said at all gets zeros, is counted, and is uniform after renormalising.

        Raises:
            EndpointRequestError: the server failed. RequestLimitError: it was asked as often as it may be. In both
            cases what it said is kept in the log.
            EndpointError: too many replies hold no letter.
        """
        differing, places = distinct(rows, profiles=self.profile_field)
        pool = ThreadPoolExecutor(self.workers)
        wanted = {number: row for number, row in enumerate(differing) if log.get(str(number)) is None}
        futures = {pool.submit(self._row, row): number for number, row in wanted.items()}
        whole = len(differing)
        bar = tqdm(total=whole, initial=whole - len(wanted), desc=progress, unit="prompt", disable=not progress)
        try:
            for future in as_completed(futures):
                log.put(str(futures[future]), future.result())
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error; what is under way is waited for
            for future, number in futures.items():
                if log.get(str(number)) is None and not future.cancelled() and future.exception() is None:
                    log.put(str(number), future.result())
            bar.close()
        predicted = [np.array(log.get(str(place))) for place in places]
        self._check(predicted)
        return predicted

    def by_logprobs(self, row: dict[str, Any]) -> bool:
        """Whether a row's probabilities come from log-probabilities."""
        return self.how == "logprobs" and len(row["order"]) <= MOST

    def facts(self, rows: Sequence[dict[str, Any]], predicted: Sequence[np.ndarray]) -> dict[str, Any]:
        """Where the probabilities come from, and what is missing of them. predicted: what `answer` gave."""
        read = [self.by_logprobs(row) for row in rows]
        return {
            "answers": self.how,
            "samples": None if all(read) else self.samples,
            "sampled_rows": len(read) - sum(read),
            "beyond_top": sum(int((shares == 0).sum()) for shares, known in zip(predicted, read, strict=True) if known),
            "silent": sum(not shares.any() for shares in predicted),
        }

    def _row(self, row: dict[str, Any]) -> list[float]:
        count = len(row["order"])
        extra = with_profile(row) if self.profile_field else {}
        shown = (
            self._logprobs(row["prompt"], count, extra)
            if self.by_logprobs(row)
            else self._sampled(row["prompt"], count, extra)
        )
        options = [0.0] * count
        for place, option in enumerate(row["order"]):  # order[i] is the option under letter i
            options[option] = shown[place]
        return options

    def _logprobs(self, prompt: list[dict[str, str]], count: int, extra: dict[str, Any]) -> list[float]:
        answer = self.endpoint.complete(prompt, LOGPROBS | extra)
        shares = letters_in(answer, count)
        if shares is None:
            raise EndpointError(
                f"The model at {self.endpoint.host} gave log-probabilities before, and now none. Say --answers samples."
            )
        return shares

    def _sampled(self, prompt: list[dict[str, str]], count: int, extra: dict[str, Any]) -> list[float]:
        counts, replies = [0.0] * count, 0
        while replies < self.samples:  # some servers give one reply whatever n says
            options = {"n": self.samples - replies, "temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 8}
            for choice in self.endpoint.complete(prompt, options | extra).choices[: self.samples - replies]:
                replies += 1
                letter = parse_letter(choice.message.content or "", count)
                if letter is not None:
                    counts[letter] += 1
        return [number / self.samples for number in counts]

    def _check(self, predicted: Sequence[np.ndarray]) -> None:
        silent = sum(not row.any() for row in predicted)
        if silent > SILENT_SHARE * max(COUNTED_AS, len(predicted)):
            raise EndpointError(
                f"{silent} of {len(predicted)} answers of the model at {self.endpoint.host} hold no letter; allowed "
                f"are {SILENT_SHARE:.0%}. Does it answer with one letter when it is told to?"
            )


LOGPROBS: dict[str, Any] = {
    "logprobs": True, "top_logprobs": TOP, "max_completion_tokens": 1, "temperature": 1.0, "top_p": 1.0,
}  # fmt: skip


def with_profile(row: dict[str, Any]) -> dict[str, Any]:
    """The request's further fields that say who asks; absent fields are left out."""
    return {"extra_body": {"profile": {name: value for name, value in row["profile"].items() if value is not None}}}


def offered(endpoint: Endpoint, prompt: list[dict[str, str]]) -> How:
    """Whether the server gives log-probabilities: asked once.

    Raises:
        EndpointRequestError: the server failed for another reason.
    """
    try:
        answer = endpoint.complete(prompt, LOGPROBS)
    except EndpointRequestError as error:
        if error.status in REFUSALS:
            return "samples"
        raise
    return "logprobs" if letters_in(answer, len(LETTERS)) is not None else "samples"


def letters_in(answer: Any, count: int) -> list[float] | None:
    """The probability of each of the first `count` letters as the first token of a reply; None without logprobs.

    A token is a letter if it is one less the spaces around it; tokens that read alike add up.
    """
    logprobs = answer.choices[0].logprobs
    if logprobs is None or not logprobs.content or not logprobs.content[0].top_logprobs:
        return None
    shares = [0.0] * count
    for token in logprobs.content[0].top_logprobs:
        word = token.token.strip(SPACES)
        if len(word) == 1 and word in LETTERS[:count]:
            shares[LETTERS.index(word)] += math.exp(token.logprob)
    return shares
