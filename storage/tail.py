"""The end of the journal, where the next frame goes: the part of an append that every record passes.

In C where the package was built with a compiler (`_native.c`), otherwise in Python: the same bytes, the same rules.
"""

from __future__ import annotations

import threading
from struct import Struct
from typing import Protocol
from zlib import crc32

from . import frames
from .compiled import compiled

_pack_body = Struct("<HBBIQ").pack
_pack_crc = Struct("<I").pack
_MAGIC, _HEADER, _MAX_PAYLOAD = frames.MAGIC, frames.HEADER, frames.MAX_PAYLOAD


class Buffer(Protocol):
    """A mapping that frames are copied into."""

    def __setitem__(self, place: slice, value: bytes, /) -> None: ...


class Tail:
    """Where the next frame goes in the segment in use. Atomic for any thread, also when a finaliser interrupts it.

    Whoever changes more than one thing holds `lock` and has `busy` set: until then `append` refuses.

    Args:
        lock: reentrant.

    Attributes:
        defined: numbers of the definitions that the segment holds; `use` empties it.
        busy: whether somebody is at work on the slow way.
        offset: where the next frame goes.
        limit: up to where frames may go by `append`; 0 closes it.
        sequence: number of the last record accepted.
    """

    __slots__ = ("_buffer", "busy", "defined", "limit", "lock", "offset", "sequence")

    def __init__(self, lock: threading.RLock) -> None:
        self.reset(lock)

    def reset(self, lock: threading.RLock) -> None:
        """Begin anew: no segment, no record."""
        self.lock = lock
        self.defined: set[int] = set()
        self._buffer: Buffer | None = None
        self.busy = False
        self.offset = self.limit = self.sequence = 0

    def use(self, buffer: Buffer | None, offset: int) -> None:
        """Go on in another buffer, or in none; `append` refuses until `limit` is set."""
        self.limit = 0
        self.defined.clear()
        self._buffer, self.offset = buffer, offset

    def append(self, type_: int, payload: bytes, definition: int) -> bool:
        """Accept a record and copy its frame; False, with nothing changed, where that isn't simply possible.

        Args:
            type_: the frame's type.
            payload: what the frame carries.
            definition: number of the definition that it refers to, or 0.
        """
        lock = self.lock
        lock.acquire()
        if self.busy:
            lock.release()
            return False
        self.busy = True
        try:
            offset, size = self.offset, len(payload)
            end = offset + _HEADER + size
            if end > self.limit or not 0 < size <= _MAX_PAYLOAD or (definition and definition not in self.defined):
                return False
            self.sequence = sequence = self.sequence + 1
            body = _pack_body(_MAGIC, type_, 0, size, sequence) + payload
            self._buffer[offset:end] = _pack_crc(crc32(body)) + body  # type: ignore[index]  # mapped: `limit` is 0 else
            self.offset = end
            return True
        finally:
            self.busy = False
            lock.release()

    def take_sequence(self) -> int:
        """Accept a record that takes the slow way, or none at all; its number."""
        with self.lock:
            self.sequence += 1
            return self.sequence


def new_tail(lock: threading.RLock) -> Tail:
    """The quicker kind, where it was built."""
    made: Tail = (compiled(__package__, "Tail") or Tail)(lock)
    return made
