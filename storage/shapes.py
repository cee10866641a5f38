"""What many spans share, worked out once: origins, operations, attribute layouts and shapes.

The writer looks a span up in these; only what is new is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec

from .dimensions import DIMENSION_TYPES, NO_DIMENSIONS, Dimensions
from .families import Labels
from .peers import Peer, peer_of
from .records import SpanKind

SHARED_KEYS = frozenset(
    {
        "http.request.method", "http.route", "http.response.status_code", "url.scheme", "error.type",
        "server.address", "server.port", "network.protocol.name", "network.protocol.version", "network.transport",
        "network.type", "client.address", "user_agent.original",
        "db.system.name", "db.system", "db.operation.name", "db.operation", "db.namespace", "db.name",
        "db.collection.name", "db.query.summary", "db.statement", "db.query.text",
        "messaging.system", "messaging.operation.type", "messaging.operation.name", "messaging.destination.name",
        "rpc.system", "rpc.service", "rpc.method", "code.function.name", "code.function", "code.file.path",
        "code.line.number", "thread.name", "peer.service", "service.peer.name",
    }
)  # fmt: skip
"""Attributes that usually have few values: stored once for all spans that have the same."""

LABEL_KEYS = frozenset({"http.request.method", "http.route", "http.response.status_code", "url.scheme", "error.type"})
"""Those of them that totals are labelled with: shared even when the sets have reached their limit."""

MAX_SHARED_TEXT = 256
"""Characters of a text that is worth sharing."""
_MAX_LAYOUTS = 256
_MAX_LEARNT = 16_384

_PLAIN = frozenset({str, int, bool})
"""Types whose values JSON carries as they are."""
_SHAREABLE = frozenset({str, int})


class Shape:
    """What all spans of one operation with the same shared attributes and status have in common."""

    __slots__ = (
        "attribute_set", "attributes", "dimensions", "end", "kind", "leader", "name", "operation", "peer", "release",
        "series", "service", "status",
    )  # fmt: skip

    def __init__(
        self,
        operation: Operation,
        attributes: dict[str, Any],
        attribute_set: int | None,
        status: int,
        *,
        dimensions: Labels = (),
        peer: Peer | None = None,
    ) -> None:
        self.operation = operation.id
        self.service = operation.service
        self.release = operation.release
        self.name = operation.name
        self.kind = operation.kind
        self.attributes = attributes
        self.attribute_set = attribute_set
        self.status = status
        self.dimensions = dimensions
        self.peer = peer_of(operation.kind, attributes) if peer is None else peer
        labels = tuple(pair for pair in attributes.items() if pair[0] in LABEL_KEYS)
        self.leader: Shape = operation.leaders.setdefault((labels, status, self.peer, dimensions), self)
        """The first shape that counts in the same series and edges: all of them are folded as one."""
        self.series: Any = None
        """The totals that these spans count in; looked up by the aggregates once."""
        self.end: Any = None
        """What they are to the service graph; looked up by it once."""


class Layout:
    """Which attributes spans have, with which types: worked out once, so that a span is only looked up."""

    __slots__ = ("is_plain", "own", "own_keys", "shapes", "shared", "shared_keys")

    def __init__(self, keys: tuple[str, ...], types: tuple[type, ...], dimensions: frozenset[str]) -> None:
        places = {key: place for place, key in enumerate(keys)}
        shared = [
            place
            for key, place in places.items()
            if (key in SHARED_KEYS and types[place] in _SHAREABLE)
            or (key in dimensions and types[place] in DIMENSION_TYPES)
        ]
        own = [place for place in places.values() if place not in shared]
        self.shared_keys = tuple(keys[place] for place in shared)
        self.own_keys = tuple(keys[place] for place in own)
        self.is_plain = all(types[place] in _PLAIN for place in own)
        self.shared = _getter(shared)
        self.own = _getter(own)
        self.shapes: dict[tuple[tuple[Any, ...], int], Shape] = {}


def _getter(places: list[int]) -> Callable[[list[Any]], tuple[Any, ...]]:
    """A function that takes the values at some places, as a tuple however many they are."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: tuple(values[place] for place in places)


Plan = tuple[tuple[bytes | None, ...], dict[bytes, tuple[Any, ...]]]
"""What `_native_intake.c` needs of spans with a template. For each key how it begins in JSON, None where its value is
shared; and by the shared values and the status as journaled: leader, operation, attribute set, status, whether the
span is a server's."""


class Layouts:
    """The layouts of an operation's spans with the same attribute keys, by the values' types."""

    __slots__ = ("keys", "known", "operation", "plan")

    def __init__(self, operation: Operation, keys: tuple[str, ...]) -> None:
        self.operation = operation
        self.keys = keys
        self.known: dict[tuple[type, ...], Layout] = {}
        shared = SHARED_KEYS | operation.dimensions.keys
        prefixes = (None if key in shared else msgspec.json.encode(key) + b":" for key in keys)
        self.plan: Plan = (tuple(prefixes), {})

    def learn(self, key: bytes, shape: Shape) -> None:
        """Let the quick way know the shape of plain spans with some shared values."""
        if len(self.plan[1]) < _MAX_LEARNT:
            server = shape.kind == SpanKind.SERVER
            self.plan[1][key] = (shape.leader, shape.operation, shape.attribute_set, shape.status, server)

    def add(self, types: tuple[type, ...]) -> Layout:
        """A layout that has not been met; few are kept, as an application has few."""
        if len(self.known) >= _MAX_LAYOUTS:
            self.known.clear()
        layout = self.known[types] = Layout(self.keys, types, self.operation.dimensions.keys)
        return layout


class Operation:
    """A resource, a scope, a span name and a kind."""

    __slots__ = ("dimensions", "id", "kind", "layouts", "leaders", "name", "release", "service", "shapes")

    def __init__(
        self,
        id_: int,
        service: str,
        name: str,
        kind: int,
        dimensions: Dimensions = NO_DIMENSIONS,
        *,
        release: str = "",
    ) -> None:
        self.id = id_
        self.service = service
        self.release = release
        self.name = name
        self.kind = kind
        self.dimensions = dimensions
        self.shapes: dict[tuple[Any, ...], Shape] = {}
        self.leaders: dict[tuple[Any, ...], Shape] = {}
        self.layouts: dict[tuple[str, ...], Layouts] = {}

    def layouts_of(self, keys: tuple[str, ...]) -> Layouts:
        """Those for some attribute keys."""
        if len(self.layouts) >= _MAX_LAYOUTS:
            self.layouts.clear()
        return self.layouts.setdefault(keys, Layouts(self, keys))


class KnownOrigin:
    """An origin and its operations."""

    __slots__ = ("dimensions", "id", "operations", "release", "service")

    def __init__(self, id_: int, service: str, dimensions: Dimensions = NO_DIMENSIONS, *, release: str = "") -> None:
        self.id = id_
        self.service = service
        self.release = release
        self.dimensions = dimensions
        self.operations: dict[tuple[str, int], Operation] = {}


def is_long(value: object) -> bool:
    """Whether a value is too long to be shared."""
    return isinstance(value, str) and len(value) > MAX_SHARED_TEXT
