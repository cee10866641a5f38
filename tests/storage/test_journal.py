import contextlib
import errno
import gc
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_spans import die, directory_of, drain, read_all
from tk_wait import eventually

from tracekeep.storage import frames, segments
from tracekeep.storage.reader import JournalReader, Position
from tracekeep.storage.records import FrameType

SPAN = int(FrameType.SPAN)
KIB = 1 << 10


def numbered(count, size=100):
    return [number.to_bytes(8, "big").ljust(size, b".") for number in range(count)]


def append_all(journal, payloads, **options):
    for payload in payloads:
        journal.append(SPAN, payload, **options)


def survivors(journal):
    """What a reader finds once the process is dead."""
    die(journal)
    return read_all(directory_of(journal))


def contents(records):
    return [payload for _type, _sequence, payload in records]


def account(journal):
    """Where everything that was accepted is."""
    state = journal.state()
    kept = len(survivors(journal)) if directory_of(journal) is not None else 0
    assert state.accepted == kept + state.in_memory + sum(state.dropped.values()), state
    return state


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(st.binary(min_size=1, max_size=9000), max_size=40))
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "pwrite"])
def test_what_was_appended_is_read(new_journal, monkeypatch, mapped, payloads):
    """Any payloads, across segments, in order and numbered from 1; the same with and without a mapping."""
    monkeypatch.setattr(segments, "can_map", lambda _: mapped)
    journal = new_journal()
    append_all(journal, payloads)
    if payloads:
        found = survivors(journal)
        assert contents(found) == payloads
        assert [sequence for _type, sequence, _payload in found] == list(range(1, len(payloads) + 1))


def test_a_frame_larger_than_the_read_chunk(new_journal):
    """It is read whole, and so are those around it."""
    journal = new_journal(segment_bytes=4 << 20)
    payloads = [b"a", b"b" * (300 * KIB), b"c", b"d" * frames.MAX_PAYLOAD, b"e"]
    append_all(journal, payloads)
    assert contents(survivors(journal)) == payloads


@pytest.mark.parametrize(
    ("segment", "size"), [(32 << 20, frames.MAX_PAYLOAD + 1), (1 << 16, frames.MAX_PAYLOAD + 1), (1 << 16, 1 << 16)]
)
def test_what_no_frame_can_hold_is_counted(new_journal, segment, size):
    """A payload above the limit, or that no segment has room for, is dropped as too large."""
    journal, payload = new_journal(segment_bytes=segment), bytes(size)
    append_all(journal, [b"before", payload, b"after"])
    found = survivors(journal)
    assert contents(found) == [b"before", b"after"]
    assert [sequence for _type, sequence, _payload in found] == [1, 3]
    assert journal.state().dropped["too_large"] == 1


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "pwrite"])
def test_each_segment_defines_what_it_refers_to(new_journal, monkeypatch, mapped):
    """A reader that begins in any segment knows the origins of all its records."""
    monkeypatch.setattr(segments, "can_map", lambda _: mapped)
    journal = new_journal()
    numbers = [journal.define(b"first"), journal.define(b"second")]
    for index, payload in enumerate(numbered(3000)):
        journal.append(SPAN, payload, numbers[index % 2])
    die(journal)
    found = segments.numbers(directory_of(journal))
    assert len(found) > 3
    for number in found:
        reader = JournalReader(directory_of(journal), Position(number))
        if not reader.read(10):
            assert number == found[-1], "allocated ahead"
            continue
        assert reader.definitions == {1: b"first", 2: b"second"}
        reader.release()


def test_an_origin_is_defined_once_a_segment(new_journal):
    """Repeating it costs nothing more."""
    journal = new_journal()
    number = journal.define(b"origin" * 100)
    append_all(journal, numbered(200, 20), origin=number)
    die(journal)
    data = (directory_of(journal) / "00000001.seg").read_bytes()
    assert data.count(b"origin" * 100) == 1


def test_a_reader_that_starts_again_knows_earlier_definitions(new_journal):
    """Those that stand before its mark in the segment are found."""
    journal = new_journal()
    number = journal.define(b"origin")
    append_all(journal, numbered(10), origin=number)
    first = JournalReader(directory_of(journal), Position())
    assert len(first.read(5)) == 5
    first.release()
    second = JournalReader(directory_of(journal), first.position)
    assert contents(second.read(100)) == numbered(10)[5:]
    assert dict(second.definitions) == {1: b"origin"}
    second.release()


def test_a_reader_races_with_an_appender(new_journal):
    """While a thread appends through many segments, a live reader gets each record once, in order."""
    journal = new_journal()
    payloads = numbered(30_000)
    journal.start()
    appender = threading.Thread(target=append_all, args=(journal, payloads))
    reader, found = JournalReader(directory_of(journal), Position()), []
    appender.start()
    deadline = time.monotonic() + 30
    while len(found) < len(payloads) and time.monotonic() < deadline:
        found += reader.read(1000)
    appender.join()
    found += drain(reader)
    reader.release()
    assert contents(found) == payloads
    assert reader.damaged_bytes == 0


def test_many_threads_append(new_journal):
    """Each record is kept once, and each thread's own in its order."""
    journal = new_journal()
    groups = [numbered(3000, 16 + index) for index in range(4)]
    threads = [threading.Thread(target=append_all, args=(journal, group)) for group in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = contents(survivors(journal))
    for index, group in enumerate(groups):
        assert [payload for payload in found if len(payload) == 16 + index] == group


# --- append inside append -------------------------------------------------------------------------------------------


class Nested(bytes):
    """A payload whose being copied makes the same thread append another."""

    journal = None

    def __radd__(self, other):
        self.journal.append(SPAN, b"inner")
        return other + bytes(self)


def test_an_append_inside_an_append(new_journal):
    """What a finaliser records while its thread is appending is kept, after the record that it interrupted."""
    journal = new_journal()
    Nested.journal = journal
    append_all(journal, [b"first", Nested(b"outer"), b"last"])
    assert contents(survivors(journal)) == [b"first", b"outer", b"inner", b"last"]


def test_appends_from_a_signal_handler(new_journal):
    """Signals that arrive in the middle of appends lose and repeat nothing."""
    journal = new_journal()
    before, handled = signal.getsignal(signal.SIGALRM), []

    def handler(*_):
        handled.append(b"s%d" % len(handled))
        journal.append(SPAN, handled[-1])

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        payloads = numbered(20_000)
        append_all(journal, payloads)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = contents(survivors(journal))
    assert handled
    assert sorted(payload for payload in found if payload.startswith(b"s")) == sorted(handled)
    assert [payload for payload in found if not payload.startswith(b"s")] == payloads


def test_appends_from_finalisers(new_journal):
    """Garbage whose finaliser records, collected at any moment of an append, harms nothing."""
    journal = new_journal()
    finalised, number = [], itertools.count()

    class Garbage:
        def __init__(self):
            self.me = self

        def __del__(self):  # in any thread, and one between two lines of another
            payload = b"g%d" % next(number)
            finalised.append(payload)
            journal.append(SPAN, payload)

    before = gc.get_threshold()
    gc.set_threshold(7)
    try:
        for payload in numbered(3000):
            Garbage()
            journal.append(SPAN, payload)
    finally:
        gc.set_threshold(*before)
        gc.collect()
    found = contents(survivors(journal))
    assert len(finalised) == 3000
    assert sorted(found) == sorted(numbered(3000) + finalised)


def test_an_append_inside_the_keepers_drain(new_journal, monkeypatch):
    """A finaliser that runs in the keeper while that moves memory to a segment records too, and breaks no frame."""
    journal = new_journal()
    once = iter([True])
    write = segments.Segment.write

    def interrupted(segment, offset, frame):
        write(segment, offset, frame)
        if next(once, False):
            journal.append(SPAN, b"inner")

    with Unable(monkeypatch):
        append_all(journal, numbered(20))
    monkeypatch.setattr(segments.Segment, "write", interrupted)
    eventually(lambda: not journal.state().in_memory, 5)
    journal.append(SPAN, b"last")
    found = survivors(journal)
    assert sorted(contents(found)) == sorted([*numbered(20), b"inner", b"last"])
    sequences = [sequence for _type, sequence, _payload in found]
    assert sequences == sorted(sequences), "a mark is one number: what comes later must have a higher one"


# --- when there is no room ------------------------------------------------------------------------------------------


class Unable:
    """No segment can be had meanwhile."""

    def __init__(self, monkeypatch, error=errno.ENOSPC):
        self.monkeypatch, self.error = monkeypatch, error

    def __enter__(self):
        def fail(*_):
            raise OSError(self.error, os.strerror(self.error))

        self.context = self.monkeypatch.context()
        self.context.__enter__().setattr(os, "posix_fallocate", fail)

    def __exit__(self, *_):
        self.context.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(errno.ENOSPC, "no_space"), (errno.EDQUOT, "journal_full"), (errno.EROFS, "journal_unavailable")],
)
def test_memory_takes_over_without_room(new_journal, monkeypatch, error, reason):
    """Records wait in memory, errors longest; what it can't take is counted by the cause."""
    journal = new_journal(memory_max_bytes=80 * KIB)
    with Unable(monkeypatch, error):
        append_all(journal, numbered(1000, 100))
        assert journal.degraded
        ordinary = journal.state().in_memory
        assert 0 < ordinary < 1000
        assert journal.state().dropped[reason] == 1000 - ordinary
        append_all(journal, numbered(50, 100), important=True)
        state = journal.state()
        assert state.in_memory == ordinary + 50, "errors are still taken"
        append_all(journal, numbered(1000, 100), important=True)
        assert journal.state().in_memory < ordinary + 1050, "but not without end"
    eventually(lambda: not journal.state().in_memory, 5)
    assert journal.degraded is None
    assert account(journal).dropped[reason] > 0


def test_the_cap_is_kept(new_journal, tmp_path):
    """Segments never exceed `journal_max_bytes`; past it errors are dropped last, and all is counted."""
    journal = new_journal(journal_max_bytes=1 << 20, memory_max_bytes=64 * KIB)
    append_all(journal, numbered(20_000, 100))
    assert segments.used_bytes(tmp_path / "journal") <= 1 << 20
    dropped = journal.state().dropped
    assert dropped["journal_full"] > 0
    assert "journal_max_bytes" in journal.degraded
    append_all(journal, numbered(20, 100), important=True)
    assert journal.state().dropped == dropped
    append_all(journal, numbered(20, 100))
    assert journal.state().dropped["journal_full"] == dropped["journal_full"] + 20
    account(journal)


def test_room_is_used_again(new_journal):
    """Once applied segments are gone, the journal goes on by itself, with nothing out of order."""
    journal = new_journal(journal_max_bytes=1 << 20, memory_max_bytes=1 << 20)
    append_all(journal, numbered(10_000, 100))
    assert journal.state().in_memory > 100
    reader = JournalReader(directory_of(journal), Position())
    found = drain(reader)
    for number in segments.numbers(directory_of(journal))[:-1]:
        (directory_of(journal) / f"{number:08d}.seg").unlink()
    eventually(lambda: not journal.state().in_memory, 5)
    journal.append(SPAN, b"last")
    found += drain(reader)
    reader.release()
    sequences = [sequence for _type, sequence, _payload in found]
    assert sequences == sorted(set(sequences))
    assert len(found) + sum(journal.state().dropped.values()) == 10_001


def test_order_holds_while_memory_drains(new_journal, monkeypatch):
    """Records that come while the keeper moves memory to a segment stay behind what waited before them."""
    journal = new_journal(segment_bytes=1 << 20)
    with Unable(monkeypatch):
        append_all(journal, numbered(2000, 50))
    stop = threading.Event()

    def keep_appending():
        while not stop.is_set():
            journal.append(SPAN, b"new")

    appender = threading.Thread(target=keep_appending)
    appender.start()
    try:
        eventually(lambda: not journal.state().in_memory, 10, every=0.01)
    finally:
        stop.set()
        appender.join()
    found = survivors(journal)
    sequences = [sequence for _type, sequence, _payload in found]
    assert sequences == sorted(sequences), "a mark is one number: what comes later must have a higher one"
    assert contents(found)[:2000] == numbered(2000, 50)


def test_a_failed_write_moves_on(new_journal, monkeypatch):
    """When `pwrite` fails, the segment is left and the record waits: none is lost or doubled."""
    monkeypatch.setattr(segments, "can_map", lambda _: False)
    journal = new_journal()
    payloads = numbered(300)
    append_all(journal, payloads[:100])
    pwrite, failures = os.pwrite, iter([True, True])

    def failing(descriptor, data, offset):
        if offset >= segments.FIRST_FRAME and next(failures, False):
            raise OSError(errno.EIO, "Input/output error")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", failing)
    append_all(journal, payloads[100:])
    eventually(lambda: not journal.state().in_memory, 5)
    assert contents(survivors(journal)) == payloads


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 2 MiB, where the kernel lets us make one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(tiny_disk, tmp_path, new_journal):
    """A disk without room means memory, then counted drops, never a SIGBUS; with room again all goes on."""
    (tmp_path / "journal").symlink_to(tiny_disk)
    journal = new_journal(memory_max_bytes=64 * KIB, reserve_bytes=64 << 20)
    append_all(journal, numbered(1000))
    filler = tiny_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    append_all(journal, numbered(5000))
    assert journal.degraded
    assert journal.state().dropped["no_space"] > 0
    filler.unlink()
    eventually(lambda: not journal.state().in_memory, 5)
    append_all(journal, numbered(1000))
    assert account(journal).in_memory == 0


def test_a_removed_directory_is_begun_anew(new_journal, tmp_path):
    """A journal deleted under its process is followed by another, which takes all that comes."""
    journal = new_journal()
    append_all(journal, numbered(10))
    before = journal.name
    shutil.rmtree(tmp_path / "journal")
    eventually(lambda: journal.name != before and directory_of(journal).exists(), 5)
    append_all(journal, numbered(20))
    assert contents(survivors(journal)) == numbered(20)


def test_a_directory_that_can_not_be_made(new_journal, tmp_path):
    """Where something else stands in its place, records wait; once it is gone, they are kept."""
    (tmp_path / "journal").write_text("no directory")
    journal = new_journal()
    append_all(journal, numbered(50))
    assert journal.degraded
    assert journal.state().in_memory == 50
    (tmp_path / "journal").unlink()
    eventually(lambda: not journal.state().in_memory, 5)
    assert contents(survivors(journal)) == numbered(50)


# --- the rest of its life -------------------------------------------------------------------------------------------


def test_power_durability_syncs(new_journal, monkeypatch):
    """With `power`, the segment in use is synchronised every `sync_interval`; with `process` never."""
    synced = []
    monkeypatch.setattr(segments.Segment, "synchronise", lambda segment: synced.append(segment.number))
    journal = new_journal(durability="power", sync_interval=0.01)
    journal.append(SPAN, b"x")
    eventually(lambda: len(synced) > 3, 5)
    die(journal)
    synced.clear()
    other = new_journal(sync_interval=0.01)
    other.append(SPAN, b"x")
    other.tend()
    assert not synced


def test_a_failed_sync_leaves_the_segment(new_journal, monkeypatch):
    """After a failed fsync its pages count as clean: records go on in another one, and none is lost."""

    def fail(segment):
        if segment.number == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(segments.Segment, "synchronise", fail)
    journal = new_journal(durability="power", sync_interval=0.01)
    append_all(journal, numbered(10))
    eventually(lambda: journal._segment is not None and journal._segment.number > 1, 5)
    append_all(journal, [b"after"])
    assert contents(survivors(journal)) == [*numbered(10), b"after"]


def test_recording_after_close(new_journal):
    """A journal that was closed still takes records, safely."""
    journal = new_journal()
    append_all(journal, numbered(10))
    journal.close()
    append_all(journal, numbered(2000))
    found = contents(survivors(journal))
    state = journal.state()
    assert found[:10] == numbered(10)
    assert len(found) + state.in_memory + sum(state.dropped.values()) == 2010


def test_the_published_state_is_read_by_others(new_journal):
    """What a process says about its journal: how much it accepted, what it dropped and cut."""
    journal = new_journal()
    append_all(journal, [*numbered(10), bytes(1 << 20)])
    journal.count_truncated(3)
    journal.count_unencodable()
    journal.tend()
    state = JournalReader(directory_of(journal), Position()).state()
    assert (state.accepted, state.truncated, state.in_memory, state.degraded) == (12, 3, 0, None)
    assert {reason: count for reason, count in state.dropped.items() if count} == {"too_large": 1, "unencodable": 1}


def test_two_journals_do_not_meet(new_journal, tmp_path):
    """Each process has its own directory, held by its own lock."""
    one, other = new_journal(), new_journal()
    append_all(one, numbered(10))
    append_all(other, numbered(20))
    assert len(list((tmp_path / "journal").iterdir())) == 2
    reader = JournalReader(directory_of(other), Position())
    assert reader.check_alive()
    assert contents(survivors(one)) == numbered(10)
    die(other)
    assert not reader.check_alive()
    assert contents(drain(reader)) == numbered(20)
    reader.release()
    reader.adopted.release()
