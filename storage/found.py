"""What a look through the partitions finds, and the cursors that lead on from there."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from .errors import InvalidCursor

T = TypeVar("T")
_WRAP = 1 << 64


@dataclass(slots=True)
class Found(Generic[T]):
    """What a look through the partitions has found so far."""

    items: list[T] = field(default_factory=list)
    places: list[tuple[str, int]] = field(default_factory=list)
    """Partition and row of each item."""
    cursor: str | None = None
    failures: list[str] = field(default_factory=list)
    """Why partitions could not be read."""


def cursor_after(place: tuple[str, int] | None) -> str:
    """The cursor of what comes after an item's place; of everything where there is none."""
    return encode_cursor(*(place or ("~", 1)))  # behind the names of all partitions


def encode_cursor(stem: str, row: int) -> str:
    """The cursor of what comes after a row of a partition."""
    return base64.urlsafe_b64encode(f"{stem}:{row}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, int]:
    """The partition and the row that a cursor is of.

    Raises:
        InvalidCursor: it is none.
    """
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        stem, _, row = plain.rpartition(":")
        if stem and 0 < int(row) < 1 << 63 and encode_cursor(stem, int(row)) == cursor:
            return stem, int(row)
    except (ValueError, binascii.Error):
        pass
    raise InvalidCursor(f"{cursor!r} is not a cursor that this store gave out")


def hex64(signed: int) -> str:
    """A 64-bit id, as a partition has it, in hex."""
    return f"{signed if signed >= 0 else signed + _WRAP:016x}"
