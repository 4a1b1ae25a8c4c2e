"""A model behind an OpenAI-compatible server: its address, its key, and how often it may be asked."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from threading import Lock, local
from typing import Any
from urllib.parse import urlsplit

from cuma.errors import EndpointError, EndpointRequestError, RequestLimitError
from cuma.models.hub import package_folder

Messages = list[dict[str, str]]
OPENAI = "https://api.openai.com/v1"
RETRIES = 4
"""How often the client makes a request again that failed for the moment: no connection, 408, 409, 429, 5xx. Its pauses
grow, or are what the server asks for."""

_HINTS = {
    400: "The request does not suit this model: some refuse a temperature, or log-probabilities.",
    401: "The server refuses the key: look at the environment variable {key_name}.",
    403: "The key in the environment variable {key_name} does not allow this.",
    404: "Look at base_url and at the model's name.",
    429: "Too many requests at once (lower `workers`), or the account's limit is reached.",
}
_LATER = "Try again later."
_NEVER = 501
"""Not implemented: no server learns that while we wait, though the client would ask again."""


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
        self._base_url, self._key_name, self._lock, self._call = base_url, api_key_env, Lock(), local()
        # What is said to this machine stays on it: no proxy. And nobody may send the texts on to another server.
        wire = openai.DefaultHttpxClient(
            follow_redirects=False,
            trust_env=not self.is_local,
            event_hooks={"request": [self._count], "response": [_settle]},
        )
        self._client = openai.OpenAI(
            api_key=self._key(), base_url=base_url, timeout=timeout, max_retries=RETRIES, http_client=wire
        )

    def identity(self, messages: Messages, options: dict[str, Any]) -> str:
        """Everything that an answer depends on, as text."""
        return json.dumps([self._base_url, self.model, options, messages], sort_keys=True)

    def complete(self, messages: Messages, options: dict[str, Any]) -> Any:
        """The server's ChatCompletion, with at least one choice. What fails for the moment is asked again; each time
        counts.

        Args:
            messages: the conversation so far.
            options: further fields of the request.

        Raises:
            RequestLimitError: that would be one request too many.
            EndpointRequestError: no answer, or none of the expected form; its `status` is the HTTP status, if any.
        """
        answer, error = self._ask(messages, options)
        with self._lock:
            self.failures += self._call.sent - (error is None)
        if error is not None:  # raised here: the client's own can hold the request and the key
            raise error
        return answer

    def _ask(self, messages: Messages, options: dict[str, Any]) -> tuple[Any, EndpointError | None]:
        """The ChatCompletion, or why there is none."""
        import openai
        from openai.types.chat import ChatCompletion

        self._call.sent = 0
        try:
            answer = self._client.chat.completions.create(model=self.model, messages=messages, **options)
        except RequestLimitError:
            return None, RequestLimitError(
                f"The {self.role} has been asked all of its max_requests={self.max_requests} requests, of which "
                f"{self.failures + self._call.sent} failed. What it said so far is kept: started anew, or with a "
                "higher max_requests, the same call goes on."
            )
        except (openai.APIError, ValueError) as failure:
            return None, self._error(*self._reason(failure))
        if isinstance(answer, ChatCompletion) and answer.choices:
            return answer, None
        return None, self._error("answered, but with no chat completion. Look at base_url.")

    def _count(self, _: Any) -> None:
        """Called by the client before each request, those that it makes again included."""
        with self._lock:
            if self.requests >= self.max_requests:
                raise RequestLimitError
            self.requests += 1
        self._call.sent += 1

    def _error(self, reason: str, status: int | None = None) -> EndpointRequestError:
        who = f"The {self.role} {self.model!r} at {self.host}"
        return EndpointRequestError(f"{who} {reason} What it said so far is kept: the same call goes on.", status)

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

    def _reason(self, error: Exception) -> tuple[str, int | None]:
        """An error without its text, as servers like to quote what they were sent; and the HTTP status."""
        import openai

        if isinstance(error, openai.APIStatusError):
            hint = _HINTS.get(error.status_code, _LATER).format(key_name=self._key_name)
            return f"answered with the HTTP status {error.status_code}. {hint}", error.status_code
        if isinstance(error, openai.APIConnectionError):
            return f"cannot be reached ({type(error).__name__}). Look at base_url and the network.", None
        return f"answered with something that cannot be read ({type(error).__name__}). Look at base_url.", None


def _settle(response: Any) -> None:
    """Let the client believe an answer that waiting cannot change."""
    if response.status_code == _NEVER:
        response.headers["x-should-retry"] = "false"


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
