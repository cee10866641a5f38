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
    trace_id: str | None
    """`None` where it happened outside of a trace, as `span_id` is then."""
    span_id: str | None
    operation: str
    """Name of the span, or logger, that recorded it; of the request once that has ended."""
    attributes: Mapping[str, Any]
    """Context: what the recorder gave, and how the request was called and answered (see `request_context.py`)."""
    release: str | None = None
    """`service.version`."""
    group: str | None = None
    """Id of its group, 16 hex digits."""


class Release(msgspec.Struct, frozen=True):
    """How often an error group has been met in a release."""

    release: str
    """`service.version`; empty where there is none."""
    count: int
    first_seen_ns: int
    last_seen_ns: int


class HourCount(msgspec.Struct, frozen=True):
    """How often an error group has been met in an hour; hours without are left out."""

    start_ns: int
    count: int


class Sample(msgspec.Struct, frozen=True):
    """An error of a group, by the span that it happened in."""

    trace_id: str
    span_id: str
    time_ns: int


class ErrorGroup(msgspec.Struct, frozen=True):
    """All errors with one fingerprint: one bug, as far as can be told."""

    id: str
    """16 hex digits; zeros for what is past the limit of groups."""
    version: int
    """Of the way that the fingerprint was made."""
    type: str
    message: str
    """Of the newest."""
    culprit: str
    """Module and function that it came from; empty where there was no stack trace."""
    services: Sequence[str]
    first_seen_ns: int
    last_seen_ns: int
    count: int
    operational: bool
    """Of the newest."""
    state: str
    """`open`, `resolved` or `muted`."""
    state_changed_ns: int | None
    """When a command gave it its state."""
    regressions: int
    """How often it came back after it had been resolved."""
    regressed_ns: int | None
    """When that was last, while it is open since then."""
    releases: Sequence[Release]
    """The newest, by when they were last seen."""
    samples: Sequence[Sample]
    """The first and the newest, newest first."""
    hours: Sequence[HourCount]
    """Of the last hours that it was met in, 168 at most; oldest first."""


class GroupFilter(msgspec.Struct, frozen=True):
    """What groups to find; `None` means any. Of a time: those whose first to last error overlaps it."""

    service: str | None = None
    type: str | None = None
    state: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None


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
    truncated: bool = False
    """True where a limit cut the results and no cursor leads to the others."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What spans had in common with a stopwatch: counts and durations, quantiles within 1.083 %."""

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


class OperationSummary(Figures, frozen=True, kw_only=True):
    """Performance of one group of spans over some minutes. What the group is not told apart by is `None`."""

    service: str
    name: str | None
    kind: str | None
    release: str | None
    """`service.version`; empty where spans have none."""


class Point(msgspec.Struct, frozen=True):
    """One step of a time series; `figures` is `None` where nothing ended in it."""

    start_ns: int
    figures: Figures | None


class OperationSeries(msgspec.Struct, frozen=True):
    """Performance of one group of spans, step by step. What the group is not told apart by is `None`."""

    service: str
    name: str | None
    kind: str | None
    release: str | None
    count: int
    points: Sequence[Point]


class Window(msgspec.Struct, frozen=True):
    """Times from `since_ns` on, before `until_ns`."""

    since_ns: int
    until_ns: int


class Summaries(msgspec.Struct, frozen=True):
    """Groups of spans, busiest first."""

    counted: Window
    """The whole minutes in which the counted spans ended."""
    groups: Sequence[OperationSummary]
    total: int
    """How many groups there are, with those past the limit."""


class SeriesSet(msgspec.Struct, frozen=True):
    """Time series of groups of spans, busiest first."""

    counted: Window
    step_ns: int
    series: Sequence[OperationSeries]
    total: int
    """How many groups there are, with those past the limit."""


class PerformanceFilter(msgspec.Struct, frozen=True):
    """Which spans to sum up; `None` means any."""

    service: str | None = None
    name: str | None = None
    kind: str | None = None
    release: str | None = None


class Interval(msgspec.Struct, frozen=True):
    """Where a figure lies with a confidence; `None` where there is too little to bound it by. In ns."""

    low_ns: float | None
    high_ns: float | None


class Shift(msgspec.Struct, frozen=True):
    """How far the 95th percentile of the durations has moved from the baseline."""

    baseline: Interval
    """Of the baseline's percentile."""
    current: Interval
    shift: Interval
    """Of the difference, current less baseline."""
    verdict: str
    """`slower`, `faster`, `unclear` (the interval has 0 in it) or `too_few` (it has no bound)."""


class OperationChange(msgspec.Struct, frozen=True):
    """One operation before and after; `None` on the side where it has no span."""

    service: str
    name: str
    kind: str
    baseline: Figures | None
    current: Figures | None
    shift: Shift | None


class ErrorKind(msgspec.Struct, frozen=True):
    """Retained errors of one type in one operation."""

    service: str
    type: str
    operation: str
    count: int
    first_ns: int
    last_ns: int
    trace_id: str
    """Of one of them."""


class Comparison(msgspec.Struct, frozen=True):
    """Two windows or releases beside each other."""

    baseline: Window
    """The whole minutes that were counted."""
    current: Window
    operations: Sequence[OperationChange]
    """Busiest first."""
    total: int
    new_errors: Sequence[ErrorKind]
    """In the current one only, most frequent first."""
    gone_errors: Sequence[ErrorKind]
    """In the baseline only, most frequent first."""
    degraded: bool = False
    """True where a partition could not be read."""


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
    """`counter`, `barecounter` (a counter that has no `_total`), `gauge`, `histogram`, `gaugehistogram`, `summary`,
    `info`, `stateset` or `unknown`."""
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


class TagFilter(msgspec.Struct, frozen=True):
    """Which attributes to list, of spans in which time (ns)."""

    scope: str | None = None
    """`resource`, `span`, `event`, `link` or `instrumentation`; None: all, or an intrinsic of that name."""
    name: str = ""
    since_ns: int = 0
    until_ns: int = (1 << 63) - 1
    limit: int = 5000


class TagNames(msgspec.Struct, frozen=True):
    """Names of attributes by scope, sorted."""

    scopes: Mapping[str, Sequence[str]]
    degraded: bool = False


class ErrorFilter(msgspec.Struct, frozen=True):
    """What errors to find; `cleared_ns`: those up to then are hidden."""

    service: str | None = None
    type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    group: str | None = None
    operational: bool | None = None
    groups: Sequence[str] | None = None
    """One of these groups: those in a state that is asked for."""
    cleared_ns: int = 0

    def after(self, cleared_ns: int) -> ErrorFilter:
        """The same, for errors that came after a time."""
        return msgspec.structs.replace(self, cleared_ns=cleared_ns)
