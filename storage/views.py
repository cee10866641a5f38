"""What reads of the store return: plain frozen values, with no reference to SQL or to OpenTelemetry.

Times are integers of nanoseconds since the Unix epoch, durations integers of nanoseconds,
ids lower-case hex text. An exporter turns them into its own wire form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

T = TypeVar("T")


class SpanView(msgspec.Struct, frozen=True):
    """One retained span."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    service: str
    name: str
    kind: str
    """`internal`, `server`, `client`, `producer` or `consumer`; `unspecified` where the recorder gave another."""
    start_ns: int
    duration_ns: int
    status: str
    """`unset`, `ok` or `error`."""
    status_message: str | None
    attributes: Mapping[str, Any]
    resource: Mapping[str, Any]
    scope: Mapping[str, Any]
    """`name`, `version`, `schema_url` and `attributes`; empty where unset."""
    events: Sequence[Mapping[str, Any]] = ()
    """Each `{"time_ns": int, "name": str, "attributes": {...}}`."""
    links: Sequence[Mapping[str, Any]] = ()
    """Each `{"trace_id": str, "span_id": str, "attributes": {...}}`."""
    trace_state: str | None = None
    parent_is_remote: bool = False
    dropped: Mapping[str, int] = msgspec.field(default_factory=dict)
    """Attributes, events and links dropped or truncated before recording, by what they were."""


class ErrorView(msgspec.Struct, frozen=True):
    """One retained error event: an exception, once, however many spans it passed through."""

    id: str
    time_ns: int
    service: str
    type: str
    message: str
    stacktrace: str | None
    operational: bool
    """True where the request was answered with a status under 500, or the error says so itself."""
    trace_id: str
    span_id: str
    operation: str
    """Name of the span that recorded it; of the request once that has ended."""
    attributes: Mapping[str, Any]
    """Context: of the semantic conventions' HTTP attributes those that the request carries."""


class ErrorStats(msgspec.Struct, frozen=True):
    """Counts of the retained, not cleared errors."""

    total: int
    last_hour: int
    last_24_hours: int
    operational: int
    critical: int


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some results, and the cursor that asks for those after them (`None` at the end)."""

    items: Sequence[T]
    cursor: str | None
    degraded: bool = False
    """True where the database could not be read and the journals answered instead."""


class OperationSummary(msgspec.Struct, frozen=True):
    """Performance of one operation (service, span name, span kind) over a window."""

    service: str
    name: str
    kind: str
    count: int
    error_count: int
    slow_count: int
    avg_ns: float
    min_ns: int
    max_ns: int
    p50_ns: float
    p95_ns: float
    p99_ns: float
    last_ns: int
    """When the latest of them ended."""


class Exemplar(msgspec.Struct, frozen=True):
    """A stored span that stands for others in its bucket."""

    trace_id: str
    span_id: str
    value: float
    time_ns: int


class Series(msgspec.Struct, frozen=True, gc=False):
    """One committed series. `buckets` are cumulative counts per bound, without the `+Inf` one."""

    labels: tuple[tuple[str, str], ...]
    value: float
    """The counter's or gauge's value; for a histogram or summary its count."""
    sum: float = 0.0
    buckets: tuple[float, ...] = ()
    start_ns: int = 0
    """When it was first counted, ever; 0 where that means nothing (gauges)."""
    exemplars: Mapping[int, Exemplar] = msgspec.field(default_factory=dict)
    """By the number of the bucket, the one past the last bound being `+Inf`; a counter's is number 0."""
    version: int = 0
    """Number of the commit that changed it last: while it stays, so does all of the above."""


class Family(msgspec.Struct, frozen=True):
    """All series of one metric."""

    name: str
    """As exposed, without `_total`, `_bucket` or `_info`."""
    type: str
    """`counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset` or `unknown`."""
    help: str
    unit: str
    bounds: tuple[float, ...]
    """Upper bounds of a histogram's buckets, in `unit`, without `+Inf`."""
    series: Sequence[Series]


class Totals(msgspec.Struct, frozen=True):
    """A committed state of all totals: the same for every process that reads it."""

    families: Sequence[Family]
    commit: int
    """Number of the writer's commit that this state is of; it only grows."""
    stale: bool = False
    """True where the database could not be read just now and this is the last state, still the newest."""


class Accounting(msgspec.Struct, frozen=True):
    """accepted = stored + pending + the sum of dropped, checkable at any time."""

    accepted: int
    stored: int
    pending: int
    dropped: Mapping[str, int]
    """By reason; every reason that exists is listed, also at 0."""
    truncated: int
    """Attribute values shortened or replaced because they were too large or not encodable."""

    @property
    def balanced(self) -> bool:
        """Whether the equation holds."""
        return self.accepted == self.stored + self.pending + sum(self.dropped.values())


class Degradation(msgspec.Struct, frozen=True):
    """One thing that does not work as it should, in words that an operator can act on."""

    part: str
    """`journal`, `aggregates`, `history` or `writer`."""
    reason: str


class Status(msgspec.Struct, frozen=True):
    """What the store is doing, as any process of the data directory sees it."""

    degraded: Sequence[Degradation]
    writer_pid: int | None
    """The process that holds the writer's role; `None` while nobody does."""
    lag_seconds: float
    """Age of the oldest record that is journaled and not yet stored; 0 when there is none."""
    last_commit_ns: int
    journal_bytes: int
    history_bytes: int
    partitions: int
    journal_limit_bytes: int = 0
    """`journal_max_bytes` as the process that answers has it."""
    history_limit_bytes: int = 0
    """`history_max_bytes`, likewise."""


class Command(msgspec.Struct, frozen=True):
    """What became of a state change that was asked for."""

    id: str
    applied: bool
    """False where the writer had not got to it within the bound: it will."""
    result: Mapping[str, Any]


class SpanFilter(msgspec.Struct, frozen=True):
    """What spans to find; `None` means any. Times and durations in ns."""

    service: str | None = None
    name: str | None = None
    kind: str | None = None
    status: str | None = None
    min_duration_ns: int | None = None
    max_duration_ns: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    trace_id: str | None = None
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)


class ErrorFilter(msgspec.Struct, frozen=True):
    """What errors to find; `cleared_ns`: those up to then are hidden."""

    service: str | None = None
    type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    cleared_ns: int = 0

    def after(self, cleared_ns: int) -> ErrorFilter:
        """The same, for errors that came after a time."""
        return msgspec.structs.replace(self, cleared_ns=cleared_ns)
