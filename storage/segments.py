r"""A segment: one fully allocated file that frames are copied into. Mechanism only.

    offset  0                8          16         24           64
            | "TKSEG\x01\0\0" | number u64 | size u64 | zeros … | frames (see frames.py) … zeros

Appending through a mapping is a copy, not a system call, so it never waits and never gives the
interpreter away. A write through a mapping beyond allocated space raises SIGBUS, so a segment is
used only once the file system has given it all its blocks; where that can't be known (copy-on-write
and network file systems), frames are written with `pwrite` instead.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import struct
import time
from pathlib import Path

_HEADER = struct.Struct("<8sQQ")
_MAGIC = b"TKSEG\x01\0\0"
FIRST_FRAME = 64
_NAME = re.compile(r"\d{8}\.seg")
_PAGE = 4096
_TOUCHED_AT_A_TIME = 64  # pages; between two runs others may have the interpreter

_ALLOCATING_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "ramfs"})
"""Where allocated blocks are rewritten in place, so a mapped write can't run out of space."""


class Segment:
    """An open segment of this process.

    Attributes:
        number: its place in the journal, from 1.
        size: of the file in bytes.
        map: the shared mapping, or None where frames are written with `pwrite`.
    """

    __slots__ = ("_descriptor", "map", "number", "path", "size")

    def __init__(self, path: Path, number: int, size: int, descriptor: int, mapping: mmap.mmap | None) -> None:
        self.path = path
        self.number = number
        self.size = size
        self.map = mapping
        self._descriptor = descriptor

    def write(self, offset: int, frame: bytes) -> None:
        """Put a frame at `offset`.

        Raises:
            OSError: `pwrite` failed or wrote less; the segment must not be used any further.
        """
        if self.map is not None:
            self.map[offset : offset + len(frame)] = frame
        elif os.pwrite(self._descriptor, frame, offset) != len(frame):
            raise OSError(errno.ENOSPC, "short write", str(self.path))

    def touch(self) -> None:
        """Fault all pages in, so that the first write to each doesn't pay for it."""
        if self.map is None:
            return
        step = _PAGE * _TOUCHED_AT_A_TIME
        for start in range(_PAGE, self.size, step):
            for page in range(start, min(start + step, self.size), _PAGE):
                self.map[page] = 0
            time.sleep(0)

    def synchronise(self) -> None:
        """Make what was written survive the loss of power."""
        if self.map is not None:
            self.map.flush()
        os.fdatasync(self._descriptor) if hasattr(os, "fdatasync") else os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of the mapping and the descriptor; the file stays."""
        if self.map is not None:
            self.map.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def allocate(directory: Path, number: int, size: int, *, mapped: bool) -> Segment:
    """A new segment with all its blocks.

    Raises:
        OSError: there is no room, or the directory can't be written; nothing is left behind.
    """
    path = directory / f"{number:08d}.seg"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _allocate_blocks(descriptor, size)
        os.pwrite(descriptor, _HEADER.pack(_MAGIC, number, size), 0)
        mapping = mmap.mmap(descriptor, size) if mapped else None
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return Segment(path, number, size, descriptor, mapping)


def _allocate_blocks(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1 << 16)  # pragma: no cover  # macOS: writing zeros is the portable allocation
    for offset in range(0, size, len(zeros)):  # pragma: no cover
        os.pwrite(descriptor, zeros[: size - offset], offset)


def numbers(directory: Path) -> list[int]:
    """The numbers of the segments in a journal's directory, in order.

    Raises:
        OSError: the directory can't be read.
    """
    return sorted(int(name[:-4]) for name in os.listdir(directory) if _NAME.fullmatch(name))  # noqa: PTH208  # names are all it needs


def directories(root: Path) -> list[Path]:
    """The journals' directories; none where the root can't be read."""
    try:
        return sorted(path for path in root.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def can_map(directory: Path) -> bool:
    """Whether the file system under `directory` honours allocation, so that mapping is safe."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        device = directory.stat().st_dev
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(mounts):
        fields = line.split(" ")
        if fields[2] == wanted:
            return fields[fields.index("-") + 1] in _ALLOCATING_FILE_SYSTEMS
    return False


def free_bytes(directory: Path) -> int:
    """Space that an unprivileged process may still use there."""
    info = os.statvfs(directory)
    return info.f_bavail * info.f_frsize


def used_bytes(root: Path) -> int:
    """Size of all segments of all journals under `root`."""
    total = 0
    for directory in directories(root):
        try:
            with os.scandir(directory) as entries:
                total += sum(entry.stat().st_size for entry in entries if entry.name.endswith(".seg"))
        except OSError:
            continue  # removed meanwhile
    return total
