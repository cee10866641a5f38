"""What the databases' layout rests on, apart from the schema so that the writer needs no SQLAlchemy for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

APPLICATION_ID = 0x746B6565
"""`tkee`, in the header of every file of ours: a stranger's database is refused before any write."""

SLOW_INDEX_NS = 1_000_000_000
"""Spans of at least a second are indexed apart; a query for slower ones can use it too."""

BUCKET_SHIFT = 16
"""65,536 rows share a bucket of the trace index. Its keys are random within a bucket, so a batch of 5,000 touches all
of a bucket's pages, and each goes to the WAL: some 600 of them. In one index for all rows the rate falls for ever."""

_NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?\.db")


KEPT = "00000000T000000Z.db"
"""The partition that retention leaves alone: traces of open error groups, from partitions that it has dropped. Its
name makes it the oldest of all, for whoever reads them in their order."""


def own_partitions(directory: Path) -> list[Path]:
    """All partitions that records go to or went to, oldest first."""
    return [path for path in partition_files(directory) if path.name != KEPT]


def partition_files(directory: Path) -> list[Path]:
    """All partitions, oldest first; none where the directory can't be read."""
    try:
        return sorted((path for path in directory.iterdir() if _NAME.fullmatch(path.name)), key=lambda path: path.stem)
    except OSError:
        return []


def newest_first(directory: Path) -> Iterator[Path]:
    """All partitions, newest first, for whoever reads them one after the other.

    The kept one comes last, and only while it is the file that it was at first: another one has taken traces over from
    partitions that may have been read already.
    """
    kept = directory / KEPT
    before = _identity(kept)
    for path in reversed(partition_files(directory)):
        if path != kept or _identity(kept) == before:
            yield path


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
