"""The disk lets the service down: it answers as before, says what is wrong, and mends itself within 10 s."""

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from tk_client import Client
from tk_damage import delete, delete_with_logs, overwrite, replace
from tk_history import check_each_once, check_files, check_kept, server_traces, settled
from tk_metrics import Watch, scrape, server_spans
from tk_service import Service
from tk_wait import eventually

PATHS = ("/quick", "/work/1", "/work/2", "/stream")  # all answer with 200
RECOVERY_S = 10.0
NOTICE_S = 5.0
LOCK_S, LONG_LOCK_S = 5.0, 60.0


class Outage:
    """A service under load, watched: what it answered before, during and after."""

    def __init__(self, service, client, watch):
        self.service, self.client, self.watch = service, client, watch
        self.broke = self.mended = None

    def warm_up(self):
        self.serve(150)
        settled(self.service.port)

    def serve(self, requests):
        """Let the clients receive so many more."""
        enough = len(self.client.received) + requests
        eventually(lambda: len(self.client.received) >= enough, 20)

    def health(self):
        return self.service.health()

    def recovers(self):
        """Health is ok again, and all that was acknowledged by now is kept, in time."""
        mended, received = time.monotonic(), self.since_break()
        eventually(lambda: self.health()["status"] == "ok", RECOVERY_S)
        eventually(lambda: check_each_once(server_traces(self.service.port), received) is None, RECOVERY_S)
        assert time.monotonic() - mended < RECOVERY_S

    def since_break(self):
        received = list(self.client.received)
        return [each.trace_id for each in received if self.broke is None or each.sent_at >= self.broke]

    def check_answers(self):
        """Everything was answered, with 200, and about as quickly as before."""
        client = self.client
        assert not client.unanswered, client.unanswered[:3]
        assert {each.status for each in client.received} == {200}
        before = sorted(each.seconds for each in client.received if self.broke and each.sent_at < self.broke)
        usual = before[int(len(before) * 0.99)] if before else 0.05
        assert client.p99(self.broke or 0.0) < 3 * usual + 0.1, f"p99 was {usual:.3f} s before"


@contextmanager
def outage(tmp_path, **options):
    with Service(tmp_path / "data", tmp_path, workers=2, **options) as service:
        with Watch(service.ports, every=0.1) as watch:
            with Client(service.port, rate=100, threads=4, paths=PATHS) as client:
                yield Outage(service, client, watch)
            watch.check()
        yielded = client
        settled(service.port, RECOVERY_S)
        assert server_spans(scrape(service.port)) == len(yielded.received), "every request counted once"


@contextmanager
def locked(*paths):
    """Another process holds a write transaction on these databases."""
    script = """
import sqlite3, sys
held = [sqlite3.connect(path, isolation_level=None, timeout=10) for path in sys.argv[1:]]
for connection in held: connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
for connection in held: connection.execute("ROLLBACK"); connection.close()
"""
    command = [sys.executable, "-c", script, *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield
        process.communicate("", timeout=10)


def aggregates(data_dir):
    return data_dir / "aggregates.db"


def partition(data_dir):
    return max((data_dir / "history").glob("*.db"))


FILES = {"aggregates": aggregates, "partition": partition}


DAMAGES = {each.__name__: each for each in (delete, delete_with_logs, overwrite, replace)}


def test_locked_by_another_process(tmp_path, long):
    """A database locked for long delays what is kept, and nothing else."""
    with outage(tmp_path) as it:
        it.warm_up()
        it.broke = time.monotonic()
        with locked(aggregates(tmp_path / "data"), partition(tmp_path / "data")):
            degraded = eventually(lambda: it.health()["degraded"], LOCK_S)
            assert "lock" in str(degraded).lower(), degraded
            unlocked = it.broke + (LONG_LOCK_S if long else LOCK_S)
            eventually(lambda: time.monotonic() > unlocked, LONG_LOCK_S + 1)
        it.recovers()
        it.client.stop()
        it.check_answers()
        check_kept(it.service.port, it.client.ids())


@pytest.mark.parametrize("damage", DAMAGES)
def test_files_destroyed_while_running(tmp_path, damage):
    """A database that is deleted or replaced is made anew; only what a partition alone held is gone."""
    data = tmp_path / "data"
    with outage(tmp_path) as it:
        it.warm_up()
        for name, find in FILES.items():
            it.broke = time.monotonic()
            DAMAGES[damage](find(data))
            it.serve(100)
            it.recovers()
            kept = it.since_break() if name == "partition" else it.client.ids()
            account = settled(it.service.port)  # what another worker has just recorded may be on its way before
            assert account["balanced"], (name, account)
            check_each_once(server_traces(it.service.port), kept)
        it.client.stop()
        it.check_answers()
        settled(it.service.port)
        it.service.stop()
        check_files(data)
        it.service.start_all()  # the next start finds nothing wrong either
        it.service.wait_ready()
        check_each_once(server_traces(it.service.port), it.since_break())


@pytest.mark.parametrize("damage", ["delete_with_logs", "overwrite"])
def test_files_destroyed_before_the_start(tmp_path, damage):
    """A service whose databases were destroyed while it was down starts, keeps what comes, and counts on.

    Totals of a lost aggregates.db are counted again from the history; the rows of a lost partition are gone,
    its totals are not.
    """
    data = tmp_path / "data"
    with Service(data, tmp_path) as service:
        received = _visit(service)
        for name, find in FILES.items():
            service.stop()
            DAMAGES[damage](find(data))
            service.start_all()
            service.wait_ready()
            with Watch(service.ports) as watch:
                later = _visit(service)
            watch.check()
            received += later
            eventually(lambda: service.health()["status"] == "ok", RECOVERY_S)
            account = settled(service.port)
            assert account["balanced"], (name, account)
            kept = later if name == "partition" else received
            check_each_once(server_traces(service.port), kept)
            assert server_spans(scrape(service.port)) == len(received), name
        service.stop()
        check_files(data)


def _visit(service):
    """Let clients in for a while; gives the traces of what they asked, all of which was answered and is kept."""
    with Client(service.port, rate=100, paths=PATHS) as client:
        eventually(lambda: len(client.received) >= 100, 10)
    assert not client.unanswered
    assert {each.status for each in client.received} == {200}
    settled(service.port)
    return client.ids()


@pytest.fixture
def powerless(require, tmp_path):
    """A command prefix under which even root can't write where the mode forbids it."""
    prefix = () if os.geteuid() else (require("setpriv"), "--bounding-set=-all", "--inh-caps=-all")
    folder = tmp_path / "forbidden"
    folder.mkdir(mode=0o500)
    tried = subprocess.run([*prefix, "touch", str(folder / "file")], capture_output=True, check=False)
    assert tried.returncode != 0, "the fault can't be made here: a forbidden folder was written to"
    return prefix


def set_writable(folder, writable):
    for path in [*folder.rglob("*"), folder]:
        path.chmod((0o700 if writable else 0o500) if path.is_dir() else (0o600 if writable else 0o400))


def test_read_only_at_start(tmp_path, powerless):
    """A service that can't write anything starts, says so, and keeps all of it once it can."""
    data = tmp_path / "data"
    data.mkdir(mode=0o500)
    with outage(tmp_path, prefix=powerless) as it:
        degraded = eventually(lambda: it.health()["degraded"], 5)
        assert "ermission" in str(degraded) or "read-only" in str(degraded).lower(), degraded
        it.serve(200)
        assert not list(data.iterdir())
        set_writable(data, writable=True)
        it.recovers()
        it.client.stop()
        it.check_answers()
        check_kept(it.service.port, it.client.ids())


def test_read_only_while_running(tmp_path, powerless):
    """When nothing new can be made in the directory, memory takes over where the journal ends."""
    data = tmp_path / "data"
    env = {"TRACEKEEP_SEGMENT_BYTES": "64KiB"}  # so that the journal soon needs another segment
    with outage(tmp_path, prefix=powerless, env=env) as it:
        it.warm_up()
        it.broke = time.monotonic()
        set_writable(data, writable=False)
        eventually(lambda: it.health()["degraded"], 20)
        it.serve(300)
        set_writable(data, writable=True)
        it.recovers()
        it.client.stop()
        it.check_answers()
        check_kept(it.service.port, it.client.ids())


def test_directory_moved_away(tmp_path):
    """When the whole data directory goes, that is noticed within 5 s, and all goes on in a new one.

    What was acknowledged before it was noticed is in the journals that went.
    """
    data = tmp_path / "data"
    with Service(data, tmp_path, workers=2) as service:
        with Watch(service.ports) as watch, Client(service.port, rate=100, paths=PATHS) as client:
            eventually(lambda: len(client.received) >= 100, 10)
            data.rename(tmp_path / "moved away")
            noticed = time.monotonic() + NOTICE_S
            eventually(lambda: time.monotonic() > noticed, NOTICE_S + 1)
            eventually(lambda: service.health()["status"] == "ok", RECOVERY_S)
            enough = len(client.received) + 100
            eventually(lambda: len(client.received) >= enough, 10)
        watch.check()
        assert {each.status for each in client.received} == {200}
        account = settled(service.port)
        assert account["balanced"], account
        since = [each.trace_id for each in client.received if each.sent_at >= noticed]
        check_each_once(server_traces(service.port), since)


OPENER = """
import sqlite3, sys
for path in sys.argv[1:]:
    connection = sqlite3.connect(path)
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    connection.close()
"""


def test_another_program_opens_and_closes_the_databases(tmp_path):
    """A shell or a backup that closes its connection must not take the log away from under the writer.

    SQLite does that for whoever closes last; the locks of the service's own connections prevent it, unless
    the service drops them by closing another descriptor of the file.
    """
    data = tmp_path / "data"
    with outage(tmp_path) as it:
        it.warm_up()
        logs = [path.with_name(f"{path.name}-wal") for path in (aggregates(data), partition(data))]
        before = [log.stat().st_ino for log in logs]
        for _ in range(5):
            subprocess.run([sys.executable, "-c", OPENER, aggregates(data), partition(data)], check=True)
            it.serve(30)
            assert [log.stat().st_ino for log in logs] == before
        it.client.stop()
        check_kept(it.service.port, it.client.ids())


def test_locks_do_not_stop_shutdown(tmp_path):
    """SIGTERM ends a service in bounded time also while its databases are locked; nothing is lost."""
    with Service(tmp_path / "data", tmp_path, workers=1) as service:
        with Client(service.port, rate=100, paths=PATHS) as client:
            eventually(lambda: len(client.received) >= 50, 10)
            settled(service.port)
            with locked(aggregates(tmp_path / "data"), partition(tmp_path / "data")):
                more = len(client.received) + 50
                eventually(lambda: len(client.received) >= more, 10)
                client.stop()
                began = time.monotonic()
                stopper = threading.Thread(target=service.stop)
                stopper.start()
                stopper.join(15)
                assert time.monotonic() - began < 8
        service.start_all()
        service.wait_ready()
        check_kept(service.port, client.ids())
