"""A small shared page: one process publishes a few bytes, every other can read them, always whole.

Two slots are written in turn, each with a sequence number and a CRC, so a writer that is killed in
the middle leaves the slot before it. The file is allocated once and mapped: publishing needs no
free space, no system call and no lock.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from zlib import crc32

_SLOT = struct.Struct("<IIQ")  # crc of what follows, length, sequence


class SharedPage:
    """The publishing side.

    Args:
        path: the file, created or replaced.
        size: of one slot, header included; a longer content is refused by `publish`.

    Raises:
        OSError: the file can't be made.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._size = size
        self._sequence = 0
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._sequence = _newest(os.pread(descriptor, 2 * size, 0), size)[0]
            os.pwrite(descriptor, bytes(2 * size), 0) if self._sequence == 0 else None
            os.truncate(descriptor, 2 * size)
            self._map = mmap.mmap(descriptor, 2 * size)
        finally:
            os.close(descriptor)

    def publish(self, content: bytes) -> bool:
        """Make `content` what readers see; False where it doesn't fit."""
        if len(content) + _SLOT.size > self._size:
            return False
        self._sequence += 1
        rest = struct.pack("<IQ", len(content), self._sequence) + content
        start = self._size * (self._sequence % 2)
        self._map[start : start + 4 + len(rest)] = crc32(rest).to_bytes(4, "little") + rest
        return True

    def close(self) -> None:
        """Unmap; what was published stays."""
        self._map.close()


def read_page(path: Path) -> bytes | None:
    """What was published last, or None where there is nothing (yet)."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return _newest(data, len(data) // 2)[1]


def _newest(data: bytes, size: int) -> tuple[int, bytes | None]:
    best: tuple[int, bytes | None] = (0, None)
    for start in (0, size) if size >= _SLOT.size and len(data) == 2 * size else ():
        crc, length, sequence = _SLOT.unpack_from(data, start)
        end = start + _SLOT.size + length
        if sequence > best[0] and end <= start + size and crc32(data[start + 4 : end]) == crc:
            best = (sequence, data[start + _SLOT.size : end])
    return best
