import functools
import sqlite3

import pytest
from tk_spans import CLIENT, ERROR, SERVER, Recorder, check_kept, counter, die, series_of
from tk_wait import eventually

from tracekeep.storage import edges
from tracekeep.storage.aggregates import Aggregates
from tracekeep.storage.families import EDGE_CLIENT, EDGE_DROPPED, EDGE_FAILED, EDGE_MESSAGING, EDGE_SERVER, EDGE_TOTAL
from tracekeep.storage.graph import Graph

PRODUCER, CONSUMER = 4, 5
SECOND = 1_000_000_000


@pytest.fixture
def impatient(monkeypatch):
    """Have ends wait for half a second."""
    monkeypatch.setattr(edges, "Graph", functools.partial(Graph, wait=0.5))


def edges_of(store):
    return {tuple(value for _, value in each.labels): each.value for each in series_of(store, EDGE_TOTAL.name)}


def call(client, server, number, **details):
    """Both spans of a call, the server's first."""
    trace_id = number.to_bytes(16, "big")
    server(trace_id=trace_id, parent_id=number, **details)
    client("GET", kind=CLIENT, trace_id=trace_id, span_id=number, duration=2 * SECOND)


def test_labels_follow_grafana(store):
    """Names and labels are those that Grafana queries, durations and failures those of the two sides."""
    call(Recorder(store, "web"), Recorder(store, "shop"), 7, duration=SECOND, status=ERROR)
    assert store.flush(5)
    (total,) = series_of(store, EDGE_TOTAL.name)
    assert total.labels == (("client", "web"), ("server", "shop"), ("connection_type", ""))
    assert [each.value for each in series_of(store, EDGE_FAILED.name, client="web")] == [1]
    (server,), (client,) = series_of(store, EDGE_SERVER.name), series_of(store, EDGE_CLIENT.name)
    assert (server.sum, server.buckets) == (1.0, (0, 0, 0, 0, 1, 1, 1, 1))
    assert (client.sum, client.buckets) == (2.0, (0, 0, 0, 0, 0, 1, 1, 1))
    assert series_of(store, EDGE_MESSAGING.name) == []


def test_messages(store):
    """A producer's and a consumer's span are an edge, with the time that the message took."""
    send, receive = Recorder(store, "shop"), Recorder(store, "mail")
    send("send", kind=PRODUCER, trace_id=b"m" * 16, span_id=1, start=SECOND, duration=SECOND)
    receive("receive", kind=CONSUMER, trace_id=b"m" * 16, parent_id=1, start=5 * SECOND)
    assert store.flush(5)
    assert edges_of(store) == {("shop", "mail", "messaging_system"): 1}
    (took,) = series_of(store, EDGE_MESSAGING.name)
    assert took.sum == 3.0


def test_users_and_databases(store):
    """Neither waits for another span."""
    record = Recorder(store)
    record.many(3)
    record("SELECT", kind=CLIENT, attributes={"db.system.name": "postgresql", "server.address": "db1"})
    assert store.flush(5)
    assert edges_of(store) == {("user", "shop", "virtual_node"): 3, ("shop", "db1", "database"): 1}


def test_both_sides_in_different_processes(opened):
    """Each process records its own side; any process shows the edges, each once."""
    one, two = opened(), opened(writer="none")
    client, server = Recorder(one, "web"), Recorder(two, "shop")
    for number in range(1, 101):
        call(client, server, number)
    assert one.flush(5)
    assert two.flush(5)
    eventually(lambda: edges_of(one) == edges_of(two) == {("web", "shop", ""): 100}, 5)


def test_what_waits_outlives_the_process(opened):
    """One side before a restart, the other after it: one edge, and nothing is left waiting."""
    store = opened()
    Recorder(store, "web").many(1, "GET", kind=CLIENT, trace_id=b"x" * 16, span_id=1 << 63)
    assert store.flush(5)
    store.close()
    die(store)
    store = opened()
    Recorder(store, "shop")(trace_id=b"x" * 16, parent_id=1 << 63)
    assert store.flush(5)
    assert edges_of(store) == {("web", "shop", ""): 1}
    assert waiting(store) == 0
    check_kept(store, 2)


def waiting(store):
    connection = sqlite3.connect(f"{(store.data_dir / 'aggregates.db').as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM edges").fetchone()[0]
    finally:
        connection.close()


def test_a_commit_that_fails_and_is_tried_again(store, monkeypatch):
    """An end that waits, and the edge that it becomes, are counted once however often a commit is tried."""
    write, failures = Aggregates._write, iter([True, True, False, True, False])

    def failing(self, connection, change):
        write(self, connection, change)
        if change.graph and next(failures, False):
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(Aggregates, "_write", failing)
    client, server = Recorder(store, "web"), Recorder(store, "shop")
    client("GET", kind=CLIENT, trace_id=b"x" * 16, span_id=1)
    assert store.flush(5)
    server(trace_id=b"x" * 16, parent_id=1)
    assert store.flush(5)
    assert next(failures, None) is None
    assert edges_of(store) == {("web", "shop", ""): 1}


@pytest.mark.parametrize("late", ["client", "server"])
def test_a_death_between_the_two_commits(opened, monkeypatch, late):
    """Spans that the history has and the totals have not are paired by the next writer, each pair once."""
    store = opened()
    client, server = Recorder(store, "web"), Recorder(store, "shop")
    first, second = (server, client) if late == "client" else (client, server)
    ends = {client: {"kind": CLIENT, "span_id": 1 << 40}, server: {"parent_id": 1 << 40}}
    first(trace_id=b"x" * 16, **ends[first])
    assert store.flush(5)
    with monkeypatch.context() as patch:
        patch.setattr(Aggregates, "apply", lambda *_: (_ for _ in ()).throw(OSError(5, "no more")))
        second(trace_id=b"x" * 16, **ends[second])
        call(client, server, 1 << 41)
        eventually(lambda: len(store.spans().items) == 4, 5)
        thread = store._writer._thread
        die(store)
        thread.join(5)
    store = opened()
    eventually(lambda: edges_of(store) == {("web", "shop", ""): 2}, 10)
    assert waiting(store) == 0
    eventually(lambda: not store.spans().degraded, 5)
    check_kept(store, 4)


def test_what_waits_outlives_the_file(store):
    """An `aggregates.db` that is made anew has what waits, as it has all counts."""
    Recorder(store, "web")("GET", kind=CLIENT, trace_id=b"x" * 16, span_id=1)
    assert store.flush(5)
    before = (store.data_dir / "aggregates.db").stat().st_ino
    holder = (store.data_dir / "aggregates.db").open("rb")  # so that the inode isn't given again
    (store.data_dir / "aggregates.db").unlink()
    path = store.data_dir / "aggregates.db"
    eventually(lambda: path.exists() and path.stat().st_ino != before and waiting(store) == 1, 5)
    holder.close()
    store.close()
    die(store)


def test_edges_are_counted_again_from_the_history(opened):
    """Where `aggregates.db` was lost while nothing ran, the graph comes back with the other totals."""
    store = opened()
    client, server = Recorder(store, "web"), Recorder(store, "shop")
    for number in range(1, 21):
        call(client, server, number)
    Recorder(store).many(5)
    Recorder(store, "shop")("SELECT", kind=CLIENT, attributes={"db.system": "redis"})
    assert store.flush(5)
    before = edges_of(store)
    assert before == {("web", "shop", ""): 20, ("user", "shop", "virtual_node"): 5, ("shop", "redis", "database"): 1}
    store.close()
    die(store)
    for path in store.data_dir.glob("aggregates.db*"):
        path.unlink()
    store = opened()
    Recorder(store, "shop")("x", kind=1)
    assert store.flush(5)
    assert edges_of(store) == before


@pytest.mark.usefixtures("impatient")
def test_giving_up_needs_no_spans(opened):
    """What waits too long is over within the wait and a second or two, also where nothing more is recorded."""
    store = opened()
    record = Recorder(store, "shop")
    record("GET", kind=CLIENT, attributes={"peer.service": "payments"})
    record("GET", kind=CLIENT)
    record(parent_id=5)
    assert store.flush(5)
    assert (edges_of(store), waiting(store)) == ({}, 3)
    eventually(lambda: waiting(store) == 0, 5)
    assert edges_of(store) == {("shop", "payments", "virtual_node"): 1}
    assert counter(store, EDGE_DROPPED.name, reason="unpaired") == 2


def test_kinds(store):
    """Server spans whose parent is in their own service don't become users' requests."""
    record = Recorder(store)
    record(kind=SERVER, parent_id=9)
    assert store.flush(5)
    assert (edges_of(store), waiting(store)) == ({}, 1)
