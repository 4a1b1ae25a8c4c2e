"""Who asks, on its way through vLLM: a vector in a request's `extra_args`, and what of it may not be shared.

The vector is the raw output of the adapter's sentence encoder, [D] fp32; zeros are the empty profile. It travels as
base64 of little-endian fp32 or as a list of numbers. It says who somebody is: it stands in no text of an error.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cuma_vllm.errors import PersonError

_SECRET = secrets.token_bytes(32)
KEY = "cuma_profile"
"""Its name in `SamplingParams.extra_args`, which is `vllm_xargs` over HTTP."""


def written(vector: Tensor | Sequence[float]) -> str:
    """[D] → the text that stands in a request."""
    values = torch.as_tensor(vector, dtype=torch.float32).flatten().tolist()
    return base64.b64encode(_little_endian(values)).decode("ascii")


def person(vector: Tensor | Sequence[float]) -> dict[str, str]:
    """extra_args for `vllm.SamplingParams`: `SamplingParams(…, extra_args=person(encoder([profile])[0]))`."""
    return {KEY: written(vector)}


def nobody(profile_dim: int) -> dict[str, str]:
    """extra_args of the empty profile: nobody in particular asks."""
    return person(torch.zeros(profile_dim))


def vector_of(extra_args: Mapping[str, Any] | None, profile_dim: int | None = None) -> Tensor:
    """[D] fp32, from a request's extra_args. profile_dim: D; None: any.

    Raises:
        PersonError: it is missing, of another width, not finite, or cannot be read.
    """
    value = (extra_args or {}).get(KEY)
    if value is None:
        raise PersonError(
            f"{KEY} is missing: this adapter's routers read who asks. Over HTTP send `profile` (an object or a "
            f"sentence) to /v1/chat/completions or /v1/completions of a server that `cuma-vllm serve` started; from "
            f"Python pass SamplingParams(extra_args=cuma_vllm.person.person(vector)), or nobody({profile_dim})."
        )
    vector = _decoded(value) if isinstance(value, str) else _listed(value)
    if profile_dim is not None and len(vector) != profile_dim:
        raise PersonError(
            f"{KEY} holds {len(vector)} numbers; the adapter was trained with {profile_dim}. Use the encoder that it "
            "was trained with."
        )
    if not torch.isfinite(vector).all():
        raise PersonError(f"{KEY} holds NaN or infinite numbers. Check the encoder that made them.")
    return vector + 0.0  # without a negative zero: equal people have equal salts


def refuse_person(extra_args: Mapping[str, Any] | None) -> None:
    """Raise a PersonError if a request to an adapter that reads no profile brings one."""
    if (extra_args or {}).get(KEY) is not None:
        raise PersonError(f"This adapter's routers read no profile: leave {KEY} out, everybody gets one answer.")


def salt_of(vector: Tensor, given: str | None) -> str:
    """The prefix cache's salt: what one person computed is found by that person alone; the request's own salt adds.

    Keyed with a secret of this process, so that nobody who sees a salt can try out whose it is.
    """
    digest = hashlib.blake2b(_little_endian(vector.tolist()), key=_SECRET, digest_size=32)
    digest.update(b"\0" if given is None else b"\1" + given.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _little_endian(values: Sequence[float]) -> bytes:
    return _swapped(array("f", values)).tobytes()


def _swapped(values: array[float]) -> array[float]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _decoded(text: str) -> Tensor:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise PersonError(
            f"{KEY} is no valid base64. Send base64 of little-endian fp32, or a list of numbers."
        ) from None
    if len(raw) % 4:
        raise PersonError(f"{KEY} holds {len(raw)} bytes, which is no whole number of fp32 values (4 bytes each).")
    return torch.tensor(_swapped(array("f", raw)), dtype=torch.float32)


def _listed(value: Any) -> Tensor:
    numbers = isinstance(value, list | tuple) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in value
    )
    if not numbers:
        raise PersonError(f"{KEY} is a {type(value).__name__}; expected base64 text, or a list of numbers.")
    try:
        return torch.tensor(value, dtype=torch.float32)
    except (RuntimeError, OverflowError):
        raise PersonError(f"{KEY} holds numbers that no fp32 can hold.") from None
