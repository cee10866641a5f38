"""Stored spans as a query language sees them: plain, decoded only as far as they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .records import SpanKind, StatusCode
from .views import SpanView

_from_json = msgspec.json.decode
_EMPTY: Mapping[str, Any] = {}
_STATUS = {code.value: code.name.lower() for code in StatusCode}
_WRAP = 1 << 64
_SIGN = 1 << 63


class StoredOperation:
    """What spans of one name, kind, resource and scope share.

    Attributes:
        name: of the spans.
        kind: `internal`, `server`, `client`, `producer`, `consumer` or `unspecified`.
        service: as stored with the origin.
        resource: attributes.
        scope: `name`, `version`, `schema_url`, `attributes`.
    """

    __slots__ = ("kind", "name", "resource", "scope", "service")

    def __init__(
        self, name: str, kind: str, service: str, resource: Mapping[str, Any], scope: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.kind = kind
        self.service = service
        self.resource = resource
        self.scope = scope


class StoredSpan:
    """One span. Times and durations in ns; ids are signed 64-bit integers as stored, the trace's are bytes."""

    __slots__ = (
        "_details", "_own", "duration", "operation", "parent_id", "shared", "span_id", "start", "status", "trace_id",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917  # in the order of the columns; keywords would cost half as much again
        self,
        trace_id: bytes,
        span_id: int,
        parent_id: int | None,
        operation: StoredOperation,
        shared: Mapping[str, Any],
        start: int,
        duration: int,
        status: int,
        own: str | Mapping[str, Any] | None,
        details: str | Mapping[str, Any] | None,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.operation = operation
        self.shared = shared
        """The attributes that it shares with others, decoded once for all."""
        self.start = start
        self.duration = duration
        self.status = _STATUS[status]
        self._own = own
        self._details = details

    @property
    def own(self) -> Mapping[str, Any]:
        """The attributes that only it has."""
        own = self._own
        if isinstance(own, str):
            own = self._own = _from_json(own)
        return own or _EMPTY

    @property
    def details(self) -> Mapping[str, Any]:
        """Events, links, status message and more, as FORMAT.md has them."""
        details = self._details
        if isinstance(details, str):
            details = self._details = _from_json(details)
        return details or _EMPTY

    @property
    def end(self) -> int:
        """When it ended."""
        return self.start + self.duration


def hex_id(signed: int) -> str:
    """16 hexadecimal digits of a span id as stored."""
    return f"{signed if signed >= 0 else signed + _WRAP:016x}"


def stored_id(text: str) -> int:
    """A span id as stored, from hexadecimal digits."""
    number = int(text, 16)
    return number if number < _SIGN else number - _WRAP


def from_view(view: SpanView) -> StoredSpan:
    """A span that only a journal has so far."""
    details: dict[str, Any] = {
        "message": view.status_message,
        "remote": view.parent_is_remote,
        "state": view.trace_state,
        "events": [[event["time_ns"], event["name"], event["attributes"]] for event in view.events],
        "links": [[link["trace_id"], link["span_id"], link["attributes"]] for link in view.links],
    }
    return StoredSpan(
        bytes.fromhex(view.trace_id),
        stored_id(view.span_id),
        stored_id(view.parent_span_id) if view.parent_span_id is not None else None,
        StoredOperation(view.name, view.kind, view.service, view.resource, view.scope),
        _EMPTY,
        view.start_ns,
        view.duration_ns,
        StatusCode[view.status.upper()],
        view.attributes,
        {key: value for key, value in details.items() if value},
    )


def kind_name(number: int) -> str:
    """The name of a span kind as numbered by OTLP."""
    return SpanKind(number).name.lower()
