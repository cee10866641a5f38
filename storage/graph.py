"""The service graph: who calls whom, from pairs of spans that two services recorded of one call.

A client's span and the server's span whose parent it is (or a producer's and a consumer's) are the two ends of
an edge. They come in any order, in different batches and from different processes: the first to come waits, at
most 10 s, for the other. An end that can't have another is an edge by itself: a call to a database, and a
request of a caller that recorded nothing. After Tempo's service graph processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, NamedTuple

from .families import bounded
from .intake import DURATION, SPAN, START, TRACE, Folds, Row
from .records import SpanKind, StatusCode
from .shapes import Shape

WAIT = 10.0
"""Seconds for which an end waits for the other, as in Tempo."""
MAX_OPEN = 10_000
"""Ends that wait at the same time, as in Tempo; those that come when so many do are counted as dropped."""
USER = "user"
"""The caller of a request that has no parent."""
DROP_REASONS = ("unpaired", "full")
"""Why a span that should have been one end of an edge is none: the other never came, or too many were waiting."""

DIRECT, MESSAGING, DATABASE, VIRTUAL = "", "messaging_system", "database", "virtual_node"

PARENT = 2
"""Place in a span's row."""
_parent, _duration = itemgetter(PARENT), itemgetter(DURATION)
_first_kind, _callers = SpanKind.SERVER, (SpanKind.CLIENT, SpanKind.PRODUCER)
_messaging = (SpanKind.PRODUCER, SpanKind.CONSUMER)

Key = tuple[bytes, int]
"""Trace and span id of the calling span."""


Names = tuple[str, str, str]
"""Client, server and connection type: an edge's labels."""


class End(NamedTuple):
    """What all spans of a shape are to the graph."""

    is_caller: bool
    is_database: bool
    service: str
    failed: bool
    messaging: bool
    peer: str
    """Whom the span itself names as its other side; empty where it does not."""


Waiting = tuple[End, int, int, float]
"""An end whose other one has not come yet: its duration, when a producer's span ended or a consumer's began (ns since
the epoch; 0 for the others), and its time of arrival by the writer's monotonic clock. A bare tuple, as one is made
for most spans of other services."""


class Edge:
    """Calls with the same names: how many there were, how many failed, and durations (ns) as far as they are known."""

    __slots__ = ("caller", "count", "failed", "messaging", "server")

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0
        self.server: list[int] = []
        self.caller: list[int] = []
        self.messaging: list[int] = []


@dataclass(slots=True)
class GraphChange:
    """What a batch does to the graph: computed against what is committed, taken in once it is committed itself."""

    edges: dict[Names, Edge] = field(default_factory=dict)
    added: dict[Key, Waiting] = field(default_factory=dict)
    gone: set[Key] = field(default_factory=set)
    dropped: dict[str, int] = field(default_factory=dict)
    swept: bool = False
    """Whether room was made already."""

    def __bool__(self) -> bool:
        return bool(self.edges or self.added or self.gone or self.dropped)

    def edge(self, client: str, server: str, connection_type: str) -> Edge:
        """The edge with these names."""
        names = (client, server, connection_type)
        found = self.edges.get(names)
        if found is None:
            found = self.edges[names] = Edge()
        return found

    def drop(self, reason: str, count: int) -> None:
        """Count spans that are no end of an edge after all."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count


class Graph:
    """Finds edges. What waits changes only by `take`, so that a batch that is not committed leaves no trace.

    Args:
        wait: seconds for which an end waits for the other.
        limit: how many may wait.
    """

    def __init__(self, *, wait: float = WAIT, limit: int = MAX_OPEN) -> None:
        self._wait = wait
        self._limit = limit
        self._waiting: dict[Key, Waiting] = {}

    @property
    def waiting(self) -> Mapping[Key, Waiting]:
        """What waits, in the order of arrival."""
        return self._waiting

    # --- a batch ---------------------------------------------------------------------------------------------------

    def fold(self, change: GraphChange, folds: Folds, now: float) -> None:
        """Find the edges in a batch's spans; `now` by a monotonic clock."""
        for (shape, _minute), rows in folds.items():
            if shape.kind < _first_kind:
                continue
            end: End = shape.end or _end_of(shape)
            if end.is_database:
                self._complete_calls(change, end, rows)
            elif end.is_caller:
                self._pair(change, end, ((row[TRACE], row[SPAN]) for row in rows), rows, now)
            else:
                self._fold_served(change, end, rows, now)

    @staticmethod
    def _complete_calls(change: GraphChange, end: End, rows: list[Row]) -> None:
        """Calls to a database, which records no spans: their caller's duration is all there is."""
        edge = change.edge(end.service, end.peer, DATABASE)
        durations = list(map(_duration, rows))
        edge.count += len(rows)
        edge.failed += len(rows) if end.failed else 0
        edge.server += durations
        edge.caller += durations

    def _fold_served(self, change: GraphChange, end: End, rows: list[Row], now: float) -> None:
        roots = list(map(_parent, rows)).count(None)
        if roots:
            edge = change.edge(end.peer or USER, end.service, VIRTUAL)
            edge.count += roots
            edge.failed += roots if end.failed else 0
            if roots == len(rows):
                edge.server += map(_duration, rows)
                return
            edge.server += [row[DURATION] for row in rows if row[PARENT] is None]
            rows = [row for row in rows if row[PARENT] is not None]
        self._pair(change, end, ((row[TRACE], row[PARENT]) for row in rows), rows, now)

    def _pair(self, change: GraphChange, end: End, keys: Iterable[Key], rows: list[Row], now: float) -> None:
        waiting, added, gone = self._waiting, change.added, change.gone
        for key, row in zip(keys, rows, strict=True):
            other = added.get(key)
            if other is None:
                other = waiting.get(key)
                if other is not None and key in gone:
                    other = None
            if other is None:
                if len(waiting) - len(gone) + len(added) >= self._limit and not self._has_room(change, now):
                    change.drop("full", 1)
                    continue
                moment = 0
                if end.messaging:
                    moment = row[START] + row[DURATION] if end.is_caller else row[START]
                added[key] = (end, row[DURATION], moment, now)
            elif other[0].is_caller == end.is_caller:
                change.drop("unpaired", 1)  # two servers answered one call: the first is its other end
            else:
                if added.pop(key, None) is None:
                    gone.add(key)
                _complete(change, end, row, other)

    def _has_room(self, change: GraphChange, now: float) -> bool:
        """Whether giving up what has waited long enough makes room; looked at once a batch."""
        if not change.swept:
            change.swept = True
            self.expire(change, now)
        return len(self._waiting) - len(change.gone) + len(change.added) < self._limit

    # --- time ------------------------------------------------------------------------------------------------------

    def expire(self, change: GraphChange, until: float) -> None:
        """Give up on what had waited long enough at a time: up to then, all that was journaled has been read."""
        oldest = until - self._wait
        for key, each in self._waiting.items():
            if each[3] > oldest:
                break
            if key not in change.gone:
                change.gone.add(key)
                _give_up(change, each)

    # --- what is committed -----------------------------------------------------------------------------------------

    def take(self, change: GraphChange) -> None:
        """Take in what a committed change did."""
        for key in change.gone:
            self._waiting.pop(key, None)
        self._waiting.update(change.added)

    def load(self, rows: Iterable[tuple[Any, ...]], now: float) -> None:
        """Take in what another writer left waiting, as `rows_of` gave it.

        Their wait begins anew: what they wait for may lie unread in a journal since then.
        """
        for trace_id, span_id, caller, service, failed, messaging, peer, duration, moment in rows:
            end = End(bool(caller), False, service, bool(failed), bool(messaging), peer)
            self._waiting[trace_id, span_id] = (end, duration, moment, now)


def rows_of(waiting: Mapping[Key, Waiting]) -> Iterator[tuple[Any, ...]]:
    """(trace id, span id, caller, service, failed, messaging, peer, duration, moment) of each, to be stored."""
    for (trace_id, span_id), (end, duration, moment, _arrived) in waiting.items():
        yield (
            trace_id, span_id, int(end.is_caller), end.service, int(end.failed), int(end.messaging), end.peer,
            duration, moment,
        )  # fmt: skip


def _end_of(shape: Shape) -> End:
    """Worked out once for each shape, and kept with it."""
    kind, peer = shape.kind, shape.peer
    end = shape.end = End(
        is_caller=kind in _callers,
        is_database=peer.is_database,
        service=bounded(shape.service),
        failed=shape.status == StatusCode.ERROR,
        messaging=kind in _messaging,
        peer=bounded(peer.name),
    )
    return end


def _complete(change: GraphChange, end: End, row: Row, other: Waiting) -> None:
    """Both ends are there: `end` with its row, and `other`, which was first."""
    duration = row[DURATION]
    mate, other_duration, moment, _arrived = other
    messaging = MESSAGING if end.messaging or mate.messaging else DIRECT
    if end.is_caller:
        edge = change.edge(end.service, mate.service, messaging)
        edge.caller.append(duration)
        edge.server.append(other_duration)
    else:
        edge = change.edge(mate.service, end.service, messaging)
        edge.caller.append(other_duration)
        edge.server.append(duration)
    edge.count += 1
    edge.failed += end.failed or mate.failed
    if end.messaging and mate.messaging:
        sent, received = (row[START] + duration, moment) if end.is_caller else (moment, row[START])
        if received >= sent:  # two clocks may say that it came before it was sent: then nobody knows
            edge.messaging.append(received - sent)


def _give_up(change: GraphChange, waiting: Waiting) -> None:
    """The other end did not come: where a caller names its peer, that one records no spans."""
    end, duration, _moment, _arrived = waiting
    if not (end.is_caller and end.peer):
        change.drop("unpaired", 1)
        return
    edge = change.edge(end.service, end.peer, VIRTUAL)
    edge.count += 1
    edge.failed += end.failed
    edge.caller.append(duration)
    edge.server.append(duration)
