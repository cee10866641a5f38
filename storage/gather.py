"""Finding all journals of a data directory, reading them in turn, and removing what has been applied."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import segments
from .reader import JournalReader, Position

Record = tuple[int, int, bytes]
_STALE_NEW = 60.0  # s after which a directory that never got its name is litter


@dataclass(slots=True)
class Part:
    """Records of one journal in a batch, and where the journal stands after them."""

    reader: JournalReader
    records: list[Record]
    before: Position
    after: Position
    size: int
    """Bytes of the journal that were read."""


def join_part(parts: dict[str, Part], part: Part) -> None:
    """Add what was read of a journal to what was read of it before."""
    known = parts.setdefault(part.reader.name, part)
    if known is not part:
        known.records += part.records
        known.after = part.after


class Gatherer:
    """Reads every journal under a root, fairly, from the marks on.

    Args:
        root: `journal/`.
        start: where to begin with a journal, by its name.
        own: name of this process's own journal: alive by definition.
    """

    def __init__(self, root: Path, start: Callable[[str], Position], own: Callable[[], str]) -> None:
        self._root = root
        self._start = start
        self._own = own
        self.readers: dict[str, JournalReader] = {}

    def discover(self) -> None:
        """Take note of new journals, and of processes that have died."""
        try:
            names = [path.name for path in self._root.iterdir()]
        except OSError:
            return
        for name in names:
            if name.startswith("."):
                self._sweep(self._root / name)
            elif name not in self.readers and (self._root / name / "lock").exists():
                self.readers[name] = JournalReader(self._root / name, self._start(name))
        own = self._own()
        for name, reader in self.readers.items():
            if name != own:
                reader.check_alive()

    def dead(self) -> frozenset[str]:
        """Journals whose process is known to be dead."""
        return frozenset(name for name, reader in self.readers.items() if reader.adopted is not None)

    @staticmethod
    def _sweep(path: Path) -> None:
        with suppress(OSError):
            if path.name.startswith(".new-") and time.time() - path.stat().st_mtime > _STALE_NEW:
                shutil.rmtree(path, ignore_errors=True)

    def read(self, limit: int) -> list[Part]:
        """Up to `limit` records, an equal share of each journal first."""
        parts = []
        share = max(1, limit // max(1, len(self.readers)))
        for reader in list(self.readers.values()):
            before, size = reader.position, reader.bytes_read
            try:
                records = reader.read(share)
            except OSError:
                records = []  # read again at the next turn
            if records or reader.position != before:
                parts.append(Part(reader, records, before, reader.position, reader.bytes_read - size))
        return parts

    def rewind(self) -> None:
        """Let go of all positions: the marks say anew where to begin."""
        self.close()
        self.readers.clear()

    def remove_applied(self, durable: dict[str, Position]) -> None:
        """Unlink the segments before the positions that all databases hold durably."""
        for name, position in durable.items():
            reader = self.readers.get(name)
            if reader is None:
                continue
            with suppress(OSError):
                for number in segments.numbers(reader.directory):
                    if number < position.segment:
                        (reader.directory / f"{number:08d}.seg").unlink(missing_ok=True)

    def remove_finished(self, name: str) -> bool:
        """Remove the directory of a dead, wholly applied journal; whether it is gone."""
        reader = self.readers[name]
        reader.release()
        with suppress(OSError):
            for number in segments.numbers(reader.directory):
                (reader.directory / f"{number:08d}.seg").unlink(missing_ok=True)
            shutil.rmtree(reader.directory, ignore_errors=True)
        gone = not reader.directory.exists()
        if gone:
            if reader.adopted is not None:
                reader.adopted.release()
            del self.readers[name]
        return gone

    def forget_missing(self) -> None:
        """Let go of journals whose directory somebody removed, once what was open of them is read."""
        for name, reader in list(self.readers.items()):
            if not reader.directory.exists():
                reader.release()
                if reader.adopted is not None:
                    reader.adopted.release()
                del self.readers[name]

    def release_inherited(self) -> None:
        """In a forked child: close the copies of adopted locks, so that only the parent keeps them."""
        for reader in self.readers.values():
            if reader.adopted is not None:
                reader.adopted.release()

    def close(self) -> None:
        """Close all descriptors and give adopted locks back."""
        for reader in self.readers.values():
            reader.release()
            if reader.adopted is not None:
                reader.adopted.release()
                reader.adopted = None
