import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracekeep.storage.graph import DATABASE, DIRECT, MESSAGING, USER, VIRTUAL, Graph, GraphChange, rows_of
from tracekeep.storage.shapes import Operation, Shape

MS = 1_000_000
SERVER, CLIENT, PRODUCER, CONSUMER, INTERNAL = 2, 3, 4, 5, 1
ERROR = 2
TRACE = bytes(range(16))
_numbers = itertools.count(1)


class Shapes(dict):
    """One shape for each service, kind, status and attributes, as the intake keeps them."""

    def __missing__(self, key):
        service, kind, status, attributes = key
        self[key] = Shape(Operation(next(_numbers), service, "op", kind), dict(attributes), None, status)
        return self[key]


class Writer:
    """What the writer does with a graph: fold, store in one transaction, take in; and another one goes on from it."""

    def __init__(self, **settings):
        self.settings = settings
        self.stored, self.edges, self.dropped = {}, {}, Counter()
        self.shapes = Shapes()
        self.restart(0.0)

    def restart(self, now):
        self.graph = Graph(**self.settings)
        self.graph.load([(*key, *row) for key, row in self.stored.items()], now)

    def fold(self, spans, now=0.0, *, commit=True):
        folds = {}
        for service, kind, span_id, parent_id, start, duration, status, attributes in spans:
            shape = self.shapes[service, kind, status, attributes]
            row = (TRACE, span_id, parent_id, shape.operation, None, start, duration, status, None, None)
            folds.setdefault((shape.leader, 0), []).append(row)
        change = GraphChange()
        self.graph.fold(change, folds, now)
        if commit:
            self.commit(change)

    def expire(self, until):
        change = GraphChange()
        self.graph.expire(change, until)
        self.commit(change)

    def commit(self, change):
        for key in change.gone:
            del self.stored[key]
        for row in rows_of(change.added):
            assert row[:2] not in self.stored
            self.stored[row[:2]] = row[2:]
        for names, edge in change.edges.items():
            self.edges.setdefault(tuple(names), []).append(edge)
        self.dropped.update(change.dropped)
        self.graph.take(change)
        assert len(self.stored) == len(self.graph.waiting)

    def found(self):
        """(count, failed, server durations, caller durations, messaging durations) by names."""
        return {
            names: (
                sum(each.count for each in edges),
                sum(each.failed for each in edges),
                sorted(itertools.chain.from_iterable(each.server for each in edges)),
                sorted(itertools.chain.from_iterable(each.caller for each in edges)),
                sorted(itertools.chain.from_iterable(each.messaging for each in edges)),
            )
            for names, edges in self.edges.items()
        }


def span(service="shop", kind=SERVER, span_id=None, parent_id=None, *, start=0, duration=MS, status=0, **attributes):
    named = tuple(sorted((key.replace("_", "."), value) for key, value in attributes.items()))
    return service, kind, span_id or next(_numbers), parent_id, start, duration, status, named


@pytest.fixture
def writer():
    return Writer()


services = st.sampled_from(["shop", "stock", "mail"])
statuses = st.sampled_from([0, 1, ERROR])
durations = st.integers(0, 20_000_000_000)
calls = st.tuples(services, services, st.booleans(), statuses, statuses, durations, durations, st.integers(0, 10**6))


def both_ends(number, call):
    """The two spans of a call, and the edge that they are."""
    client, server, is_message, client_status, server_status, client_duration, server_duration, delay = call
    kinds = (PRODUCER, CONSUMER) if is_message else (CLIENT, SERVER)
    begun = client_duration + delay
    one = span(client, kinds[0], number, None, duration=client_duration, status=client_status)
    other = span(
        server, kinds[1], number + (1 << 40), number, start=begun, duration=server_duration, status=server_status
    )
    names = (client, server, MESSAGING if is_message else DIRECT)
    return one, other, names, ERROR in {client_status, server_status}


@given(calls=st.lists(calls, max_size=30), data=st.data())
def test_pairs_become_edges_in_any_order(calls, data):
    """N pairs in any order and batches, some tried twice, some after a change of the writer, are N edges."""
    writer, expected, spans = Writer(), {}, []
    for number, call in enumerate(calls, 1):
        one, other, names, failed = both_ends(number, call)
        spans += [one, other]
        known = expected.setdefault(names, ([], [], [], []))
        known[0].append(failed)
        known[1].append(other[5])
        known[2].append(one[5])
        if call[2]:
            known[3].append(call[7])
    spans = data.draw(st.permutations(spans))
    while spans:
        size = data.draw(st.integers(1, len(spans)))
        what = data.draw(st.sampled_from(["commit", "again", "restart"]))
        if what == "again":
            writer.fold(spans[: size // 2], commit=False)
        elif what == "restart":
            writer.restart(0.0)
        writer.fold(spans[:size])
        spans = spans[size:]
    assert writer.found() == {
        names: (len(failed), sum(failed), sorted(server), sorted(caller), sorted(messaging))
        for names, (failed, server, caller, messaging) in expected.items()
    }
    assert (len(writer.graph.waiting), writer.dropped) == (0, {})


@given(kept=st.lists(st.booleans(), min_size=1, max_size=40), data=st.data())
def test_nothing_is_counted_twice_or_not_at_all(kept, data):
    """Of pairs that lost one end each span is an edge's end, waits, or is counted as dropped."""
    writer, spans = Writer(limit=5), []
    for number, both in enumerate(kept, 1):
        one, other, _names, _failed = both_ends(number, ("shop", "stock", False, 0, 0, MS, MS, 0))
        spans += [one, other] if both else [data.draw(st.sampled_from([one, other]))]
    for each in data.draw(st.permutations(spans)):
        writer.fold([each])
        assert len(writer.graph.waiting) <= 5
    pairs = sum(edge[0] for edge in writer.found().values())
    assert 2 * pairs + len(writer.graph.waiting) + writer.dropped["full"] == len(spans)
    writer.expire(100.0)
    assert len(writer.graph.waiting) == 0
    assert 2 * pairs + writer.dropped["full"] + writer.dropped["unpaired"] == len(spans)


def test_a_request_without_a_parent_is_the_users(writer):
    """It is an edge at once, and its caller's duration is nobody's."""
    writer.fold([span(duration=5), span(duration=3, status=ERROR), span(duration=4)])
    assert writer.found() == {(USER, "shop", VIRTUAL): (3, 1, [3, 4, 5], [], [])}
    assert len(writer.graph.waiting) == 0


def test_requests_with_and_without_a_parent_come_together(writer):
    """One batch of one operation may have both."""
    writer.fold([span("web", CLIENT, 7, duration=9), span(parent_id=7, duration=5), span(duration=3)])
    assert writer.found() == {
        (USER, "shop", VIRTUAL): (1, 0, [3], [], []),
        ("web", "shop", DIRECT): (1, 0, [5], [9], []),
    }


@pytest.mark.parametrize(
    ("attributes", "node"),
    [
        ({"db_system_name": "postgresql"}, "postgresql"),
        ({"db_system": "redis"}, "redis"),
        ({"db_system": "mysql", "db_name": "orders"}, "orders"),
        ({"db_system_name": "postgresql", "db_namespace": "orders"}, "orders"),
        ({"db_system_name": "postgresql", "db_namespace": "orders", "server_address": "db1"}, "db1"),
        ({"db_system_name": "postgresql", "server_address": "db1", "peer_service": "orders-db"}, "orders-db"),
    ],
)
def test_a_database_call_is_an_edge_at_once(writer, attributes, node):
    """The database is named as Tempo names it, and both durations are what the caller saw."""
    writer.fold([span("shop", CLIENT, duration=5, **attributes), span("shop", CLIENT, status=ERROR, **attributes)])
    assert writer.found() == {("shop", node, DATABASE): (2, 1, [5, MS], [5, MS], [])}
    assert len(writer.graph.waiting) == 0


def test_databases_are_told_apart(writer):
    """Spans of one operation that go to two databases are two edges."""
    writer.fold([span("shop", CLIENT, db_system="redis", server_address=host) for host in ("a", "b", "b")])
    assert {names[1]: edge[0] for names, edge in writer.found().items()} == {"a": 1, "b": 2}


def test_a_peer_that_records_nothing_is_a_virtual_node(writer):
    """A caller that names its peer is given up on after 10 s as an edge; one that names none is counted."""
    writer.fold([span("shop", CLIENT, duration=5, peer_service="payments"), span("shop", CLIENT)], now=100.0)
    writer.expire(109.0)
    assert (writer.found(), len(writer.graph.waiting)) == ({}, 2)
    writer.expire(110.0)
    assert writer.found() == {("shop", "payments", VIRTUAL): (1, 0, [5], [5], [])}
    assert writer.dropped == {"unpaired": 1}
    assert writer.stored == {}


def test_a_peer_that_records_is_itself(writer):
    """Its own name counts, not what its caller calls it."""
    writer.fold([span("shop", CLIENT, 1, peer_service="payments")])
    writer.fold([span("pay", SERVER, parent_id=1)])
    assert list(writer.found()) == [("shop", "pay", DIRECT)]


def test_a_callers_server_that_comes_too_late_is_counted(writer):
    """What was given up on is over: the other end waits for itself, and is counted when it has waited."""
    writer.fold([span("shop", CLIENT, 1)], now=0.0)
    writer.expire(10.0)
    writer.fold([span("stock", SERVER, parent_id=1)], now=10.0)
    writer.expire(20.0)
    assert (writer.found(), writer.dropped) == ({}, {"unpaired": 2})


def test_waiting_begins_anew_with_another_writer(writer):
    """What an end waits for may lie in a journal that nobody read for longer than the wait."""
    writer.fold([span("shop", CLIENT, 1)], now=0.0)
    writer.restart(1000.0)
    writer.expire(1009.0)
    writer.fold([span("stock", SERVER, parent_id=1)], now=1009.0)
    assert list(writer.found()) == [("shop", "stock", DIRECT)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_two_servers_of_one_call(order):
    """A call that two servers answer is one edge; the second answer is counted, whatever the order."""
    writer = Writer()
    spans = [span("shop", CLIENT, 1), span("stock", SERVER, parent_id=1), span("stock", SERVER, parent_id=1)]
    for number in order:
        writer.fold([spans[number]])
    writer.expire(10.0)
    assert writer.found()["shop", "stock", DIRECT][0] == 1
    assert (writer.dropped, len(writer.graph.waiting)) == ({"unpaired": 1}, 0)


def test_other_spans_are_none_of_it(writer):
    """Spans inside a service are no end of anything."""
    writer.fold([span(kind=INTERNAL), span(kind=0, db_system="redis")])
    assert (writer.found(), len(writer.graph.waiting)) == ({}, 0)


def test_what_waits_is_bounded():
    """Past the limit spans are counted as dropped, until what has waited long enough makes room."""
    writer = Writer(limit=3)
    writer.fold([span("shop", CLIENT, number) for number in range(1, 6)], now=0.0)
    assert (len(writer.graph.waiting), writer.dropped) == (3, {"full": 2})
    writer.fold([span("shop", CLIENT, number) for number in range(11, 15)], now=10.0)
    assert (len(writer.graph.waiting), writer.dropped) == (3, {"full": 3, "unpaired": 3})
    writer.fold([span("stock", SERVER, parent_id=number) for number in range(11, 14)], now=10.0)
    assert writer.found()["shop", "stock", DIRECT][0] == 3


def test_a_message_that_came_before_it_was_sent(writer):
    """Where two clocks contradict each other, the time that a message took is left out, and the edge counted."""
    writer.fold([span("shop", PRODUCER, 1, start=10, duration=5), span("mail", CONSUMER, parent_id=1, start=14)])
    assert writer.found() == {("shop", "mail", MESSAGING): (1, 0, [MS], [5], [])}


def test_the_same_ids_in_another_trace(writer):
    """An edge is within one trace."""
    change, shape = GraphChange(), writer.shapes["shop", CLIENT, 0, ()]
    other = writer.shapes["stock", SERVER, 0, ()]
    row = (0, None, 0, MS, 0, None, None)
    folds = {(shape, 0): [(b"a" * 16, 1, None, *row)], (other, 0): [(b"b" * 16, 2, 1, *row)]}
    writer.graph.fold(change, folds, 0.0)
    assert (len(change.added), change.edges) == (2, {})
