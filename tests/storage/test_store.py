import os
import time

import pytest
from tk_spans import ERROR, Recorder, Script, check_kept, counter, die, everything, span
from tk_wait import eventually

import tracekeep.storage.reads  # noqa: F401  # SQLAlchemy: here, not in the first question
from tracekeep.storage import Store, StoreSettings, Unavailable, current_store, open_store
from tracekeep.storage.intake import Dictionary, Intake
from tracekeep.storage.records import FrameType
from tracekeep.storage.segments import used_bytes


@pytest.fixture
def registered():
    stores = []

    def open_(*arguments, **settings):
        stores.append(open_store(*arguments, **settings))
        return stores[-1]

    yield open_
    for store in stores:
        store.close(1.0)
        die(store)


def test_one_store_a_directory(registered, tmp_path, monkeypatch):
    """A second call gives the same one; another directory has its own; the last opened is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRACEKEEP_DATA_DIR", "from-env")
    first = registered("data")
    assert registered(tmp_path / "data", series_limit=7) is first
    assert current_store() is first
    assert first.settings.series_limit == 2000
    other = registered()
    assert other.data_dir == tmp_path / "from-env"
    assert current_store() is other


def test_after_close_a_new_one_is_opened(registered, tmp_path):
    """What the closed one recorded last is not lost, and recording into it stays safe."""
    first = registered(tmp_path)
    record = Recorder(first)
    record.many(10)
    first.close()
    first.close()
    record.many(10)
    second = registered(tmp_path)
    assert second is not first
    eventually(lambda: check_kept(second, 20), 5)


def test_the_files_are_private(store):
    """Nobody but the owner can read what a service recorded."""
    Recorder(store)("x")
    assert store.flush(5)
    for path in store.data_dir.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_flush_of_nothing(store):
    """There is nothing to wait for."""
    assert store.flush(0.0)


def test_flush_is_bounded(opened):
    """Without a writer it says no, in time."""
    store = opened(writer="none")
    Recorder(store)("x")
    began = time.monotonic()
    assert not store.flush(0.1)
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("dropped", ["too large", "unencodable"])
def test_flush_after_a_drop(store, dropped):
    """A record that was dropped is nothing to wait for."""
    Recorder(store)("x")
    if dropped == "too large":
        store.journal.append(FrameType.SPAN, bytes(2 << 20))
    else:
        store.journal.count_unencodable()
    assert store.flush(3.0)
    account = store.accounting()
    assert (account.accepted, account.stored, account.pending, sum(account.dropped.values())) == (2, 1, 0, 1)


def test_accounting_at_any_time(opened):
    """It balances while records arrive, in every state, and at the end all is stored or counted by its reason."""
    store = opened(segment_bytes=1 << 16)
    record = Recorder(store)
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        record.many(500)
        account = store.accounting()
        assert account.balanced, account
        assert account.dropped["journal_damaged"] == 0, account
    store.journal.append(FrameType.SPAN, bytes(2 << 20))
    store.journal.append(FrameType.SPAN, b"\xc1 this is no span")
    store.journal.append(FrameType.SPAN, b"\x90")
    store.journal.count_unencodable()
    record("last")
    account = eventually(lambda: (account := store.accounting()).pending == 0 and account, 10)
    assert account.balanced
    assert {reason: count for reason, count in account.dropped.items() if count} == {
        "too_large": 1,
        "undecodable": 2,
        "unencodable": 1,
    }
    assert account.stored == counter(store, "traces_spanmetrics_calls")
    assert account.stored == counter(store, "tracekeep_records_stored")
    assert counter(store, "tracekeep_records_dropped", reason="undecodable") == 2


def test_accounting_without_a_database(opened):
    """What waits in the journals is counted before anybody has stored anything."""
    store = opened(writer="none")
    Recorder(store).many(10)
    account = store.accounting()
    assert (account.accepted, account.stored, account.pending, account.balanced) == (10, 0, 10, True)


def test_accounting_of_a_removed_journal(opened):
    """Records that were stored before somebody removed the journal's directory are not counted again."""
    store = opened()
    record = Recorder(store)
    record.many(10)
    assert store.flush(5)
    name = store.journal.name
    for path in sorted((store.data_dir / "journal").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    eventually(lambda: store.journal.name != name, 5)
    record.many(10)
    assert eventually(lambda: store.flush(1), 5)
    eventually(lambda: check_kept(store, 20), 5)


def test_accounting_of_memory(opened, monkeypatch):
    """Records that wait in memory are pending; when their process dies they are counted as lost."""
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    store = opened()
    Recorder(store).many(3)
    assert store.flush(5)
    other = opened(writer="none")
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        other.journal._use(None)
        Recorder(other).many(7)
        account = store.accounting()
        assert (account.accepted, account.stored, account.pending) == (10, 3, 7)
        other.journal._closed = True
        eventually(lambda: not other.journal._keeper.is_alive(), 5)
        die(other)
    account = eventually(lambda: (account := store.accounting()).pending == 0 and account, 10)
    assert (account.accepted, account.stored, account.balanced) == (10, 3, True)
    assert account.dropped["lost_in_memory"] == 7


def test_without_a_writer_the_journals_answer(opened):
    """Spans and traces are read from them, filtered and limited, and marked as degraded."""
    store = opened(writer="none")
    record = Recorder(store)
    record.many(30, "a", attributes={"http.route": "/a", "n": 5})
    record.many(5, "b", status=ERROR, trace_id=bytes(15) + b"\x07")
    page = store.spans(limit=100)
    assert (len(page.items), page.degraded) == (35, True)
    assert len(store.spans(name="b").items) == 5
    assert len(store.spans(limit=7).items) == 7
    assert len(store.spans(attributes={"http.route": "/a", "n": "5"}, limit=100).items) == 30
    assert len(store.spans(status="error").items) == 5
    assert len(store.trace("0" * 31 + "7").items) == 5
    with pytest.raises(Unavailable):
        store.performance(since_ns=0, until_ns=time.time_ns())


def test_degraded_pages_skip_and_repeat_nothing(opened):
    """Stored and pending spans stand in the pages of any size once each."""
    store = opened()
    Recorder(store).many(20, "stored")
    assert store.flush(5)
    store.close()
    other = opened(writer="none")
    Recorder(other).many(4, "pending")
    found, cursor = [], None
    while cursor or not found:
        page = other.spans(limit=6, cursor=cursor)
        assert page.degraded
        assert len(page.items) <= 6
        found += [each.span_id for each in page.items]
        cursor = page.cursor
    assert len(found) == len(set(found)) == 24


def test_pending_behind_damage_is_pending(opened, tmp_path):
    """Accounting and degraded reads look past a broken frame, as the writer will."""
    store = opened(writer="none")
    record = Recorder(store)
    record.many(10)
    middle = store.journal._tail.offset
    record.many(10)
    (path,) = (tmp_path / "journal").glob("*/*.seg")
    descriptor = os.open(path, os.O_WRONLY)
    os.pwrite(descriptor, b"\xff" * 30, middle)
    os.close(descriptor)
    account = store.accounting()
    assert (account.accepted, account.pending, account.dropped["journal_damaged"]) == (20, 19, 1)
    assert len(store.spans().items) == 19


def test_status_of_a_healthy_store(store):
    """Nothing is degraded, and the sizes are those of the files."""
    Recorder(store).many(10)
    assert store.flush(5)
    status = eventually(lambda: (status := store.status()).lag_seconds == 0 and status, 5)
    assert status.degraded == []
    assert status.writer_pid == os.getpid()
    assert status.partitions == 1
    assert status.history_bytes > 0
    assert status.journal_bytes == used_bytes(store.data_dir / "journal")
    assert 0 <= time.time_ns() - status.last_commit_ns < 5_000_000_000


def test_status_without_a_writer(opened):
    """It says that nothing is stored just now."""
    store = opened(writer="none")
    Recorder(store)("x")
    reasons = eventually(lambda: store.status().degraded, 5)
    assert [each.part for each in reasons] == ["writer"]
    assert store.status().writer_pid is None


def test_totals_without_a_database(opened, monkeypatch):
    """Rather no numbers than wrong ones."""
    from tracekeep.storage import reads as module

    monkeypatch.setattr(module, "_TOTALS_WAIT", 0.1)
    with pytest.raises(Unavailable, match="backwards"):
        opened(writer="none").totals()


def test_applied_segments_are_removed(opened):
    """The journal doesn't grow while its records are stored."""
    store = opened(segment_bytes=1 << 16)
    for _ in range(20):
        Recorder(store).many(500)
        assert store.flush(5)
    eventually(lambda: used_bytes(store.data_dir / "journal") <= 3 << 16, 5)
    check_kept(store, 10_000)


def test_many_processes_worth_of_journals(opened):
    """Each gets its share, and none is forgotten."""
    stores = [opened(writer="none") for _ in range(20)]
    for index, each in enumerate(stores):
        Recorder(each, f"service {index}").many(50)
    store = opened()
    eventually(lambda: check_kept(store, 1000), 10)
    assert {each.service for each in everything(store)} == {f"service {index}" for index in range(20)}


def test_a_store_is_not_started_by_being_made(tmp_path):
    """Only `start` touches the disk."""
    Store(tmp_path / "data", StoreSettings())
    assert not (tmp_path / "data").exists()


def test_kinds_out_of_range_share_an_operation():
    """A hostile span kind can't grow the tables: it counts as unspecified."""
    dictionary, batch = Dictionary(), Intake()
    dictionary.take_spans([span("x", kind=99, origin=0) for _ in range(10)], {}, batch)
    assert len(batch.spans) == 10
    assert len(batch.operations) == 1


DYING = """
import os, sys
from tk_spans import Recorder
from tracekeep.storage import open_store
record = Recorder(open_store(sys.argv[1], writer="none"))
record.many(1000)
os.kill(os.getpid(), 9)
"""


def test_what_the_dead_left_is_on_every_page(tmp_path, opened):
    """Before there is a writer, while it takes that in, and after: none missing, none twice."""
    with Script(DYING, tmp_path) as dying:
        assert dying.process.wait(20) == -9
    store, lengths = opened(), []

    def is_stored():
        page = store.spans(limit=1000)
        lengths.append(len({each.span_id for each in page.items}))
        assert len(page.items) == lengths[-1], "one is there twice"
        return not page.degraded

    eventually(is_stored, 10, every=0)
    assert set(lengths) == {1000}
