import errno
import os
import signal
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest
from tk_damage import delete, delete_with_logs, empty, overwrite, replace
from tk_spans import Recorder, Script, check_kept, counter, die, everything
from tk_wait import eventually

from tracekeep.storage import StoreSettings, partitions, writer
from tracekeep.storage.aggregates import Aggregates
from tracekeep.storage.layout import APPLICATION_ID
from tracekeep.storage.partitions import History, partition_files
from tracekeep.storage.rollups import Rollups

RECOVERY = 10.0


def kept(store, count, within=RECOVERY, **options):
    return eventually(lambda: check_kept(store, count, **options), within)


def healthy(store, within=RECOVERY):
    return eventually(lambda: not store.status().degraded, within)


def once(monkeypatch, owner, name, before=None, after=None):
    """Have the next call of a method run something before or after it; later ones are as ever."""
    original, hooks = getattr(owner, name), iter([(before, after)])

    def method(self, *args, **kwargs):
        first, last = next(hooks, (None, None))
        if first is not None:
            first(self)
        result = original(self, *args, **kwargs)
        if last is not None:
            last(self)
        return result

    monkeypatch.setattr(owner, name, method)


def raiser(error):
    def fail(*_):
        raise error

    return fail


# --- exactly once ---------------------------------------------------------------------------------------------------

DYING = """
import os, sys
from tk_spans import Recorder
from tk_wait import eventually
from tracekeep.storage import open_store, writer
from tracekeep.storage.aggregates import Aggregates
from tracekeep.storage.partitions import History
writer.BATCH_RECORDS = 100
owner, when = {"history": History, "aggregates": Aggregates}[sys.argv[2]], sys.argv[3]
original, calls = owner.apply, []
def apply(self, *args):
    calls.append(1)
    if len(calls) == 5 and when == "before": os.kill(os.getpid(), 9)
    original(self, *args)
    if len(calls) == 5 and when == "after": os.kill(os.getpid(), 9)
store = open_store(sys.argv[1], writer="none")
Recorder(store).many(1000)
owner.apply = apply
store.close()
store = open_store(sys.argv[1])
eventually(lambda: store.accounting().pending == 0, 20)
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("database", ["history", "aggregates"])
def test_killed_around_a_commit(tmp_path, opened, database, when):
    """Killed before, between or after the two commits of a batch, nothing is stored or counted twice, or lost."""
    with Script(DYING, tmp_path, database, when) as process:
        assert process.process.wait(20) == -signal.SIGKILL
    kept(opened(), 1000)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a defect"),
        sqlite3.OperationalError("disk I/O error"),
        OSError(errno.EIO, "Input/output error"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("owner", [History, Aggregates], ids=["history", "aggregates"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_around_a_commit(store, monkeypatch, owner, error, when):
    """Whatever is raised, and whether or not the commit went through, each record ends up in both databases once."""
    record = Recorder(store)
    record.many(10, "before")
    assert store.flush(5)
    once(monkeypatch, owner, "apply", **{when: raiser(error)})
    record.many(10, "during")
    record.many(10, "after")
    kept(store, 30)
    healthy(store)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), RuntimeError("a defect")], ids=repr)
def test_an_error_while_a_batch_is_built(store, monkeypatch, error):
    """When a rollup can't be read, the batch is built anew: spans, names and totals of it are all there."""
    once(monkeypatch, Rollups, "read", before=raiser(error))
    Recorder(store).many(10, "new", attributes={"http.route": "/new"})
    kept(store, 10)
    assert [each.name for each in store.performance(since_ns=0, until_ns=time.time_ns()).groups] == ["new"]


def test_a_partition_that_breaks_with_a_batch(store, monkeypatch):
    """A batch that goes into a new partition, as the old one turned out to be broken, is kept whole."""
    once(monkeypatch, History, "apply", before=raiser(sqlite3.DatabaseError("file is not a database")))
    Recorder(store).many(10, "new")
    eventually(lambda: store.accounting().stored == 10, RECOVERY)
    kept(store, 10)
    assert [each.name for each in store.performance(since_ns=0, until_ns=time.time_ns()).groups] == ["new"]


@pytest.mark.parametrize("owner", [History, Aggregates], ids=["history", "aggregates"])
def test_a_file_deleted_during_its_commit(store, monkeypatch, owner):
    """What a commit put into a file that is gone by its end is put into the next one."""
    Recorder(store).many(5, "before")
    assert store.flush(5)

    def unlink(base):
        for path in base.path.parent.glob(f"{base.path.name}*"):
            path.unlink()

    once(monkeypatch, owner, "apply", after=unlink)
    Recorder(store).many(10, "during")
    Recorder(store).many(10, "after")
    eventually(lambda: len(everything(store, name="during")) == 10, RECOVERY)
    eventually(lambda: len(everything(store, name="after")) == 10, RECOVERY)
    eventually(lambda: counter(store, "traces_spanmetrics_calls") == 25, RECOVERY)
    account = store.accounting()
    assert (account.accepted, account.balanced) == (25, True)


def test_small_batches(store, monkeypatch):
    """However records are cut into batches, the sums are the same, and each batch is one commit."""
    assert store.flush()
    monkeypatch.setattr(writer, "BATCH_RECORDS", 7)
    before = eventually(lambda: store.totals().commit, 5)
    record = Recorder(store)
    record.many(50, "a")
    record.many(50, "b")
    kept(store, 100)
    assert store.totals().commit >= before + 100 // 7


# --- the role -------------------------------------------------------------------------------------------------------

WORKER = """
import sys
from tk_spans import Recorder
from tk_wait import eventually
from tracekeep.storage import open_store
store = open_store(sys.argv[1], dedicated=len(sys.argv) > 2)
record = Recorder(store)
eventually(lambda: store.status().writer_pid is not None, 10)
print(store.journal.name.split("-")[1], store.status().writer_pid, flush=True)
for line in sys.stdin:
    record.many(10)
    print(store.flush(5), flush=True)
"""


def test_the_next_takes_over(tmp_path, opened):
    """When the writer is killed, another process goes on within about a second, and nothing is lost or doubled."""
    with Script(WORKER, tmp_path) as first:
        pid = first.line().split()[0]
        store = opened()
        record = Recorder(store)
        eventually(lambda: store.status().writer_pid == int(pid), 5)
        first.say()
        assert first.line() == "True"
        record.many(10)
        assert store.flush(5)
        assert not store._writer.holds_role
        first.kill()
        record.many(10)
        assert store.flush(2.0)
        assert store.status().writer_pid == os.getpid()
        kept(store, 30)


def test_a_dedicated_writer_claims_the_role(tmp_path, store):
    """A thread gives the role to a dedicated process while that lives, and has it back when that is gone."""
    record = Recorder(store)
    record.many(10)
    assert store.flush(5)
    assert store.status().writer_pid == os.getpid()
    with Script(WORKER, tmp_path, "dedicated") as dedicated:
        pid = int(dedicated.line().split()[0])
        eventually(lambda: store.status().writer_pid == pid, 5)
        record.many(10)
        assert store.flush(5)
        dedicated.say()
        assert dedicated.line() == "True"
        assert not store._writer.holds_role
        dedicated.kill()
    record.many(10)
    eventually(lambda: store.flush(1.0), 5)
    kept(store, 40)


def test_closing_gives_everything_back(opened):
    """After `close`, also of a dedicated store, another one of the same process has the role."""
    dedicated = opened(dedicated=True)
    Recorder(dedicated).many(5)
    assert dedicated.flush(5)
    dedicated.close()
    thread = opened()
    Recorder(thread).many(5)
    assert thread.flush(5)
    assert thread._writer.holds_role


def test_a_replaced_lock_file_ends_the_role(tmp_path, opened):
    """Who holds a lock that nobody else can see lets go of the role; there are never two writers for long."""
    first, second = opened(), opened()
    holder = eventually(lambda: next((each for each in (first, second) if each._writer.holds_role), None), 5)
    (tmp_path / "writer.lock").unlink()
    eventually((tmp_path / "writer.lock").exists, 5)
    eventually(lambda: first._writer.holds_role != second._writer.holds_role, 5)
    assert holder is first or holder is second
    for each in (first, second):
        Recorder(each).many(5)
    kept(first, 10)


def test_close_is_bounded(opened):
    """It waits no longer than it is told, whatever the writer is in."""
    store = opened()
    Recorder(store).many(5)
    assert store.flush(5)
    with locked(store):
        Recorder(store).many(5)
        began = time.monotonic()
        store.close(0.5)
        assert time.monotonic() - began < 2.0
    kept(opened(), 10)


# --- partitions and retention ---------------------------------------------------------------------------------------

BIG = {"padding": "x" * 2000}


def stems(store):
    return [path.stem for path in partition_files(store.data_dir / "history")]


def test_partitions_are_cut_by_size(opened, monkeypatch):
    """Each about as large as it may be; everything is found, in the reverse order of arrival."""
    monkeypatch.setattr(writer, "_UNCHECKPOINTED", 1)  # so that files have their size at once
    store = opened(partition_bytes=300_000)
    record = Recorder(store)
    for _ in range(20):
        record.many(50, attributes=BIG)
        assert store.flush(5)
    eventually(lambda: len(stems(store)) > 3, 5)
    ids = [int(each.span_id, 16) for each in everything(store)]
    assert ids == sorted(ids, reverse=True)
    kept(store, len(ids))
    for path in partition_files(store.data_dir / "history")[:-1]:
        assert 300_000 <= path.stat().st_size < 700_000
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA quick_check").fetchall() == [("ok",)]


def test_partitions_are_cut_by_time(opened):
    """After `partition_seconds` a new one is begun."""
    store = opened(partition_seconds=0.2)
    record = Recorder(store)
    eventually(lambda: record("x") and store.flush(5) and len(stems(store)) >= 3, 10)
    ids = [int(each.span_id, 16) for each in everything(store)]
    assert ids == sorted(ids, reverse=True)


def test_partitions_cut_within_a_second(opened, monkeypatch):
    """Names stay unique and in order, and the newest is the one that is written, also after a restart."""
    store = opened()
    record = Recorder(store)
    with monkeypatch.context() as patch:
        patch.setattr(History, "is_full", lambda *_: True)
        for _ in range(15):
            record("x")
            assert store.flush(5)
        eventually(lambda: len(stems(store)) == 16, 5)
    store.close()
    die(store)
    store = opened()
    Recorder(store)("last")
    assert store.flush(5)
    assert len(stems(store)) == 16
    ids = [int(each.span_id, 16) for each in everything(store)]
    assert ids == sorted(ids, reverse=True)
    kept(store, 16)


def test_a_clock_that_went_back(opened, monkeypatch):
    """The newest partition stays the last in order."""
    store = opened()
    Recorder(store)("first")
    assert store.flush(5)
    store.close()
    die(store)
    store = opened()
    with monkeypatch.context() as patch:
        patch.setattr(partitions.time, "gmtime", lambda: time.struct_time((2001, 1, 1, 0, 0, 0, 0, 1, 0)))
        patch.setattr(History, "is_full", lambda *_: True)
        for name in ("second", "third", "fourth"):
            Recorder(store)(name)
            assert store.flush(5)
    assert [each.name for each in everything(store)] == ["fourth", "third", "second", "first"]


def test_retention_by_size(opened, monkeypatch):
    """The oldest partitions go, whole; totals, rollups and accounting stay as they are."""
    monkeypatch.setattr(writer, "_RETENTION", 0.2)
    monkeypatch.setattr(writer, "_UNCHECKPOINTED", 1)  # so that files have their size at once
    store = opened(partition_bytes=100_000, history_max_bytes=700_000)
    record = Recorder(store)
    for _ in range(30):
        record.many(40, attributes=BIG)
        assert store.flush(5)
    eventually(lambda: store.status().history_bytes <= 700_000, 10)
    assert len(stems(store)) > 1
    account = store.accounting()
    assert (account.accepted, account.stored, account.balanced) == (1200, 1200, True)
    assert counter(store, "traces_spanmetrics_calls") == 1200
    assert sum(each.count for each in store.performance(since_ns=0, until_ns=time.time_ns()).groups) == 1200
    ids = [int(each.span_id, 16) for each in everything(store)]
    assert ids == list(range(ids[0], ids[0] - len(ids), -1)), "what is left is the newest, without a gap"
    assert 0 < len(ids) < 1200


def test_retention_by_age(opened, monkeypatch):
    """A partition goes when its newest record is too old; the current one never does."""
    monkeypatch.setattr(writer, "_RETENTION", 0.2)
    store = opened(history_max_age=0.5)
    record = Recorder(store)
    record("old")
    assert store.flush(5)
    with monkeypatch.context() as patch:
        patch.setattr(History, "is_full", lambda *_: True)
        record("old")
        assert store.flush(5)
        eventually(lambda: len(stems(store)) == 2, 5)
    eventually(lambda: len(stems(store)) == 1, 5)
    assert everything(store) == []
    record("new")
    assert store.flush(5)
    assert [each.name for each in everything(store)] == ["new"]
    assert counter(store, "traces_spanmetrics_calls") == 3


def test_rollups_have_an_age_of_their_own(opened, monkeypatch):
    """Minutes past `rollup_max_age` are dropped; the totals, which never end, stay."""
    monkeypatch.setattr(writer, "_RETENTION", 0.2)
    store = opened(rollup_max_age=3600)
    two_hours_ago = time.time_ns() - 7200 * 10**9
    Recorder(store)("old", start=two_hours_ago)
    Recorder(store)("new")
    assert store.flush(5)
    eventually(
        lambda: [each.name for each in store.performance(since_ns=0, until_ns=time.time_ns()).groups] == ["new"], 5
    )
    assert counter(store, "traces_spanmetrics_calls") == 2


# --- databases that fail --------------------------------------------------------------------------------------------


def aggregates_file(store):
    return store.data_dir / "aggregates.db"


def partition_file(store):
    return partition_files(store.data_dir / "history")[-1]


FILES = {"aggregates": aggregates_file, "history": partition_file}


@contextmanager
def locked(store, *parts):
    """Another connection has write transactions on the databases."""
    connections = [
        sqlite3.connect(FILES[part](store), isolation_level=None, timeout=10)
        for part in parts or ("aggregates", "history")
    ]
    for connection in connections:
        connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        for connection in connections:
            connection.execute("ROLLBACK")
            connection.close()


@pytest.mark.parametrize("parts", [("aggregates",), ("history",), ("aggregates", "history")], ids="+".join)
def test_a_locked_database(store, parts):
    """The journal takes everything meanwhile, reads show it once and say that they are degraded; later all arrives."""
    record = Recorder(store)
    record.many(10, "before")
    assert store.flush(5)
    with locked(store, *parts):
        record.many(50, "during")
        assert not store.flush(0.3)
        reasons = eventually(lambda: store.status().degraded, 5)
        assert {each.part for each in reasons} <= {"aggregates", "history"}
        assert "locked" in reasons[0].reason
        page = eventually(lambda: (page := store.spans(limit=100)).degraded and page, 5)
        assert len(page.items) == len({each.span_id for each in page.items}) == 60
        account = store.accounting()
        assert account.balanced
        assert (account.accepted, account.pending) == (60, 50)
        assert counter(store, "traces_spanmetrics_calls") == 10
    kept(store, 60)
    healthy(store)
    assert not store.spans().degraded


DAMAGES = (delete, delete_with_logs, overwrite, replace, empty)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", FILES)
def test_a_file_destroyed_while_running(store, part, damage):
    """It is made anew; no counter goes back; the accounting balances; what comes afterwards is kept."""
    record = Recorder(store)
    record.many(20, "before")
    assert store.flush(5)
    eventually(lambda: counter(store, "traces_spanmetrics_calls") == 20, 5)
    damage(FILES[part](store))
    record.many(20, "after")
    seen = []

    def recovered():
        seen.append(counter(store, "traces_spanmetrics_calls"))
        return len(everything(store, name="after")) == 20 and seen[-1] == 40

    eventually(recovered, RECOVERY)
    healthy(store)
    assert seen == sorted(seen)
    assert seen[0] >= 20
    account = store.accounting()
    assert (account.accepted, account.pending, account.balanced) == (40, 0, True)
    if part == "aggregates":
        assert len(everything(store, name="before")) == 20


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("part", FILES)
def test_a_file_destroyed_before_the_start(opened, part, damage):
    """The store starts on it, keeps what comes, and the accounting balances."""
    before = opened()
    Recorder(before).many(20, "before")
    assert before.flush(5)
    before.close()
    die(before)
    damage(FILES[part](before))
    store = opened()
    Recorder(store).many(20, "after")
    eventually(lambda: len(everything(store, name="after")) == 20, RECOVERY)
    healthy(store)
    assert store.accounting().balanced
    assert counter(store, "traces_spanmetrics_calls") == 40
    if part == "aggregates":
        assert len(everything(store, name="before")) == 20
        assert sum(each.count for each in store.performance(since_ns=0, until_ns=time.time_ns()).groups) == 40


def foreign(path, application_id, version):
    """Another application's database, or one of a newer tracekeep."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id={application_id}")
        connection.execute(f"PRAGMA user_version={version}")
        connection.execute("CREATE TABLE precious(content)")
        connection.execute("INSERT INTO precious VALUES ('irreplaceable')")


STRANGERS = {"foreign": (0x12345678, 1), "no id": (0, 0), "newer": (APPLICATION_ID, 999)}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("part", FILES)
def test_a_strangers_file_is_left_untouched(tmp_path, opened, part, stranger):
    """It is refused before any write, and named; recording goes on, and once it is gone all is kept."""
    path = tmp_path / ("aggregates.db" if part == "aggregates" else "history/20260101T000000Z.db")
    foreign(path, *STRANGERS[stranger])
    content = path.read_bytes()
    store = opened()
    Recorder(store).many(20)
    reason = eventually(lambda: [each.reason for each in store.status().degraded if each.part == part], 5)[0]
    assert str(path) in reason
    assert not store.flush(0.3)
    page = store.spans()
    assert (len(page.items), page.degraded) == (20, True)
    assert store.accounting().pending == 20
    assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(path.name)] == [path.name]
    path.rename(tmp_path / "elsewhere")
    kept(store, 20)
    healthy(store)


def test_a_directory_that_can_not_be_used(tmp_path, opened):
    """Where a file stands in the place of the data directory, records wait in memory until it has gone."""
    place = tmp_path / "data"
    place.write_text("no directory")
    store = opened(place)
    Recorder(store).many(20)
    assert {each.part for each in eventually(lambda: store.status().degraded, 5)} >= {"journal"}
    account = store.accounting()
    assert account.balanced
    place.unlink()
    kept(store, 20)
    healthy(store)


def test_a_broken_old_partition_is_passed_over(opened, monkeypatch):
    """What other partitions hold is found all the same, and the answer says that it is not whole."""
    store = opened()
    record = Recorder(store)
    with monkeypatch.context() as patch:
        patch.setattr(History, "is_full", lambda *_: True)
        for name in ("a", "b", "c"):
            record(name)
            assert store.flush(5)
        eventually(lambda: len(stems(store)) == 4, 5)
    broken = next(path for path in partition_files(store.data_dir / "history") if path.stat().st_size)
    store._reads.close()
    overwrite(broken)
    page = store.spans()
    assert page.degraded
    assert len(page.items) == 2


def test_a_file_that_cannot_be_looked_at_is_not_damaged(tmp_path, monkeypatch):
    """Where nothing can be opened just now, as with too many open files, a good database is not set aside."""
    base = Aggregates(tmp_path / "aggregates.db", StoreSettings())
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", refuse)
        assert not base.is_damaged()
    assert not base.is_damaged()
    base.close()
    overwrite(base.path)
    assert base.is_damaged()


def refuse(*_, **__):
    raise sqlite3.OperationalError("unable to open database file")
