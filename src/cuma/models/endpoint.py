"""A model behind an OpenAI-compatible server: its address, its key, and how often it may be asked."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from cuma.errors import EndpointError, EndpointRequestError, RequestLimitError
from cuma.models.hub import package_folder

Messages = list[dict[str, str]]
OPENAI = "https://api.openai.com/v1"
RETRIES = 4
"""How often a request that failed for the moment (no connection, 408, 409, 429, 5xx) is made again."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before the first retry and before any: they double, less up to a quarter, so that threads do not march."""
LONGEST_RETRY_AFTER = 60.0
"""A server that asks for a longer pause than so many seconds is not asked again."""

_HINTS = {
    400: "The request does not suit this model: some refuse a temperature, or log-probabilities.",
    401: "The server refuses the key: look at the environment variable {key_name}.",
    403: "The key in the environment variable {key_name} does not allow this.",
    404: "Look at base_url and at the model's name.",
    429: "Too many requests at once (lower `workers`), or the account's limit is reached.",
}
_LATER = "Try again later."
_PASSING = (408, 409, 429)
_NEVER = 501
"""Not implemented: no server learns that while we wait."""


@dataclass(frozen=True)
class _Failure:
    """Why there is no answer, without a word of the server's."""

    text: str
    status: int | None = None
    passes: bool = False
    retry_after: float = 0.0
    """Seconds that the server asks for; 0: it does not say."""


class Endpoint:
    """Chat completions of one model, for at most `max_requests` requests. Safe for threads."""

    def __init__(
        self, model: str, *, role: str, base_url: str, api_key_env: str, max_requests: int, timeout: float
    ) -> None:
        """Args:
            model: its name at the server.
            role: what it is called in errors, such as "judge".
            base_url: of the server.
            api_key_env: the environment variable that holds the key. A server on this machine needs none.
            max_requests: how many requests may be sent, those that fail included.
            timeout: seconds to wait for an answer.

        Raises:
            EndpointError: the package 'openai' or the key is missing, or the address is none.
        """
        if package_folder("openai") is None:
            raise EndpointError(f"a {role} behind a server needs the package 'openai': pip install 'cuma[judge]'.")
        import openai  # heavy, and only servers need it

        self.model, self.role, self.max_requests = model, role, max_requests
        self.requests = self.failures = 0
        self.host, self.is_local = _host(base_url)
        self._base_url, self._key_name, self._lock = base_url, api_key_env, Lock()
        # What is said to this machine stays on it: no proxy. And nobody may send the texts on to another server.
        wire = openai.DefaultHttpxClient(follow_redirects=False, trust_env=not self.is_local)
        self._client = openai.OpenAI(
            api_key=self._key(), base_url=base_url, timeout=timeout, max_retries=0, http_client=wire
        )

    def identity(self, messages: Messages, options: dict[str, Any]) -> str:
        """Everything that an answer depends on, as text."""
        return json.dumps([self._base_url, self.model, options, messages], sort_keys=True)

    def complete(self, messages: Messages, options: dict[str, Any]) -> Any:
        """The server's ChatCompletion, with at least one choice. What fails for the moment is asked again.

        Args:
            messages: the conversation so far.
            options: further fields of the request.

        Raises:
            RequestLimitError: that would be one request too many.
            EndpointRequestError: no answer, or none of the expected form; its `status` is the HTTP status, if any.
        """
        for retry in count():
            self._count()
            answer = self._try(messages, options)
            if not isinstance(answer, _Failure):
                return answer
            if not answer.passes or retry >= RETRIES or answer.retry_after > LONGEST_RETRY_AFTER:
                break
            time.sleep(answer.retry_after or _pause(retry))
        raise EndpointRequestError(
            f"The {self.role} {self.model!r} at {self.host} {answer.text} What it said so far is kept: the same call "
            "goes on.",
            answer.status,
        )

    def _try(self, messages: Messages, options: dict[str, Any]) -> Any:
        """One request: the ChatCompletion, or a _Failure, which is counted.

        A value, so that the client's error, which can hold the request and the key, does not travel along.
        """
        import openai
        from openai.types.chat import ChatCompletion

        try:
            answer = self._client.chat.completions.create(model=self.model, messages=messages, **options)
        except (openai.APIError, ValueError) as error:
            failure = self._failure(error)
        else:
            if isinstance(answer, ChatCompletion) and answer.choices:
                return answer
            failure = _Failure("answered, but with no chat completion. Look at base_url.")
        with self._lock:
            self.failures += 1
        return failure

    def _count(self) -> None:
        with self._lock:
            if self.requests >= self.max_requests:
                raise RequestLimitError(
                    f"The {self.role} has been asked all of its max_requests={self.max_requests} requests, of which "
                    f"{self.failures} failed. What it said so far is kept: started anew, or with a higher "
                    "max_requests, the same call goes on."
                )
            self.requests += 1

    def _key(self) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", self._key_name):
            raise EndpointError(  # without what was given: it may be the key itself
                "api_key_env is no name of an environment variable. Expected something like 'OPENAI_API_KEY'; the key "
                "itself belongs into that variable."
            )
        key = os.environ.get(self._key_name)
        if not key and not self.is_local:
            raise EndpointError(
                f"The {self.role} at {self.host} needs a key, and the environment variable {self._key_name} is not "
                "set. Set it, or name another one with api_key_env (for `cuma evaluate`: --api-key-env, of a judge "
                "--judge-key-env)."
            )
        return key or "none"

    def _failure(self, error: Exception) -> _Failure:
        """An error without its text: servers like to quote what they were sent."""
        import openai

        if isinstance(error, openai.APIStatusError):
            status = error.status_code
            hint = _HINTS.get(status, _LATER).format(key_name=self._key_name)
            passes = status in _PASSING or (status >= 500 and status != _NEVER)
            text = f"answered with the HTTP status {status}. {hint}"
            return _Failure(text, status, passes, _retry_after(error.response.headers))
        if isinstance(error, openai.APIConnectionError):
            text = f"cannot be reached ({type(error).__name__}). Look at base_url and the network."
            return _Failure(text, passes=True)
        return _Failure(f"answered with something that cannot be read ({type(error).__name__}). Look at base_url.")


def _pause(retry: int) -> float:
    """Seconds before a retry, the first of which is number 0."""
    return min(FIRST_PAUSE * 2**retry, LONGEST_PAUSE) * random.uniform(0.75, 1)


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait; 0 if it does not say."""
    for name, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError):
            return max(0.0, float(headers.get(name, "")) * seconds)
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    return 0.0


def _host(base_url: str) -> tuple[str, bool]:
    """The server's name, and whether it is this machine. A URL is written into run folders: it may hold no secret."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password or parts.query:
        raise EndpointError(
            f"base_url is no plain http(s) address of a server. Expected something like {OPENAI}, without a user name, "
            "a password or a query; the key comes from an environment variable."
        )
    try:
        return parts.hostname, ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:  # a name
        return parts.hostname, parts.hostname == "localhost"
