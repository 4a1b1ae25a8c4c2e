"""What goes wrong, in one sentence each: what, what was there, what was expected, what to do next."""

from __future__ import annotations


class CumaVllmError(Exception):
    """Any error of this package."""


class AdapterFileError(CumaVllmError, ValueError):
    """An adapter's files are damaged, incomplete, another method's, or do not fit the base model."""


class EngineOptionError(CumaVllmError, ValueError):
    """vLLM was started with an option under which a mixture would not be exact."""


class PersonError(CumaVllmError, ValueError):
    """What a request says about who asks cannot be read; HTTP 400. Its text never holds a value."""


class CompanionError(CumaVllmError):
    """The process that knows profiles did not answer."""
