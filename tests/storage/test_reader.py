import os
import time
from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tk_spans import Script, die, directory_of, everything, frame_spans, only_journal, read_all, span
from tk_wait import eventually

from tracekeep.storage import frames, segments
from tracekeep.storage.journal import Journal
from tracekeep.storage.reader import JournalReader, Position
from tracekeep.storage.records import FrameType
from tracekeep.storage.segments import FIRST_FRAME
from tracekeep.storage.settings import StoreSettings

SPAN = int(FrameType.SPAN)
PAGE = 4096
RECORDS = 1500  # of 120 bytes: 545 in a segment of 64 KiB, so two full segments and a part of a third
IN_A_SEGMENT = 545
TORN_TAIL = 410


class Layout(NamedTuple):
    """A segment before it is damaged."""

    frames: list
    data: bytearray

    def frame(self, index, start, stop):
        return self.frames[index][0] + start, self.frames[index][0] + stop

    def payload(self, index):
        return self.frames[index][0] + frames.HEADER, self.frames[index][1]


@dataclass(frozen=True)
class Damage:
    """What is done to the bytes (start, stop) of a segment, and how many of the 1,500 records it costs."""

    where: object
    how: object
    lost: int
    segment: int = 2


def flip(data, start, stop):
    data[start:stop] = bytes(byte ^ 0xFF for byte in data[start:stop])


def zero(data, start, stop):
    data[start:stop] = bytes(stop - start)


def truncate(data, start, _stop):
    del data[start:]


def extend(data, start, _stop):
    data[start : start + 40] = b"T\x01" * 20


def all_ones(data, start, stop):
    data[start:stop] = b"\xff" * (stop - start)


MIDDLE = 270
DAMAGES = {
    "nothing": Damage(lambda _: (0, 0), flip, 0),
    "the segment's magic": Damage(lambda _: (0, 8), flip, 0),
    "the segment's header": Damage(lambda _: (0, FIRST_FRAME), zero, 0),
    "the first payload": Damage(lambda at: at.payload(0), flip, 1),
    "a payload in the middle": Damage(lambda at: at.payload(MIDDLE), flip, 1),
    "the last payload": Damage(lambda at: at.payload(IN_A_SEGMENT - 1), flip, 1),
    "one byte of a payload": Damage(lambda at: at.frame(MIDDLE, 50, 51), flip, 1),
    "a CRC": Damage(lambda at: at.frame(MIDDLE, 0, 4), flip, 1),
    "a frame's magic": Damage(lambda at: at.frame(MIDDLE, 4, 6), flip, 1),
    "a type": Damage(lambda at: at.frame(MIDDLE, 6, 7), flip, 1),
    "flags": Damage(lambda at: at.frame(MIDDLE, 7, 8), flip, 1),
    "a length, a little": Damage(lambda at: at.frame(MIDDLE, 8, 9), flip, 1),
    "a length, above all limits": Damage(lambda at: at.frame(MIDDLE, 8, 12), all_ones, 1),
    "a length, to zero": Damage(lambda at: at.frame(MIDDLE, 8, 12), zero, 1),
    "a length, beyond the segment": Damage(lambda at: at.frame(MIDDLE, 10, 11), flip, 1),
    "a sequence number": Damage(lambda at: at.frame(MIDDLE, 12, 20), flip, 1),
    "a whole header": Damage(lambda at: at.frame(MIDDLE, 0, 20), zero, 1),
    "a whole frame": Damage(lambda at: at.frame(MIDDLE, 0, 120), zero, 1),
    "the first header": Damage(lambda at: at.frame(0, 0, 20), zero, 1),
    "the border of two frames": Damage(lambda at: at.frame(MIDDLE, 119, 121), flip, 2),
    "a page to zero": Damage(lambda _: (3 * PAGE, 4 * PAGE), zero, 35),
    "a page to noise": Damage(lambda _: (3 * PAGE, 4 * PAGE), flip, 35),
    "the first page": Damage(lambda _: (0, PAGE), zero, 34),
    "the last page": Damage(lambda _: (15 * PAGE, 16 * PAGE), zero, 34),
    "the seal": Damage(lambda at: at.frame(IN_A_SEGMENT, 0, 20), flip, 0),
    "cut in the middle": Damage(lambda at: at.payload(MIDDLE), truncate, IN_A_SEGMENT - MIDDLE),
    "cut before the frames": Damage(lambda _: (FIRST_FRAME, 0), truncate, IN_A_SEGMENT),
    "cut to nothing": Damage(lambda _: (0, 0), truncate, IN_A_SEGMENT),
    "everything to zero": Damage(lambda _: (0, 16 * PAGE), zero, IN_A_SEGMENT),
    "the first segment's first frame": Damage(lambda at: at.frame(0, 0, 120), flip, 1, segment=1),
    "the whole first segment": Damage(lambda _: (0, 16 * PAGE), zero, IN_A_SEGMENT, segment=1),
    "the torn tail": Damage(lambda at: at.payload(TORN_TAIL - 1), flip, 1, segment=3),
    "the tail's page": Damage(lambda _: (12 * PAGE, 13 * PAGE), zero, 1, segment=3),
    "noise after the tail": Damage(lambda at: (at.frames[-1][1], 0), extend, 0, segment=3),
    "cut tail": Damage(lambda at: at.payload(TORN_TAIL - 1), truncate, 1, segment=3),
}


def damaged(path, damage):
    """Do it; gives the places of the frames as they were."""
    data = bytearray(path.read_bytes())
    layout = Layout(frame_spans(data), data)
    damage.how(data, *damage.where(layout))
    path.write_bytes(data)
    return layout


def write_journal(root, payloads=None):
    """A dead process's journal of three segments."""
    journal = keeperless(root)
    for number in range(RECORDS):
        journal.append(SPAN, payloads(number) if payloads else b"%099d." % number)
    die(journal)
    return directory_of(journal)


def keeperless(root):
    """A journal that allocates each segment when it is needed, so that their numbers are known."""
    journal = Journal(root, StoreSettings(segment_bytes=1 << 16, reserve_bytes=0))
    journal._start_keeper = lambda: None
    return journal


def small_span(number):
    """A span of 100 bytes."""
    details = {"trace_id": bytes(16), "span_id": (1 << 63) + number, "start": 1 << 60}
    payload = span("n" * (99 - len(span("", origin=0, **details))), origin=0, **details)
    assert len(payload) == 100
    return payload


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_costs_only_what_it_touches(tmp_path, name):
    """All other records are read, in order, later segments too, and nothing raises."""
    damage = DAMAGES[name]
    directory = write_journal(tmp_path)
    assert segments.numbers(directory) == [1, 2, 3]
    layout = damaged(directory / f"{damage.segment:08d}.seg", damage)
    assert len(layout.frames) == (TORN_TAIL if damage.segment == 3 else IN_A_SEGMENT + 1)
    found = read_all(directory)
    assert len(found) == RECORDS - damage.lost
    assert [int(payload[:-1]) + 1 for *_, payload in found] == [sequence for _, sequence, _ in found]
    assert [sequence for _, sequence, _ in found] == sorted({sequence for _, sequence, _ in found})


COUNTED = ("nothing", "the first payload", "a length, to zero", "a page to zero", "everything to zero", "cut tail")


@pytest.mark.parametrize("name", COUNTED)
def test_damage_is_counted(tmp_path, opened, name):
    """The writer stores what can be read, and the accounting has the rest as `journal_damaged`."""
    damage = DAMAGES[name]
    directory = write_journal(tmp_path / "journal", small_span)
    damaged(directory / f"{damage.segment:08d}.seg", damage)
    store = opened()
    account = eventually(lambda: settled(store), 10)
    assert (account.accepted, account.stored) == (RECORDS, RECORDS - damage.lost)
    assert account.dropped["journal_damaged"] == damage.lost
    assert len({each.span_id for each in everything(store)}) == RECORDS - damage.lost
    eventually(lambda: not directory.exists(), 5)
    assert store.accounting() == account, "it stays so once the journal is gone"


def settled(store):
    account = store.accounting()
    assert account.balanced
    return account if account.pending == 0 and account.accepted else None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_damage_raises_or_invents(tmp_path_factory, data):
    """Whatever bytes are overwritten anywhere, a reader ends, and all that it gives was written, once, in order."""
    directory = write_small(tmp_path_factory.mktemp("journal"))
    for number in data.draw(st.lists(st.sampled_from([1, 2]), max_size=4)):
        path = directory / f"{number:08d}.seg"
        content = bytearray(path.read_bytes())
        start = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(max_size=200) | st.integers(0, 9000).map(bytes))
        content[start : start + len(noise)] = noise
        path.write_bytes(content)
    found = read_all(directory)
    assert all(payload == b"%099d." % (sequence - 1) for _, sequence, payload in found)
    sequences = [sequence for _, sequence, _ in found]
    assert sequences == sorted(set(sequences))


def write_small(root):
    journal = keeperless(root)
    for number in range(700):
        journal.append(SPAN, b"%099d." % number)
    die(journal)
    return directory_of(journal)


def test_a_missing_segment_is_passed_over(tmp_path):
    """The records of those before and after it are read."""
    directory = write_journal(tmp_path)
    (directory / "00000002.seg").unlink()
    assert len(read_all(directory)) == RECORDS - IN_A_SEGMENT


def test_reading_goes_on_from_any_record(tmp_path):
    """A reader that begins at the position of another finds exactly the rest."""
    directory = write_journal(tmp_path)
    first = JournalReader(directory, Position())
    first.check_alive()
    whole, positions = [], [Position()]
    while more := first.read(97):
        whole += more
        positions.append(first.position)
    first.release()
    first.adopted.release()
    for index, position in enumerate(positions):
        assert read_all(directory, position) == whole[index * 97 :]


def test_damage_in_a_live_journal(new_journal):
    """Once it is clear that a broken frame isn't one in flight, those behind it are read, while the process lives."""
    journal = new_journal()
    for number in range(100):
        journal.append(SPAN, b"%099d." % number)
    place = directory_of(journal) / "00000001.seg"
    start, stop = frame_spans(place.read_bytes())[40]
    descriptor = os.open(place, os.O_WRONLY)
    os.pwrite(descriptor, b"\xff" * (stop - start), start)
    os.close(descriptor)
    reader, found = JournalReader(directory_of(journal), Position()), []
    eventually(lambda: found.extend(reader.read(1000)) or len(found) == 99, 5, every=0.01)
    journal.append(SPAN, b"goes on")
    eventually(lambda: found.extend(reader.read(1000)) or len(found) == 100, 5, every=0.01)
    assert [sequence for _, sequence, _ in found] == [n for n in range(1, 102) if n != 41]
    assert reader.damaged_bytes == stop - start
    reader.release()


@pytest.mark.parametrize(
    ("start", "stop"), [(PAGE, 2 * PAGE), (FIRST_FRAME, PAGE), (FIRST_FRAME + 120, FIRST_FRAME + 240)]
)
def test_a_hole_in_a_live_journal(new_journal, start, stop):
    """What stands behind zeros isn't kept waiting until the segment is full."""
    journal = new_journal()
    for number in range(100):
        journal.append(SPAN, b"%099d." % number)
    descriptor = os.open(directory_of(journal) / "00000001.seg", os.O_WRONLY)
    os.pwrite(descriptor, bytes(stop - start), start)
    os.close(descriptor)
    journal.append(SPAN, b"behind")
    reader, found = JournalReader(directory_of(journal), Position()), []
    try:
        eventually(lambda: found.extend(reader.read(1000)) or [n for _, n, _ in found][-1:] == [101], 3, every=0.01)
    finally:
        reader.release()


def test_a_frame_in_flight_is_waited_for(new_journal):
    """A frame of which a part is there yet is neither skipped nor counted as damage when it becomes whole."""
    journal = new_journal()
    journal.append(SPAN, b"first")
    frame = frames.pack(SPAN, 2, b"x" * 5000)
    journal._segment.write(journal._tail.offset, frame[:3000])
    reader = JournalReader(directory_of(journal), Position())
    assert len(reader.read(10)) == 1
    assert reader.read(10) == []
    journal._segment.write(journal._tail.offset, frame)
    assert [sequence for _, sequence, _ in reader.read(10)] == [2]
    assert reader.damaged_bytes == 0
    reader.release()


def test_an_empty_journal(new_journal):
    """A process that has recorded nothing yet gives nothing, alive or dead."""
    journal = new_journal()
    journal.start()
    reader = JournalReader(directory_of(journal), Position())
    assert reader.read(10) == []
    assert reader.check_alive()
    assert not reader.is_finished()
    die(journal)
    assert not reader.check_alive()
    assert reader.read(10) == []
    assert reader.is_finished()
    reader.release()
    reader.adopted.release()


DIE = """
import os, signal, sys
from tk_spans import Recorder
from tracekeep.storage import open_store
store = open_store(sys.argv[1], writer="none")
Recorder(store).many(2000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_orphan_is_adopted(tmp_path, opened):
    """What a killed process had recorded is stored by another, and its journal removed."""
    with Script(DIE, tmp_path) as process:
        assert process.process.wait(20) == -9
    directory = only_journal(tmp_path)
    store = opened()
    eventually(lambda: not directory.exists(), 10)
    assert len(everything(store)) == 2000
    account = store.accounting()
    assert (account.accepted, account.stored, account.pending) == (2000, 2000, 0)
    assert account.balanced


def test_a_directory_without_segments_is_removed(tmp_path, opened):
    """A process that died before its first record leaves nothing behind for long."""
    for name in ("0-1-2-3", ".new-0-1-2-4"):
        (tmp_path / "journal" / name).mkdir(parents=True)
    (tmp_path / "journal" / "0-1-2-3" / "lock").touch()
    an_hour_ago = time.time() - 3600
    os.utime(tmp_path / "journal" / ".new-0-1-2-4", (an_hour_ago, an_hour_ago))
    store = opened()
    eventually(lambda: [path.name for path in (tmp_path / "journal").iterdir()] == [store.journal.name], 5)


def test_a_damaged_definition_loses_no_record(opened):
    """Definitions stand twice in a segment: records whose first definition was hit are read by the second."""
    from opentelemetry.sdk.trace import TracerProvider

    from tracekeep.instrumentation import RetainingSpanProcessor
    from tracekeep.storage.intake import Dictionary, Intake

    store = opened(writer="none", segment_bytes=1 << 19)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(RetainingSpanProcessor(store))
    tracer = provider.get_tracer("damage")
    for number in range(500):
        tracer.start_span("work", attributes={"number": number}).end()
    (segment,) = (store.data_dir / "journal").glob("*/00000001.seg")
    data = bytearray(segment.read_bytes())
    first, _ = frames.scan(bytes(data[FIRST_FRAME:]), 1)
    assert first[0][0] == FrameType.DEFINITION
    data[FIRST_FRAME + frames.HEADER + 5] ^= 0xFF
    segment.write_bytes(data)
    reader = JournalReader(segment.parent, Position())
    payloads = []
    eventually(lambda: payloads.extend(each[2] for each in reader.read(1000)) or len(payloads) == 500, 5)
    intake = Intake()
    Dictionary().take_spans(payloads, reader.definitions, intake)
    reader.release()
    assert (len(intake.spans), intake.undecodable) == (500, 0)
