"""The service graph in `aggregates.db`: edges as totals, and what waits, in the transaction of what it comes with."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from .change import Change
from .families import EDGE_CLIENT, EDGE_DROPPED, EDGE_FAILED, EDGE_MESSAGING, EDGE_SERVER, EDGE_TOTAL, Labels
from .graph import Edge, Graph, Names, rows_of
from .intake import DURATION, START, Folds
from .metrics import Metrics

_COLUMNS = "trace_id, span_id, caller, service, failed, messaging, peer, duration, moment"
_INSERT = f"INSERT OR REPLACE INTO edges({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?)"
_DELETE = "DELETE FROM edges WHERE trace_id=? AND span_id=?"


class Edges:
    """Finds edges in what is folded, and counts them.

    Args:
        metrics: where they count.
        clock: monotonic, in seconds.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
        self.graph = Graph()

    def load(self, connection: sqlite3.Connection) -> None:
        """Take in what the writer before left waiting."""
        self.graph.load(connection.execute(f"SELECT {_COLUMNS} FROM edges"), self._clock())

    # --- computing a change ----------------------------------------------------------------------------------------

    def fold(self, change: Change, *batches: Folds) -> None:
        """Add the edges in a batch's spans to a change that has none yet."""
        now = self._clock()
        for folds in batches:
            self.graph.fold(change.graph, folds, now)
        self.count(change)

    def expire(self, change: Change, until: float) -> None:
        """Give up on what had waited long enough at a time by the clock, up to which everything has been read."""
        self.graph.expire(change.graph, until)
        self.count(change)

    def count(self, change: Change) -> None:
        """Count the edges that a change has found."""
        for names, edge in change.graph.edges.items():
            self._count_edge(change, names, edge)
        for reason, count in change.graph.dropped.items():
            self._metrics.count(change, EDGE_DROPPED, (("reason", reason),), count)

    def _count_edge(self, change: Change, names: Names, edge: Edge) -> None:
        client, server, connection_type = names
        labels: Labels = (("client", client), ("server", server), ("connection_type", connection_type))
        self._metrics.count(change, EDGE_TOTAL, labels, edge.count)
        if edge.failed:
            self._metrics.count(change, EDGE_FAILED, labels, edge.failed)
        histograms = ((EDGE_SERVER, edge.server), (EDGE_CLIENT, edge.caller), (EDGE_MESSAGING, edge.messaging))
        for spec, durations in histograms:
            if durations:
                state = self._metrics.find(change, self._metrics.known[spec.name], labels)
                self._metrics.observe(change, state, sorted(durations))

    def replay(self, graph: Graph, change: Change, folds: Folds) -> None:
        """Add the edges in spans of the history to a change; time passes there as the spans themselves say.

        Args:
            graph: what waits during the replay, apart from what waits now.
            change: it has no edges yet.
            folds: of spans, in the order in which they arrived.
        """
        now = max(row[START] + row[DURATION] for rows in folds.values() for row in rows) / 1e9
        graph.fold(change.graph, folds, now)
        graph.expire(change.graph, now)
        self.count(change)
        graph.take(change.graph)

    def go_on_from(self, change: Change, graph: Graph) -> None:
        """Have a change take over what still waits at the end of a replay."""
        now = self._clock()
        change.graph.added = {key: (*each[:-1], now) for key, each in graph.waiting.items()}

    # --- committing ------------------------------------------------------------------------------------------------

    def write(self, connection: sqlite3.Connection, change: Change) -> None:
        """Write what a change does to those that wait."""
        connection.executemany(_DELETE, list(change.graph.gone))
        connection.executemany(_INSERT, list(rows_of(change.graph.added)))

    def write_all(self, connection: sqlite3.Connection) -> None:
        """Write all that wait to a file that was made anew."""
        connection.executemany(_INSERT, list(rows_of(self.graph.waiting)))

    def take(self, change: Change) -> None:
        """Take in what a committed change did."""
        self.graph.take(change.graph)
