"""What the writer publishes in `writer.state`, for every process of the data directory to read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .pages import read_page

STATE_PAGE_BYTES = 1 << 16


class WriterState(msgspec.Struct, array_like=True):
    """The writer's word about itself; times in ns since the epoch."""

    pid: int = 0
    updated: int = 0
    commit: int = 0
    committed: int = 0
    """When the last commit was."""
    lag: float = 0.0
    """Seconds for which something has been waiting."""
    degraded: list[tuple[str, str]] = []
    """(part, reason)."""
    marks: dict[str, int] = {}
    """Sequence number of the last record that both databases have, by journal."""
    rows: dict[str, int] = {}
    """The same of the last record that the history has."""


def read_state(path: Path) -> WriterState:
    """The last published state; all zeros where there is none."""
    page = read_page(path)
    try:
        return msgspec.msgpack.decode(page, type=WriterState) if page else WriterState()
    except msgspec.MsgspecError:
        return WriterState()
