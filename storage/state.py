"""What the writer publishes in `writer.state`, for every process of the data directory to read."""

from __future__ import annotations

from pathlib import Path

import msgspec

from .locks import is_held
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
    caught_up: bool = False
    """Whether, since it has the role, it has once stored all that the journals had."""


def read_state(path: Path) -> WriterState:
    """The last published state; all zeros where there is none."""
    page = read_page(path)
    try:
        return msgspec.msgpack.decode(page, type=WriterState) if page else WriterState()
    except msgspec.MsgspecError:
        return WriterState()


class Pulse:
    """What any process can know of the writer of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def state(self) -> WriterState:
        """The last published state; all zeros where there is none."""
        return read_state(self._data_dir / "writer.state")

    def is_alive(self) -> bool:
        """Whether some process holds the writer's role."""
        try:
            return is_held(self._data_dir / "writer.lock")
        except OSError:
            return False
