"""Any value as one that a record can carry: bounded, encodable, and what had to be changed counted.

Every value has a limit, so that one attribute can't fill the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

MAX_VALUE = 32 * 1024
"""Characters of a text, bytes of a byte string or of an encoded container, in an attribute, a name or a message."""
MAX_ITEMS = 1000
"""Events, and links, of a span."""
MAX_DEPTH = 100
MAX_RECORD = 256 * 1024
"""Bytes of an encoded span; past it attributes are left out, the last ones first."""

_ITEM = 40  # bytes that an event or a link takes beside its name and attributes
_UTF8 = 4  # bytes of a character, at most
T = TypeVar("T")

_MIN_INT, _MAX_INT = -(1 << 63), (1 << 63) - 1
MAX_TIME = _MAX_INT
"""ns since the epoch, as SQLite takes it."""
_encode = msgspec.msgpack.Encoder().encode


class Cleaner:
    """Makes any value one that a record can carry, and counts what it had to change.

    Attributes:
        changed: values that were cut, replaced or left out.
    """

    def __init__(self, budget: int = MAX_RECORD) -> None:
        self.changed = 0
        self._budget = budget

    def attributes(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """A mapping of attributes within the limits and what is left of the budget."""
        clean: dict[str, Any] = {}
        for key, value in (given or {}).items():
            name, kept = self.text(str(key)), self.value(value)
            size = len(name) + _size(kept)
            if size > self._budget:
                self.changed += 1
                continue
            self._budget -= size
            clean[name] = kept
        return clean

    def affordable(self, items: Sequence[T], name: Callable[[T], str]) -> Iterator[T]:
        """Those of some events or links that the budget allows for, without their attributes."""
        for number, item in enumerate(items):
            size = min(len(name(item)), MAX_VALUE) * _UTF8 + _ITEM
            if number >= MAX_ITEMS or size > self._budget:
                self.changed += len(items) - number
                return
            self._budget -= size
            yield item

    def value(self, value: Any, depth: int = 0) -> Any:
        """One value."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool | float):
            return float(value) if isinstance(value, float) else value
        if isinstance(value, int):
            return int(value) if _MIN_INT <= value <= _MAX_INT else self._replaced(hex(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return self._cut(bytes(value))
        if depth >= MAX_DEPTH:
            return self._replaced("…")
        if isinstance(value, Mapping):
            return dict(self._fitting(((self.text(_safe_str(k)), v) for k, v in value.items()), depth))
        if isinstance(value, Sequence | set | frozenset):
            return [item for _, item in self._fitting(((None, item) for item in value), depth)]
        return self._replaced(_safe_str(value))

    def text(self, text: str) -> str:
        """A text of bounded length that UTF-8 can carry."""
        if len(text) > MAX_VALUE:
            self.changed += 1
            text = text[: MAX_VALUE - 1] + "…"
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:  # lone surrogates
                self.changed += 1
                text = text.encode(errors="replace").decode()
        return text

    def _cut(self, data: bytes) -> bytes:
        if len(data) > MAX_VALUE:
            self.changed += 1
        return data[:MAX_VALUE]

    def _fitting(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> Iterator[tuple[Any, Any]]:
        """The first elements of a container that fit its limit."""
        room = MAX_VALUE
        for key, item in pairs:
            kept = self.value(item, depth + 1)
            room -= _size(kept) + (_size(key) if key is not None else 0)
            if room < 0:
                self.changed += 1
                return
            yield key, kept

    def _replaced(self, text: str) -> str:
        self.changed += 1
        return self.text(text)


def _size(value: Any) -> int:
    try:
        return len(_encode(value))
    except (TypeError, ValueError):  # pragma: no cover  # cleaned values always encode
        return MAX_RECORD


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception:  # an attribute's own __str__ is the user's code
        return f"<{type(value).__name__}>"
