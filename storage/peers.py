"""Whom a span says it talked to: the nodes of a service graph that record no spans of their own.

After Tempo's service graph processor: a database is known by its attributes, another peer by `peer.service`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .records import SpanKind

_DATABASE = ("db.namespace", "db.name", "db.system.name", "db.system")
"""Any of them makes a client's span a database call."""
_PEER = ("peer.service", "service.peer.name")
_DATABASE_NODE = (*_PEER, "server.address", *_DATABASE)
"""What names the database, the first that is there: many databases on one host are one node of it."""
_OTHER_NODE = (*_PEER, "db.name", "db.system.name", "db.system")
_GRAPH_KINDS = frozenset({SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER})


class Peer(NamedTuple):
    """The other side of a span as the span itself names it; an empty name where it does not."""

    name: str = ""
    is_database: bool = False


NOBODY = Peer()


def peer_of(kind: int, attributes: Mapping[str, Any]) -> Peer:
    """The peer that a span of a kind names in its shared attributes."""
    if kind not in _GRAPH_KINDS:
        return NOBODY
    if kind == SpanKind.CLIENT and any(attributes.get(key) for key in _DATABASE):
        return Peer(_first(attributes, _DATABASE_NODE), is_database=True)
    name = _first(attributes, _OTHER_NODE)
    return Peer(name) if name else NOBODY


def _first(attributes: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(attributes[key]) for key in keys if attributes.get(key)), "")
