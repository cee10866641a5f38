"""The vocabulary: what a journal holds. Layouts are msgpack arrays, documented in FORMAT.md."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import msgspec

Attributes = dict[str, Any]
"""Values are str, bool, int, float, bytes, None, lists and dicts of these."""


class FrameType(IntEnum):
    """What a journal frame carries."""

    DEFINITION = 1
    """An `Origin` or a `Template` by its number: before the first frame that refers to it, twice a segment."""
    SPAN = 2
    COMMAND = 3
    """A state change that was asked for."""
    METRICS = 4
    """A `MetricsRecord`: what an application's own metrics have changed by."""
    LOG = 5
    """A `LogRecord`: for now, only what tells of an exception."""
    SEAL = 255
    """Nothing follows in this segment."""


class SpanKind(IntEnum):
    """As numbered by OTLP."""

    UNSPECIFIED = 0
    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class StatusCode(IntEnum):
    """As numbered by OTLP."""

    UNSET = 0
    OK = 1
    ERROR = 2


REMOTE_KNOWN = 0x100
"""Bit of `SpanRecord.flags`: the next one is meant (OTLP's SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE)."""
REMOTE_PARENT = 0x200
"""Bit of `SpanRecord.flags`: the parent is in another process (OTLP's SPAN_FLAGS_CONTEXT_IS_REMOTE)."""


class Origin(msgspec.Struct, array_like=True, frozen=True):
    """Who recorded: a resource and an instrumentation scope."""

    resource: Attributes
    resource_schema_url: str = ""
    scope_name: str = ""
    scope_version: str = ""
    scope_schema_url: str = ""
    scope_attributes: Attributes = {}

    @property
    def service(self) -> str:
        """`service.name`, or what the conventions give where it is missing."""
        name = self.resource.get("service.name")
        return name if isinstance(name, str) and name else "unknown_service"

    @property
    def release(self) -> str:
        """`service.version`; empty where it is missing."""
        return release_of(self.resource)


def release_of(resource: Mapping[str, Any]) -> str:
    """The release that a resource's attributes name, cut where it is too long to be one; empty where they don't."""
    version = resource.get("service.version", "")
    return version[:MAX_RELEASE] if isinstance(version, str) else str(version)[:MAX_RELEASE]


MAX_RELEASE = 128
"""Characters: more than a version with a commit's hash and a build's name has."""


class Event(msgspec.Struct, array_like=True, frozen=True):
    """A span event."""

    time: int
    name: str
    attributes: Attributes


class Link(msgspec.Struct, array_like=True, frozen=True):
    """A span link."""

    trace_id: bytes
    span_id: int
    attributes: Attributes


class Extra(msgspec.Struct, array_like=True, frozen=True):
    """What most spans lack."""

    trace_state: str | None = None
    events: list[Event] = []
    links: list[Link] = []
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0
    truncated: int = 0
    """Values that were shortened or replaced before journaling."""


class SpanRecord(msgspec.Struct, array_like=True, gc=False):
    """A finished span. Times in ns since the epoch; `parent_id` 0 means none; `origin` refers to a definition."""

    trace_id: bytes
    span_id: int
    parent_id: int
    flags: int
    origin: int
    name: str
    kind: int
    start: int
    end: int
    status: int
    message: str | None
    attributes: Attributes
    extra: Extra | None


class Template(msgspec.Struct, array_like=True, frozen=True):
    """What spans have in common that differ only in ids, times and values: the definition of a `CompactSpan`."""

    origin: Origin
    name: str
    kind: int
    keys: list[str]
    """Of the attributes, in the order of the values."""


class CompactSpan(msgspec.Struct, array_like=True, gc=False):
    """A finished span without events and links, by its template. Told from a `SpanRecord` by its length."""

    trace_id: bytes
    span_id: int
    parent_id: int
    flags: int
    template: int
    start: int
    end: int
    status: int
    message: str | None
    values: list[Any]


COMPACT = b"\x9a"
"""What a payload with a `CompactSpan` begins with: a msgpack array of ten."""


class LogRecord(msgspec.Struct, array_like=True, gc=False):
    """A log record. Outside of a span the trace id is empty and the span id 0; `origin` refers to a definition."""

    trace_id: bytes
    span_id: int
    flags: int
    origin: int
    """Of the resource; the scope is the logger."""
    time: int
    severity: int
    """As numbered by OTLP; 0 where unknown."""
    logger: str
    event: str
    """Its name, where it is an event; else empty."""
    body: str | None
    attributes: Attributes


CLEAR_ERRORS, RESOLVE, MUTE, REOPEN = "clear_errors", "resolve_group", "mute_group", "reopen_group"


class Command(msgspec.Struct, array_like=True, frozen=True):
    """A state change by its name; those of an error group have its id as `arguments["group"]`."""

    id: str
    name: str
    time: int
    """When it was asked for (ns)."""
    arguments: Attributes = {}


class MetricPoint(msgspec.Struct, array_like=True, gc=False):
    """One series in a `MetricsRecord`: what was added since the record before, or a gauge's value as it is now."""

    labels: list[tuple[str, str]]
    """In exposition order, names as exposed."""
    value: float = 0
    """Added to a counter, or to a histogram's or summary's count; a gauge's value."""
    sum: float = 0.0
    buckets: list[float] | None = None
    """Added to each bucket of a histogram, not cumulative, `+Inf` last."""
    created: int = 0
    """When the series began in its process (ns); 0 where nobody knows."""
    exemplars: list[tuple[int, bytes, int, float, int]] | None = None
    """(bucket, trace id, span id, value, time in ns); bucket 0 for a counter."""


class MetricFamily(msgspec.Struct, array_like=True):
    """One metric in a `MetricsRecord`."""

    name: str
    """As exposed, without `_total`, `_bucket` or `_info`."""
    type: str
    """`counter`, `barecounter` (a counter that has no `_total`), `gauge`, `histogram`, `gaugehistogram`, `summary`,
    `info`, `stateset` or `unknown`."""
    help: str
    unit: str
    policy: str
    """How workers become one: `sum`, `max`, `min`, `mostrecent`, or `worker` for a series each, which goes with it."""
    bounds: list[float]
    """Of a histogram, without `+Inf`."""
    points: list[MetricPoint]
    """Those that have changed."""


class MetricsRecord(msgspec.Struct, array_like=True):
    """What an application's metrics have changed by since its record before; counters as deltas, gauges as they are."""

    time: int
    families: list[MetricFamily]
    gone: list[tuple[str, list[tuple[str, str]]]] = []
    """Gauges, by metric and labels, that the process no longer has."""
