import errno
import os
import stat
import threading

import pytest

from tracekeep.storage import frames, segments

SIZE = 1 << 16
FRAME = frames.pack(2, 1, b"payload")


@pytest.fixture
def allocate(tmp_path):
    made = []

    def allocate(number=1, *, mapped=True):
        made.append(segments.allocate(tmp_path, number, SIZE, mapped=mapped))
        return made[-1]

    yield allocate
    for segment in made:
        segment.close()


def test_a_segment_has_all_its_blocks(allocate):
    """A write through its mapping needs no further space; only the owner may read it."""
    status = allocate().path.stat()
    assert status.st_size == SIZE
    assert status.st_blocks * 512 >= SIZE
    assert stat.S_IMODE(status.st_mode) == 0o600


@pytest.mark.parametrize("mapped", [True, False])
def test_mapped_and_written_segments_are_the_same(allocate, mapped):
    """The bytes in the file don't depend on how they came there."""
    segment = allocate(3, mapped=mapped)
    segment.touch()
    segment.write(segments.FIRST_FRAME, FRAME)
    segment.synchronise()
    data = segment.path.read_bytes()
    assert data[:24] == b"TKSEG\x01\0\0" + (3).to_bytes(8, "little") + SIZE.to_bytes(8, "little")
    assert data[segments.FIRST_FRAME :].rstrip(b"\0") == FRAME
    assert data[24 : segments.FIRST_FRAME] == bytes(40)


def test_nothing_is_left_of_a_failed_allocation(tmp_path, monkeypatch):
    """The name is free for the next attempt."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        segments.allocate(tmp_path, 1, SIZE, mapped=True)
    assert not list(tmp_path.iterdir())


def test_a_segment_is_never_overwritten(allocate):
    """A number that is taken is refused."""
    allocate(1)
    with pytest.raises(FileExistsError):
        allocate(1)


def test_a_short_write_is_an_error(allocate, monkeypatch):
    """The caller learns that the segment can't be used any further."""
    segment = allocate(mapped=False)
    monkeypatch.setattr(os, "pwrite", lambda *_: 3)
    with pytest.raises(OSError, match="short write"):
        segment.write(segments.FIRST_FRAME, FRAME)


def test_only_segments_are_numbered(allocate, tmp_path):
    """Other files in a journal's directory don't matter; the order is that of the numbers."""
    for number in (2, 10, 1):
        allocate(number)
    for name in ("lock", "state", "00000003.seg.tmp", "3.seg"):
        (tmp_path / name).touch()
    assert segments.numbers(tmp_path) == [1, 2, 10]


def test_unknown_file_systems_are_not_mapped(tmp_path, monkeypatch):
    """Where allocation can't be relied on, nobody risks a SIGBUS."""
    monkeypatch.setattr(segments, "_ALLOCATING_FILE_SYSTEMS", frozenset())
    assert not segments.can_map(tmp_path)
    assert not segments.can_map(tmp_path / "missing")


def test_sizes_are_added_up_while_journals_come_and_go(tmp_path):
    """A directory that is removed in the middle of looking doesn't count, and doesn't raise."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "00000001.seg").write_bytes(bytes(100))
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            for name in ("a", "b", "c"):
                (tmp_path / name).mkdir()
                (tmp_path / name / "00000001.seg").touch()
            for name in ("a", "b", "c"):
                (tmp_path / name / "00000001.seg").unlink()
                (tmp_path / name).rmdir()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert {segments.used_bytes(tmp_path) for _ in range(3000)} == {100}
    finally:
        stop.set()
        thread.join()
