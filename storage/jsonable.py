"""Attribute values as JSON carries them."""

from __future__ import annotations

from math import isfinite
from typing import Any


def jsonable(value: Any) -> Any:
    """A value as JSON can carry it: bytes and the floats that JSON lacks as `{"$bytes": …}` and `{"$float": …}`."""
    if isinstance(value, float) and not isfinite(value):
        return {"$float": "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"}  # noqa: PLR0124
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    return value
