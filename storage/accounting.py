"""accepted = stored + pending + dropped: worked out from the journals and the database, each on its own.

The database says what has been stored and dropped and up to which record of each journal; what comes
after is counted frame by frame. A difference between the two sides is a defect or damage, never hidden.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import Connection, select

from . import segments
from .batch import Counted, drops
from .frames import scan_all
from .journal import Journal, JournalState
from .pages import read_page
from .records import FrameType
from .schema import accounting, aggregate_marks, journals
from .segments import FIRST_FRAME
from .views import Accounting

_ATTEMPTS = 5
_PAUSE = 0.05  # s; the writer may have applied and removed a segment between our two looks


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One committed state of `aggregates.db`."""

    figures: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Segment and sequence number of the last applied record, by journal."""
    counted: Mapping[str, Counted] = field(default_factory=dict)


def read_snapshot(connection: Connection) -> Snapshot:
    """Figures and marks of the same commit."""
    marks = aggregate_marks.c
    return Snapshot(
        {row.name: row.value for row in connection.execute(select(accounting))},
        {
            row.journal: (row.segment, row.sequence)
            for row in connection.execute(select(marks.journal, marks.segment, marks.sequence))
        },
        {
            row.journal: msgspec.msgpack.decode(row.counted, type=Counted)
            for row in connection.execute(select(journals))
        },
    )


def balance(snapshot: Snapshot, root: Path, own: Journal) -> tuple[Accounting, int]:
    """The accounting by a snapshot and the journals, and how many records neither side can explain."""
    accepted, stored = snapshot.figures.get("accepted", 0), snapshot.figures.get("stored", 0)
    truncated = snapshot.figures.get("truncated", 0)
    dropped = Counter(drops(snapshot.figures))
    pending = missing = 0
    for directory in segments.directories(root):
        segment, sequence = snapshot.marks.get(directory.name, (0, 0))
        counted = snapshot.counted.get(directory.name, Counted())
        state = own.state() if directory.name == own.name else _state(directory)
        frames, last = _after(directory, segment, sequence)
        last = max(last, sequence, state.accepted)
        accepted += last - sequence - max(0, -counted.unexplained)
        in_memory = min(state.in_memory, last - sequence - frames)
        pending += frames + in_memory
        truncated += max(0, state.truncated - counted.truncated)
        gap = last - sequence - frames - in_memory + counted.unexplained
        for reason, total in state.dropped.items():
            explained = min(gap, max(0, total - counted.dropped.get(reason, 0)))
            dropped[reason] += explained
            gap -= explained
        missing += gap
    dropped["journal_damaged"] += missing
    return Accounting(accepted, stored, pending, dict(sorted(dropped.items())), truncated), missing


def settle(look: Callable[[], Snapshot], root: Path, own: Journal) -> Accounting:
    """The accounting, looked at again while a difference may come from looking at two moments."""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE)
        result, difference = balance(look(), root, own)
        if not difference:
            break
    return result


def _state(directory: Path) -> JournalState:
    page = read_page(directory / "state")
    with suppress(msgspec.MsgspecError):
        if page:
            return msgspec.msgpack.decode(page, type=JournalState)
    return JournalState()


def _after(directory: Path, segment: int, sequence: int) -> tuple[int, int]:
    """How many records a journal has after one, and the last one's number."""
    count, last = 0, 0
    with suppress(OSError):
        for number in segments.numbers(directory):
            if number < segment:
                continue
            data = (directory / f"{number:08d}.seg").read_bytes()[FIRST_FRAME:]
            for type_, at, _payload in scan_all(data):
                if at > sequence and type_ not in {FrameType.DEFINITION, FrameType.SEAL}:
                    count, last = count + 1, at
    return count, last
