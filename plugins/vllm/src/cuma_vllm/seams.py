"""Three places inside vLLM where a person must be thought of, whoever sent the request.

- `InputProcessor.process_inputs`: a request without a readable person is refused, over HTTP with 400.
- `Request.from_engine_core_request`: the prefix cache is salted with the person; a salt of the request's own adds.
- `SamplingParams.__repr__`: what vLLM writes into logs, also when an engine dies, does not say who asked.

Each is wrapped once in a process; tests/test_seams.py fails where one is not called any more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from cuma_vllm.errors import PersonError
from cuma_vllm.options import ADAPTER, PROFILE_DIM
from cuma_vllm.person import KEY, refuse_person, salt_of, vector_of

WRAPPED = "cuma_wrapped"


def install() -> None:
    """Wrap all three. Idempotent."""
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.input_processor import InputProcessor
    from vllm.v1.request import Request

    _wrap(InputProcessor, "process_inputs", _checked)
    _wrap(SamplingParams, "__repr__", _discreet)
    if not hasattr(Request.from_engine_core_request, WRAPPED):
        salted = _salted(Request.from_engine_core_request.__func__)
        setattr(salted, WRAPPED, True)
        Request.from_engine_core_request = classmethod(salted)


def _wrap(owner: type, name: str, wrapper: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    if not hasattr(original, WRAPPED):
        made = wrapper(original)
        setattr(made, WRAPPED, True)
        setattr(owner, name, made)


def _checked(original: Any) -> Any:
    from vllm.exceptions import VLLMValidationError

    @wraps(original)
    def process_inputs(self: Any, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        options = self.vllm_config.additional_config
        if isinstance(options, dict) and ADAPTER in options:
            try:
                _check(options[PROFILE_DIM], getattr(params, "extra_args", None), bool(kwargs.get("resumable")))
            except PersonError as error:
                raise VLLMValidationError(str(error)) from None  # the kind that vLLM answers with 400
        return original(self, request_id, prompt, params, *args, **kwargs)

    return process_inputs


def _check(profile_dim: int, extra_args: Any, resumable: bool) -> None:
    if resumable:
        raise PersonError("A mixture takes whole requests: a session that goes on could change who asks.")
    if profile_dim:
        vector_of(extra_args, profile_dim)
    else:
        refuse_person(extra_args)


def _salted(original: Any) -> Any:
    @wraps(original)
    def from_engine_core_request(cls: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        extra = getattr(request.sampling_params, "extra_args", None)
        if extra and KEY in extra:
            request.cache_salt = salt_of(vector_of(extra), request.cache_salt)
        return original(cls, request, *args, **kwargs)

    return from_engine_core_request


def _discreet(original: Any) -> Any:
    @wraps(original)
    def __repr__(self: Any) -> str:
        text = str(original(self))
        value = (self.extra_args or {}).get(KEY)
        return text if value is None else text.replace(repr(value), "…")

    return __repr__
