"""Attribute values as JSON carries them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import isfinite, isnan
from typing import Any


def jsonable(value: Any) -> Any:
    """A value as JSON can carry it: bytes and the floats that JSON lacks as `{"$bytes": …}` and `{"$float": …}`."""
    if isinstance(value, float) and not isfinite(value):
        return {"$float": "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    return value


def restored(value: Any) -> Any:
    """The value that `jsonable` was given, but for tuples, which come back as lists."""
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, text),) = value.items()
        if key in _ODD and isinstance(text, str):
            with suppress(ValueError):  # somebody's own mapping with such a key
                return _ODD[key](text)
    return {key: restored(item) for key, item in value.items()}


_ODD: dict[str, Callable[[str], Any]] = {"$float": float, "$bytes": bytes.fromhex}
