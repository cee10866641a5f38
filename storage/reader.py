"""Reading journals: what one process appended, from a mark on, whatever state its files are in.

Reads go through `pread`, never a mapping: a segment that somebody truncates must not raise SIGBUS in
the process that holds the writer's role.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import msgspec

from . import frames, segments
from .journal import JournalState
from .locks import FileLock
from .pages import read_page
from .records import FrameType
from .segments import FIRST_FRAME

_type = itemgetter(0)
_RECORDS = frozenset({FrameType.SPAN, FrameType.COMMAND})
CHUNK = 1 << 18
_READ_BYTES = 8 << 20
_SETTLE = 0.2  # s that a broken frame at the end of a live journal may still become whole


@dataclass(frozen=True, slots=True)
class Position:
    """How far a journal has been read: the next frame is at `offset` of `segment`; `sequence` was the last."""

    segment: int = 0
    offset: int = FIRST_FRAME
    sequence: int = 0


class Definitions(dict[int, bytes]):
    """A journal's definitions by number, which stays the same for its life.

    One that is missing, because its frame was damaged, is looked for in all segments: each has it twice.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def add(self, payload: bytes) -> None:
        """Take in a definition frame's payload."""
        self[int.from_bytes(payload[:4], "little")] = payload[4:]

    def __missing__(self, number: int) -> bytes:
        for segment in segments.numbers(self._directory):
            with suppress(OSError):
                data = (self._directory / f"{segment:08d}.seg").read_bytes()[FIRST_FRAME:]
                for type_, _sequence, payload in frames.scan_all(data):
                    if type_ == FrameType.DEFINITION:
                        self.add(payload)
        return self.setdefault(number, b"")


class JournalReader:
    """Tails one journal.

    Args:
        directory: the journal's.
        position: where to go on.
    """

    def __init__(self, directory: Path, position: Position) -> None:
        self.directory = directory
        self.name = directory.name
        self.position = position
        self.definitions = Definitions(directory)
        self.adopted: FileLock | None = None
        """Held once the process is known to be dead."""
        self.damaged_bytes = 0
        self.bytes_read = 0
        self._descriptor = -1
        self._left = False
        self._suspect: tuple[int, float] | None = None

    # --- the process ---------------------------------------------------------------------------------------------

    def check_alive(self) -> bool:
        """Whether the journal's process lives; a dead one's lock is taken, for good."""
        if self.adopted is None:
            try:
                self.adopted = FileLock.acquire(self.directory / "lock")
            except OSError:
                return self.directory.exists()
        return self.adopted is None

    def state(self) -> JournalState:
        """What the process last published about itself."""
        page = read_page(self.directory / "state")
        try:
            return msgspec.msgpack.decode(page, type=JournalState) if page else JournalState()
        except msgspec.MsgspecError:
            return JournalState()

    # --- frames --------------------------------------------------------------------------------------------------

    def read(self, limit: int) -> list[tuple[int, int, bytes]]:
        """Up to `limit` records, about 8 MiB, from the position on, which moves: (type, sequence, payload) each.

        Raises:
            OSError: a segment can't be read; nothing is lost by calling again.
        """
        records: list[tuple[int, int, bytes]] = []
        enough = self.bytes_read + _READ_BYTES
        while len(records) < limit and self.bytes_read < enough and (self._descriptor >= 0 or self._open_next()):
            data = self._peek()
            found, consumed = frames.scan(data, limit - len(records)) if data else ([], 0)
            if consumed:
                self._advance(found, consumed, records)
            elif not self._resolve_stop(data):
                break
        return records

    def is_finished(self) -> bool:
        """Whether a dead process's journal has nothing more to give."""
        return self.adopted is not None and self._descriptor < 0 and self._successor() is None

    def release(self) -> None:
        """Close the descriptor, keeping the position."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _peek(self) -> bytes:
        """The bytes at the position: a chunk, or the whole of a larger frame; b"" at a plain end."""
        offset = self.position.offset
        head = os.pread(self._descriptor, frames.HEADER, offset)
        if not head.strip(b"\0"):
            return b""
        return os.pread(self._descriptor, max(CHUNK, frames.claimed_size(head)), offset)

    def _advance(self, found: list[tuple[int, int, bytes]], consumed: int, out: list[tuple[int, int, bytes]]) -> None:
        sequence = self.position.sequence
        sealed = False
        if set(map(_type, found)) <= _RECORDS:
            out += found
            sequence, found = found[-1][1], []
        for record in found:
            if record[0] == FrameType.DEFINITION:
                self.definitions.add(record[2])
            elif record[0] == FrameType.SEAL:
                sealed = True
            else:
                sequence = record[1]
                out.append(record)
        self.position = Position(self.position.segment, self.position.offset + consumed, sequence)
        self.bytes_read += consumed
        if sealed:
            self._leave()

    # --- from segment to segment ---------------------------------------------------------------------------------

    def _open_next(self) -> bool:
        """Open the segment that the position is in, or the first one after it."""
        number = self._successor()
        if number is None:
            return False
        try:
            self._descriptor = os.open(self.directory / f"{number:08d}.seg", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        self._suspect = None
        self._left = False
        if number == self.position.segment:
            self._collect_definitions()
        else:
            self.position = Position(number, FIRST_FRAME, self.position.sequence)
        return True

    def _successor(self) -> int | None:
        at = self.position.segment
        try:
            numbers = segments.numbers(self.directory)
        except OSError:
            return None
        return next((n for n in numbers if n > at or (n == at and not self._left)), None)

    def _leave(self) -> None:
        self._left = True
        self.release()

    def _collect_definitions(self) -> None:
        """Definitions that stand before the position, met by whoever read this segment before us."""
        data = os.pread(self._descriptor, self.position.offset - FIRST_FRAME, FIRST_FRAME)
        for type_, _sequence, payload in frames.scan_all(data):
            if type_ == FrameType.DEFINITION:
                self.definitions.add(payload)

    # --- where the frames stop -----------------------------------------------------------------------------------

    def _resolve_stop(self, data: bytes) -> bool:
        """No whole frame at the position: the end, a frame in flight, a torn tail, or damage. True to read on."""
        over = self.adopted is not None or self._next_has_frames()
        if not over and not (self._settled() and (data or self.state().accepted > self.position.sequence)):
            return False
        rest = os.pread(self._descriptor, 1 << 30, self.position.offset)
        if frames.scan(rest, 1)[1]:
            return True  # it became whole between the two looks
        further = frames.resynchronise(rest, 0)
        if further is not None:
            self.damaged_bytes += len(rest[:further].strip(b"\0"))
            where = self.position
            self.position = Position(where.segment, where.offset + further, where.sequence)
        elif over:
            self.damaged_bytes += len(rest.strip(b"\0"))
            self._leave()
        return over or further is not None

    def _settled(self) -> bool:
        """Whether there has been no whole frame at the position for too long for one in flight; then asks anew."""
        now = time.monotonic()
        if self._suspect is None or self._suspect[0] != self.position.offset:
            self._suspect = (self.position.offset, now)
        if now - self._suspect[1] < _SETTLE:
            return False
        self._suspect = (self.position.offset, now)
        return True

    def _next_has_frames(self) -> bool:
        try:
            later = [n for n in segments.numbers(self.directory) if n > self.position.segment]
            if not later:
                return False
            with (self.directory / f"{later[0]:08d}.seg").open("rb") as file:
                file.seek(FIRST_FRAME)
                return bool(file.read(frames.HEADER).strip(b"\0"))
        except OSError:
            return False
