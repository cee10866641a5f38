import os
import sqlite3
import time
from contextlib import closing

import pytest
from tk_errors import Logger, stack
from tk_spans import ERROR, INTERNAL, SERVER, Recorder, Script, die, everything, exception
from tk_wait import eventually

from tracekeep.storage import StoreSettings, engine, kept
from tracekeep.storage.kept import finish_swap, swap
from tracekeep.storage.layout import KEPT, newest_first, own_partitions, partition_files
from tracekeep.storage.partitions import History
from tracekeep.storage.queries import HistoryReader
from tracekeep.storage.reading import Readers
from tracekeep.storage.span_pages import SpanReader
from tracekeep.storage.views import ErrorFilter, SpanFilter

MIB = 1 << 20


@pytest.fixture
def failing(opened):
    """Give a store, and a function that records a failing request of three spans: its trace, as hex."""
    store = opened()
    record = Recorder(store)

    def fail(function="f", trace_id=None, size=0):
        trace_id = trace_id or os.urandom(16)
        raised = exception(message=function, **{"exception.stacktrace": stack(function=function)})
        details = {"trace_id": trace_id, "attributes": {"http.route": "/x", "pad": "x" * size}}
        record("SELECT", kind=INTERNAL, parent_id=2, links=[], **details)
        record("find", kind=INTERNAL, parent_id=1, status=ERROR, events=[raised], **details)
        record("GET /x", kind=SERVER, status=ERROR, events=[raised], **details)
        assert store.flush(5)
        return trace_id.hex()

    return store, fail


def roll(store):
    """Begin a new partition, and have retention drop all those before it."""
    store._writer._custody.databases.history.roll()
    drop(store)


def drop(store):
    bases = store._writer._custody.databases
    leaving = own_partitions(store.data_dir / "history")[:-1]
    bases.history.drop(leaving, bases.aggregates.groups.kept_traces())


def with_writer_held(store, action):
    """Do something in the writer's own thread, between two of its batches."""
    upkeep, done = store._writer._upkeep, []
    original = upkeep.tend

    def tend(*arguments):
        if not done:
            action()
            done.append(True)
        return original(*arguments)

    upkeep.tend = tend
    try:
        eventually(lambda: done, 10)
    finally:
        upkeep.tend = original


@pytest.fixture
def still(failing):
    """The same, and a function that stops the writer once a new partition is begun: the directory, traces wanted."""
    store, fail = failing

    def stop():
        assert store.flush(5)
        bases = store._writer._custody.databases
        with_writer_held(store, bases.history.roll)
        wanted = bases.aggregates.groups.kept_traces()
        store._writer.stop(2)
        return bases.history.directory, wanted

    return store, fail, stop


def older(directory):
    return own_partitions(directory)[:-1]


def names(directory):
    """All files but the logs of open databases."""
    return sorted(path.name for path in directory.iterdir() if not path.name.endswith(("-wal", "-shm")))


def spans(store, **wanted):
    """What partitions alone have: with the writer stopped, a store would ask the journals too."""
    return SpanReader(store.data_dir / "history", Readers(10)).find(SpanFilter(**wanted), 1000, None).items


def errors(store):
    return HistoryReader(store.data_dir / "history", Readers(10)).find_errors(ErrorFilter(), 1000, None).items


def held(store, trace_id):
    """The spans of a trace, each once."""
    found = spans(store, trace_id=trace_id)
    assert len({span.span_id for span in found}) == len(found)
    return len(found)


def test_the_first_and_the_newest_trace_outlive_their_partition(still):
    """Whole, with their errors, for whatever reads partitions; the others go with it."""
    store, fail, stop = still
    traces = [fail() for _ in range(5)]
    before = spans(store, trace_id=traces[0])
    Recorder(store)("other")
    directory, wanted = stop()
    swap(directory, older(directory), wanted, MIB)
    assert names(directory)[:-1] == [KEPT]
    assert [held(store, trace) for trace in traces] == [3, 0, 0, 0, 3]
    assert spans(store, trace_id=traces[0]) == before
    assert {error.trace_id for error in errors(store)} == {traces[0], traces[4]}
    assert len(spans(store)) == 6


def test_only_open_groups_keep_their_traces(failing):
    """A muted one has none, a resolved one's are dropped once it is; of a regression they are kept again."""
    store, fail = failing
    muted, resolved, opened = (fail(name) for name in ("muted", "resolved", "open"))
    ids = {each.culprit.split()[-1]: each.id for each in store.error_groups().items}
    assert store.mute_group(ids["muted"], timeout=5).applied
    with_writer_held(store, lambda: roll(store))
    assert [held(store, trace) for trace in (muted, resolved, opened)] == [0, 3, 3]
    assert store.resolve_group(ids["resolved"], timeout=5).applied
    with_writer_held(store, lambda: drop(store))
    assert [held(store, trace) for trace in (resolved, opened)] == [0, 3]
    assert store.resolve_group(ids["open"], timeout=5).applied
    with_writer_held(store, lambda: drop(store))
    assert held(store, opened) == 0
    assert not (store.data_dir / "history" / KEPT).exists()
    again = fail("resolved")
    with_writer_held(store, lambda: roll(store))
    assert held(store, again) == 3
    assert {each.state for each in store.error_groups().items} == {"open", "muted", "resolved"}


def test_retention_does_it(opened):
    """Real retention, by size: partitions go, and the trace of the open group's first error stays."""
    store = opened(history_max_bytes=4 * MIB)
    trace = os.urandom(16)
    raised = exception(**{"exception.stacktrace": stack()})
    record = Recorder(store)
    record(kind=INTERNAL, trace_id=trace, status=ERROR, events=[raised])
    assert store.flush(5)
    directory = store.data_dir / "history"
    first = own_partitions(directory)[0]
    history = store._writer._custody.databases.history
    with_writer_held(store, history.roll)
    record.many(8000, attributes={"pad": "x" * 800})
    assert store.flush(10)
    with_writer_held(store, history.roll)
    store._writer._due.pop("retention", None)
    eventually(lambda: not first.exists(), 10)
    assert held(store, trace.hex()) == 1
    assert (directory / KEPT).exists()
    assert len(store.errors().items) == 1


def test_the_size_has_a_limit(still):
    """The traces of the groups that were met last are kept as far as they fit."""
    store, fail, stop = still
    traces = [fail(f"f{number}", size=20_000) for number in range(30)]
    directory, wanted = stop()
    swap(directory, older(directory), wanted, 500_000)
    found = [held(store, trace) for trace in traces]
    assert found == sorted(found)
    assert 0 < found.count(3) < 30
    assert (directory / KEPT).stat().st_size < 600_000
    swap(directory, [], wanted[:1], 0)
    assert KEPT not in names(directory)


def test_a_trace_over_two_partitions_is_never_doubled(failing):
    """Its spans are in the kept file as far as their partition is gone, and otherwise where they are."""
    store, fail = failing
    trace = os.urandom(16)
    fail(trace_id=trace)
    with_writer_held(store, lambda: roll(store))
    assert held(store, trace.hex()) == 3
    Recorder(store)("late", kind=INTERNAL, trace_id=trace)
    assert store.flush(5)
    assert held(store, trace.hex()) == 4
    with_writer_held(store, lambda: roll(store))
    assert held(store, trace.hex()) == 4
    assert len(partition_files(store.data_dir / "history")) == 2


@pytest.mark.parametrize("step", ["built", "half removed", "removed", "renamed"])
def test_a_crash_in_between_is_made_good(still, step, monkeypatch):
    """Wherever it comes: when the history is opened again each trace is there once, and nothing is left over."""
    store, fail, stop = still
    first = fail()
    directory, wanted = stop()
    with closing(engine.open_writer(directory / "20000101T000000Z.db", "history", kept.MIGRATIONS)):
        pass
    leaving = older(directory)
    real_remove, removed = engine.remove, []

    def remove(path):
        if path.name.startswith("."):
            real_remove(path)
            return
        if step == "built" or (step == "half removed" and len(removed) == 1):
            raise KeyboardInterrupt
        removed.append(path)
        real_remove(path)
        if step == "removed" and len(removed) == len(leaving):
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "remove", remove)
    if step == "renamed":
        swap(directory, leaving, wanted, MIB)
    else:
        with pytest.raises(KeyboardInterrupt):
            swap(directory, leaving, wanted, MIB)
    monkeypatch.undo()
    finish_swap(directory)
    finish_swap(directory)
    assert names(directory)[:-1] == [KEPT]
    assert held(store, first) == 3


def test_a_file_made_half_is_removed(still):
    """What it was to stand for is still there, and stays."""
    store, fail, stop = still
    first = fail()
    directory, _ = stop()
    with closing(engine.open_writer(directory / f".next-{KEPT}", "history", kept.MIGRATIONS)) as connection:
        connection.execute("INSERT INTO window VALUES (1,1,1,1,1)")
        assert (directory / f".next-{KEPT}-wal").exists()
        finish_swap(directory)
    assert KEPT not in names(directory)
    assert held(store, first) == 3


def test_what_can_t_be_kept_holds_up_nothing(still, monkeypatch):
    """On a full disk the partitions are dropped all the same; a broken one is dropped, and others are copied."""
    store, fail, stop = still
    first = fail()
    directory, wanted = stop()
    broken = directory / "20000101T000000Z.db"
    broken.write_bytes(b"no database" * 1000)
    swap(directory, older(directory), wanted, MIB)
    assert names(directory)[:-1] == [KEPT]
    assert held(store, first) == 3
    with monkeypatch.context() as patch:

        def full(*_arguments):
            raise sqlite3.OperationalError("database or disk is full")

        patch.setattr(kept, "_build", full)
        with closing(engine.open_writer(directory / "20000102T000000Z.db", "history", kept.MIGRATIONS)):
            pass
        swap(directory, older(directory), wanted, MIB)
    assert names(directory)[:-1] == [KEPT]
    assert held(store, first) == 3


def test_the_history_goes_on_beside_it(opened, still):
    """The kept file is never written to as a partition, also where it is the only one."""
    store, fail, stop = still
    first = fail()
    directory, wanted = stop()
    swap(directory, older(directory), wanted, MIB)
    store.close()
    die(store)
    store = opened(store.data_dir)
    Recorder(store)("new")
    assert store.flush(5)
    assert len(own_partitions(directory)) == 1
    assert held(store, first) == 3
    assert store.errors().items[0].trace_id == first
    assert len(everything(store)) == 4
    assert store.clear_errors(timeout=5).result == {"cleared": 1}
    assert store.errors().items == []
    assert held(store, first) == 3
    history = store._writer._custody.databases.history
    assert KEPT not in {path.name for path in history.expired(time.time_ns() + 10**18)}


KILLED = """
import sys
from pathlib import Path
from tracekeep.storage import engine, kept
from tracekeep.storage.layout import own_partitions
directory = Path(sys.argv[1])
wanted = [bytes.fromhex(each) for each in sys.argv[2:]]
print("ready", flush=True)
kept.swap(directory, own_partitions(directory)[:-1], wanted, 1 << 20)
print("done", flush=True)
"""


def test_kill_9_in_the_middle(still):
    """Whenever the writer is killed, each kept trace is there once, and whole, when the history is opened again."""
    store, fail, stop = still
    traces = [fail(f"f{number}") for number in range(10)]
    directory, wanted = stop()
    for pause in (0.0, 0.005, 0.01, 0.02, 0.04):
        with Script(KILLED, directory, *[each.hex() for each in wanted]) as child:
            assert child.line() == "ready"
            time.sleep(pause)
            child.kill()
        History(directory, StoreSettings()).close()
        assert [held(store, trace) for trace in traces] == [3] * 10


def test_a_log_record_s_trace_keeps_its_error(still):
    """An error without any span, as where traces are sampled, is kept by its trace id alone."""
    store, _fail, stop = still
    Logger(store)(trace_id=os.urandom(16))
    directory, wanted = stop()
    swap(directory, older(directory), wanted, MIB)
    assert len(errors(store)) == 1


def test_who_reads_during_the_swap_meets_no_trace_twice(still):
    """A kept file that was made while partitions are being read is passed over: what it took over was read already."""
    _store, fail, stop = still
    fail()
    directory, wanted = stop()
    swap(directory, older(directory), wanted, MIB)
    with closing(engine.open_writer(directory / "20000101T000000Z.db", "history", kept.MIGRATIONS)):
        pass
    reading = newest_first(directory)
    assert [next(reading).name for _ in range(2)][1] == "20000101T000000Z.db"
    swap(directory, older(directory), wanted, MIB)
    assert list(reading) == []
    assert [path.name for path in newest_first(directory)][-1] == KEPT
