r"""The frame: what a journal segment is made of. Mechanism only; it knows nothing of spans.

    offset  0        4          6       7        8           12            20
            | CRC32  | magic    | type  | flags  | length    | sequence    | payload …
            | u32    | "T" \x01 | u8    | u8     | u32       | u64         | `length` bytes

All little-endian. The CRC covers everything after itself, so a frame that another processor is still
copying, or that a crash cut off, never passes for whole. A length of zero is the end: segments are
allocated as zeros, and no frame has an empty payload. Frames are never split across segments.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from zlib import crc32

from .compiled import compiled

MAGIC = 0x0154
MAGIC_BYTES = b"T\x01"
HEADER = 20
MAX_PAYLOAD = 1 << 20
"""1 MiB: a length above it is damage, checked before anything is read by it."""

_BODY = struct.Struct("<HBBIQ")
_CRC = struct.Struct("<I")
_FRAME = struct.Struct("<IHBBIQ")


def pack(type_: int, sequence: int, payload: bytes) -> bytes:
    """A whole frame, ready to be copied in one piece."""
    body = _BODY.pack(MAGIC, type_, 0, len(payload), sequence) + payload
    return _CRC.pack(crc32(body)) + body


def scan_in_python(data: bytes, limit: int) -> tuple[list[tuple[int, int, bytes]], int]:
    """What `scan` does where the package was built without a compiler."""
    found: list[tuple[int, int, bytes]] = []
    view, size, at = memoryview(data), len(data), 0
    unpack, append = _FRAME.unpack_from, found.append
    while at + HEADER <= size and len(found) < limit:
        crc, magic, type_, _flags, length, sequence = unpack(data, at)
        end = at + HEADER + length
        if magic != MAGIC or not 0 < length <= MAX_PAYLOAD or end > size or crc32(view[at + 4 : end]) != crc:
            break
        append((type_, sequence, data[at + HEADER : end]))
        at = end
    return found, at


scan: Callable[[bytes, int], tuple[list[tuple[int, int, bytes]], int]]
scan = compiled(__package__, "scan") or scan_in_python
"""The valid frames at the beginning of some bytes, at most so many: (type, sequence, payload) each; and their end.

Written for speed: it sees every record.
"""


def scan_all(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """All valid frames in `data`, whatever stands between them."""
    at: int | None = 0
    while at is not None:
        found, consumed = scan(data[at:] if at else data, len(data))
        yield from found
        at = resynchronise(data, at + consumed)


def claimed_size(data: bytes) -> int:
    """Size of the frame that the header at the beginning of `data` claims; 0 where that can't be one."""
    if len(data) < HEADER:
        return 0
    _crc, magic, _type, _flags, length, _sequence = _FRAME.unpack_from(data)
    return HEADER + length if magic == MAGIC and 0 < length <= MAX_PAYLOAD else 0


def resynchronise(data: bytes, offset: int) -> int | None:
    """Where the next valid frame begins after damage at `offset`, or None where there is none."""
    at = data.find(MAGIC_BYTES, offset + 1 + 4)
    while at != -1:
        claimed = claimed_size(data[at - 4 : at - 4 + HEADER])
        if claimed and scan(data[at - 4 : at - 4 + claimed], 1)[1]:
            return at - 4
        at = data.find(MAGIC_BYTES, at + 1)
    return None
