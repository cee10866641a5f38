"""The documents that `/monitoring` answers with, built from the store's views.

Times are RFC 3339 in UTC with nanoseconds, durations milliseconds, ids lower-case hex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.responses import Response

from ..storage.views import (
    Accounting,
    Page,
    SpanView,
)

S = TypeVar("S", bound=msgspec.Struct)


class Json(Response):
    """A document as JSON. Never cached: the next one may differ."""

    media_type = "application/json"

    def __init__(self, document: msgspec.Struct, status_code: int = 200) -> None:
        super().__init__(document, status_code, {"Cache-Control": "no-store"})

    def render(self, content: Any) -> bytes:
        """The document's bytes."""
        return encode(content)


def encode(document: msgspec.Struct) -> bytes:
    """A document as JSON."""
    return msgspec.json.encode(document, enc_hook=_plain)


def _plain(value: Any) -> Any:
    """What msgspec doesn't know: mappings of other kinds; the rest as text, never an error."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def rfc3339(time_ns: int) -> str:
    """A time with all nine digits, so that it can be given back as `since` or `until`."""
    seconds, fraction = divmod(time_ns, 10**9)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def ms(duration_ns: float) -> float:
    """Nanoseconds as milliseconds."""
    return duration_ns / 1e6


def like(cls: type[S], view: object, **changed: Any) -> S:
    """A document with the view's fields of the same names, and those that are changed."""
    same = {name: getattr(view, name) for name in cls.__struct_fields__ if name not in changed}
    return cls(**same, **changed)


class Event(msgspec.Struct, frozen=True):
    """Something that happened during a span."""

    time: str
    name: str
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Event:
        """From the store's view."""
        return cls(rfc3339(event["time_ns"]), event["name"], event.get("attributes") or {})


class Span(msgspec.Struct, frozen=True):
    """One retained span. `kind` and `status` in lower case, as the filters take them."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    name: str
    kind: str
    start: str
    end: str
    duration_ms: float
    status: str
    status_message: str | None
    attributes: Mapping[str, Any]
    events: Sequence[Event]
    links: Sequence[Mapping[str, Any]]
    resource: Mapping[str, Any]
    scope: Mapping[str, Any]
    trace_state: str | None
    parent_is_remote: bool
    dropped: Mapping[str, int]

    @classmethod
    def of(cls, span: SpanView) -> Span:
        """From the store's view."""
        return cls(**span_fields(span))


def span_fields(span: SpanView) -> dict[str, Any]:
    """The fields of `Span`."""
    changed = {
        "start": rfc3339(span.start_ns),
        "end": rfc3339(span.start_ns + span.duration_ns),
        "duration_ms": ms(span.duration_ns),
        "events": [Event.of(event) for event in span.events],
    }
    return {name: getattr(span, name) for name in Span.__struct_fields__ if name not in changed} | changed


class Spans(msgspec.Struct, frozen=True):
    """A page of spans, newest first. `next` is the cursor of the page after it."""

    spans: Sequence[Span]
    next: str | None
    degraded: bool

    @classmethod
    def of(cls, page: Page[SpanView]) -> Spans:
        """From the store's view."""
        return cls([Span.of(span) for span in page.items], page.cursor, page.degraded)


class Account(msgspec.Struct, frozen=True):
    """`balanced` says that accepted = stored + pending + all dropped."""

    accepted: int
    stored: int
    pending: int
    dropped: Mapping[str, int]
    truncated: int
    balanced: bool

    @classmethod
    def of(cls, found: Accounting) -> Account:
        """From the store's view."""
        return like(cls, found)
