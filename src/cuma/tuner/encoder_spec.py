"""How an adapter says which profile encoder it was trained with: the form of `CumaConfig.profile_encoder`."""

from __future__ import annotations

from typing import Any

ENCODER_KEYS = ("id", "revision", "template", "fields")
"""What `CumaConfig.profile_encoder` may hold; "fields", a dict of lists of values, is made by
`ProfileEncoder.with_fields`."""


def is_encoder_spec(value: Any) -> bool:
    """Whether `value` has the form of `CumaConfig.profile_encoder`; its fields may be absent."""
    if not isinstance(value, dict) or set(value) - set(ENCODER_KEYS):
        return False
    fields = value.get("fields")
    return fields is None or (
        isinstance(fields, dict)
        and all(isinstance(values, list) and all(isinstance(one, str) for one in values) for values in fields.values())
    )
