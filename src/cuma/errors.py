"""Every exception that cuma raises on purpose. Each is also the standard exception a caller would have caught."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CumaError(Exception):
    """Base of all errors of this package. The text says what happened, what was expected, and what to do next."""


class ConfigError(CumaError, ValueError):
    """A `CumaConfig` option has a value that is not allowed."""


class UnsupportedError(CumaError, NotImplementedError):
    """Something PEFT or transformers offers that a mixture cannot do; the text names the way out."""


class ProfileError(CumaError, ValueError):
    """A profile, or a batch of profile embeddings, is missing or does not fit. Never contains profile text."""


class AdapterError(CumaError, ValueError):
    """An adapter on disk is damaged, incomplete, or does not fit the model."""


class BackboneError(CumaError, OSError):
    """A base model or a sentence encoder cannot be found or read."""


class MissingModelError(BackboneError):
    """A model or an encoder is not on this machine, and cannot be fetched."""


class BenchmarkError(CumaError, ValueError):
    """A benchmark is unknown, its data is absent, or its data breaks the documented form."""


class RecipeError(CumaError, ValueError):
    """A recipe or an override has an unknown key or a wrong value."""


class RunError(CumaError, OSError):
    """A run's folder cannot be written, or does not hold what is asked of it."""


class PublishError(CumaError, OSError):
    """A run cannot be put on the Hub: not allowed, not reachable, or not fit to be published."""


class TrainingError(CumaError, ArithmeticError):
    """Training cannot go on: its numbers are not finite any more."""


class CheckpointError(CumaError, ValueError):
    """A checkpoint is half written, damaged, of another stage, or not there."""


class EndpointError(CumaError, RuntimeError):
    """A model behind a server cannot be asked, or must not be. No such error ever contains a prompt, a reply, a profile
    or a key."""


class EndpointRequestError(EndpointError):
    """The server refused, failed, or could not be reached, after all retries. Never counted as an answer."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        """The HTTP status; None if there was none."""


class RequestLimitError(EndpointError):
    """A model behind a server has been asked as often as it may be."""


class JudgeError(EndpointError):
    """A judge cannot be used."""


class InvalidVerdictsError(JudgeError):
    """Too many of a judge's replies hold no verdict that can be read."""


class ServingError(CumaError, ValueError):
    """A request, or an option of the server, asks for what is not possible. Never contains what somebody wrote."""


class UnknownModelError(ServingError):
    """A request names a model that is not served."""


class ConversationError(CumaError, ValueError):
    """A conversation cannot be put to a model as it is. Never contains what somebody wrote."""


class BusyError(CumaError, RuntimeError):
    """As many requests wait already as may wait."""


class ExportError(CumaError, ValueError):
    """A person's adapter cannot be exported as asked."""


def suggestion(word: str, known: Iterable[str], listed_by: str | None = None) -> str:
    """The tail of an error text: "Did you mean 'x'? Available: x, y." — the first part only when something is close.

    listed_by: a command that lists what there is, named in place of many names.
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    start = f"Did you mean {close[0]!r}? " if close else ""
    return start + (f"Available: {', '.join(names)}." if listed_by is None else f"`{listed_by}` lists what there is.")
