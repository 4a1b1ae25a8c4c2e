"""Judge: many pairs of replies at once, each in both orders, for a bounded number of requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from cuma.errors import InvalidVerdictsError, JudgeError
from cuma.judge.question import (
    TEMPLATE_VERSION,
    JudgePrompt,
    Pair,
    Verdict,
    candidate_score,
    question,
)
from cuma.judge.report import JudgeReport, Outcome, Tally, summarise
from cuma.judge.verdict_cache import VerdictCache
from cuma.models.endpoint import OPENAI, Endpoint, Messages
from cuma.models.hub import cache_folder
from cuma.people.profiles import Profile

INVALID_SHARE = 0.02
"""More invalid verdicts than this share end a run: what they would have said is unknown, and not at random."""
COUNTED_AS = 100
"""A run with fewer verdicts is allowed as many invalid ones as one with this number: two."""


class Judge:
    """A language model that says which of two replies serves a person better.

    Each pair is judged in both orders; when the two disagree, it is a tie. A reply without a valid verdict is asked for
    once more. Verdicts are kept on disk (as keyed hashes, without the texts), so nothing is ever paid for twice.

    Args:
        model: its name at the endpoint.
        max_requests: how many requests this object may make, failed ones included; verdicts from the cache are free.
        base_url: of any OpenAI-compatible server.
        api_key_env: the environment variable that holds the key. A server on this machine needs none.
        send_profiles: whether people's profiles may be sent to that server. Never asked of a server on this machine.
        temperature: of the judge; None: not sent, for models that refuse it.
        max_completion_tokens: the longest reply.
        workers: requests at once.
        timeout: seconds to wait for a reply.
        cache_dir: where verdicts are kept; None: `judge` in cuma's cache folder.

    Raises:
        EndpointError: the package 'openai' or the key is missing, or the address is none.
    """

    def __init__(
        self,
        model: str,
        *,
        max_requests: int,
        base_url: str = OPENAI,
        api_key_env: str = "OPENAI_API_KEY",
        send_profiles: bool = False,
        temperature: float | None = 0.0,
        max_completion_tokens: int = 1024,
        workers: int = 8,
        timeout: float = 120.0,
        cache_dir: str | Path | None = None,
    ) -> None:
        self._endpoint = Endpoint(
            model,
            role="judge",
            base_url=base_url,
            api_key_env=api_key_env,
            max_requests=max_requests,
            timeout=timeout,
        )
        self._options: dict[str, Any] = {"max_completion_tokens": max_completion_tokens}
        if temperature is not None:
            self._options["temperature"] = temperature
        self._cache = VerdictCache(cache_folder() / "judge" if cache_dir is None else Path(cache_dir))
        self._may_send_profiles = send_profiles or self._endpoint.is_local
        self._workers = workers
        self._verdicts = self._invalid = self._hits = 0

    @property
    def tally(self) -> Tally:
        """What this object has done so far."""
        return Tally(self._verdicts, self._invalid, self._endpoint.requests, self._endpoint.failures, self._hits)

    def compare(self, pairs: Sequence[Pair], progress: bool = True) -> JudgeReport:
        """Judge all pairs and sum up.

        Args:
            pairs: what to compare.
            progress: whether to show a bar.

        Raises:
            JudgeError: a pair has a profile that may not be sent; the cache cannot be used.
            EndpointRequestError: the server failed.
            RequestLimitError: max_requests is reached.
            InvalidVerdictsError: too many replies hold no verdict.
        """
        before = self.tally
        outcomes = self._outcomes(pairs, progress)
        return summarise(self._endpoint.model, pairs, outcomes, self.tally.since(before))

    def scores(self, pairs: Sequence[Pair]) -> list[float | None]:
        """For each pair 1 (the candidate wins), 0.5 (tie), 0 (it loses), or None (an invalid verdict).

        Raises: as `compare`.
        """
        return [outcome.score for outcome in self._outcomes(pairs, progress=False)]

    def check_profiles(self, profiles: Iterable[Profile]) -> None:
        """Raises JudgeError if one of them says something about a person, and may not be sent to the judge's server."""
        if not self._may_send_profiles and any(profiles):
            raise JudgeError(
                f"Judging for a person sends their profile to {self._endpoint.host}, somebody else's server. If the "
                "people agreed to that, say Judge(…, send_profiles=True), or --judge-send-profiles. Otherwise judge "
                "without profiles, or with a model on this machine (base_url='http://localhost:…')."
            )

    def _outcomes(self, pairs: Sequence[Pair], progress: bool) -> list[Outcome]:
        self.check_profiles(pair.profile for pair in pairs)
        questions = [
            question(pair, candidate_first, self._cache.code) for candidate_first in (True, False) for pair in pairs
        ]
        verdicts = self._ask_all(questions, progress)
        both = zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True)
        return [Outcome(candidate_score(a, True), candidate_score(b, False)) for a, b in both]

    def _ask_all(self, questions: Sequence[JudgePrompt], progress: bool) -> list[Verdict | None]:
        """Each question's verdict, None where it is invalid. Equal questions are asked once."""
        keys = [f"{TEMPLATE_VERSION} {self._endpoint.identity(one.messages, self._options)}" for one in questions]
        distinct = dict(zip(keys, questions, strict=True))
        allowed = INVALID_SHARE * max(COUNTED_AS, self._verdicts + len(distinct))
        given: dict[str, Verdict | None] = {}
        pool = ThreadPoolExecutor(self._workers)
        futures = {pool.submit(self._ask, key, asked): key for key, asked in distinct.items()}
        try:
            done = tqdm(as_completed(futures), "Judging", len(futures), unit="verdict", disable=not progress)
            for future in done:
                verdict, known = future.result()
                given[futures[future]] = verdict
                self._count(verdict, known, allowed)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error; what is under way is still kept
        return [given[key] for key in keys]

    def _ask(self, key: str, asked: JudgePrompt) -> tuple[Verdict | None, bool]:
        """The verdict, and whether it was known. An invalid one is not kept: the next run may ask again."""
        known = self._cache.get(key)
        if known is not None:
            return known, True
        reply = self._reply(asked.messages)
        verdict = asked.verdict(reply) or asked.verdict(self._reply(asked.again(reply)))
        if verdict is not None:
            self._cache.put(key, verdict)
        return verdict, False

    def _reply(self, messages: Messages) -> str:
        """What the judge says; "" if it says nothing."""
        return self._endpoint.complete(messages, self._options).choices[0].message.content or ""

    def _count(self, verdict: Verdict | None, known: bool, allowed: float) -> None:
        self._verdicts += 1
        self._hits += known
        self._invalid += verdict is None
        if self._invalid > allowed:
            raise InvalidVerdictsError(
                f"{self._invalid} verdicts of the judge {self._endpoint.model!r} are invalid, each after one more try; "
                f"allowed are {INVALID_SHARE:.0%} of all, and two in a small run. Take a stronger model, or raise "
                "max_completion_tokens if its replies are cut off."
            )
