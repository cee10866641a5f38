"""The documents that `/monitoring/performance` answers with, built from the store's views.

Times are RFC 3339 in UTC with nanoseconds, durations milliseconds. Percentiles are within 1.083 % of the exact ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ..storage import OperationSummary, Page, SpanView, views
from ..storage.performance import CONFIDENCE
from .responses import Span, ms, rfc3339

_MINUTE_NS = 60e9
_DURATIONS = ("avg", "min", "max", "p50", "p95", "p99")


class Window(msgspec.Struct, frozen=True):
    """Times from `since` on, before `until`."""

    since: str
    until: str

    @classmethod
    def of(cls, found: views.Window) -> Window:
        """From the store's view."""
        return cls(rfc3339(found.since_ns), rfc3339(found.until_ns))


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts and durations of spans. `error_rate` is from 0 to 1; slow is what passed the setting `slow_ms`."""

    count: int
    error_count: int
    error_rate: float
    avg_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    slow_count: int
    requests_per_minute: float
    last_request: str

    @classmethod
    def of(cls, found: views.Figures, minutes: float) -> Figures:
        """From the store's view, of a number of minutes."""
        return cls(**_figures(found, minutes))


class Operation(Figures, frozen=True, kw_only=True):
    """Performance of one operation, service or release; what it isn't told apart by is null."""

    service: str
    name: str | None
    kind: str | None
    release: str | None

    @classmethod
    def of_group(cls, found: OperationSummary, minutes: float) -> Operation:
        """From the store's view."""
        group = {name: getattr(found, name) for name in ("service", "name", "kind", "release")}
        return cls(**_figures(found, minutes), **group)


class Performance(msgspec.Struct, frozen=True):
    """Operations, busiest first, and the newest requests that were slow.

    `window` is what was asked for. `counted` is what `operations` are of: the spans that ended in the whole minutes
    that the window touches. `total` is how many operations there are, with those past the limit.
    """

    window: Window
    counted: Window
    operations: Sequence[Operation]
    total: int
    slow_requests: Sequence[Span]
    degraded: bool

    @classmethod
    def of(cls, asked: views.Window, found: views.Summaries, slow: Page[SpanView]) -> Performance:
        """From the store's views."""
        minutes = _minutes(found.counted)
        return cls(
            Window.of(asked),
            Window.of(found.counted),
            [Operation.of_group(each, minutes) for each in found.groups],
            found.total,
            [Span.of(span) for span in slow.items],
            slow.degraded,
        )


class Point(msgspec.Struct, frozen=True):
    """One step, from `time` on; `figures` is null where nothing ended in it."""

    time: str
    figures: Figures | None


class Series(msgspec.Struct, frozen=True):
    """One operation, service or release, step by step; what it isn't told apart by is null."""

    service: str
    name: str | None
    kind: str | None
    release: str | None
    count: int
    points: Sequence[Point]

    @classmethod
    def of(cls, found: views.OperationSeries, step_ns: int) -> Series:
        """From the store's view."""
        points = [_point(point, step_ns) for point in found.points]
        return cls(found.service, found.name, found.kind, found.release, found.count, points)


class PerformanceSeries(msgspec.Struct, frozen=True):
    """Time series, busiest first. Steps begin at multiples of their length; `counted` is the window in whole steps."""

    window: Window
    counted: Window
    step_seconds: int
    series: Sequence[Series]
    total: int

    @classmethod
    def of(cls, asked: views.Window, found: views.SeriesSet) -> PerformanceSeries:
        """From the store's views."""
        series = [Series.of(each, found.step_ns) for each in found.series]
        return cls(Window.of(asked), Window.of(found.counted), found.step_ns // 10**9, series, found.total)


class Interval(msgspec.Struct, frozen=True):
    """From `low_ms` to `high_ms`; null where there is too little to bound it by."""

    low_ms: float | None
    high_ms: float | None

    @classmethod
    def of(cls, found: views.Interval) -> Interval:
        """From the store's view."""
        low, high = (None if end is None else ms(end) for end in (found.low_ns, found.high_ns))
        return cls(low, high)


class Shift(msgspec.Struct, frozen=True):
    """How far p95 has moved from the baseline to the current side.

    With `confidence` the true shift is in `shift`, as far as requests are independent of each other; `verdict` is
    `slower` or `faster` where it has no 0 in it, `unclear` where it has, `too_few` where too few spans bound it.
    `baseline` and `current` are where p95 itself is. By order statistics (Hahn and Meeker, Statistical Intervals, 5.2).
    """

    ms: float
    ratio: float | None
    confidence: float
    shift: Interval
    baseline: Interval
    current: Interval
    verdict: str


class Change(msgspec.Struct, frozen=True):
    """One operation on both sides; null where it has no span."""

    service: str
    name: str
    kind: str
    baseline: Figures | None
    current: Figures | None
    p95_shift: Shift | None

    @classmethod
    def of(cls, found: views.OperationChange, minutes: tuple[float, float]) -> Change:
        """From the store's view."""
        baseline, current = (
            None if side is None else Figures.of(side, length)
            for side, length in zip((found.baseline, found.current), minutes, strict=True)
        )
        return cls(found.service, found.name, found.kind, baseline, current, _shift(found))


class ErrorKind(msgspec.Struct, frozen=True):
    """Retained errors of one type in one operation; `trace_id` is one of their traces."""

    service: str
    type: str
    operation: str
    count: int
    first: str
    last: str
    trace_id: str

    @classmethod
    def of(cls, found: views.ErrorKind) -> ErrorKind:
        """From the store's view."""
        times = rfc3339(found.first_ns), rfc3339(found.last_ns)
        return cls(found.service, found.type, found.operation, found.count, *times, found.trace_id)


class Side(msgspec.Struct, frozen=True):
    """What was counted on one side; `release` is null where it is of all releases."""

    counted: Window
    release: str | None


class Comparison(msgspec.Struct, frozen=True):
    """Two windows or releases: operations on both, and the kinds of errors that only one of them has.

    Errors are of the retained history, in the windows as given; operations of the whole minutes that they touch.
    """

    baseline: Side
    current: Side
    operations: Sequence[Change]
    total: int
    new_errors: Sequence[ErrorKind]
    gone_errors: Sequence[ErrorKind]
    degraded: bool

    @classmethod
    def of(cls, found: views.Comparison, releases: tuple[str | None, str | None]) -> Comparison:
        """From the store's view."""
        minutes = _minutes(found.baseline), _minutes(found.current)
        return cls(
            Side(Window.of(found.baseline), releases[0]),
            Side(Window.of(found.current), releases[1]),
            [Change.of(each, minutes) for each in found.operations],
            found.total,
            [ErrorKind.of(each) for each in found.new_errors],
            [ErrorKind.of(each) for each in found.gone_errors],
            found.degraded,
        )


def _figures(found: views.Figures, minutes: float) -> dict[str, Any]:
    """The fields of `Figures`."""
    durations = {f"{each}_ms": ms(getattr(found, f"{each}_ns")) for each in _DURATIONS}
    return {
        "count": found.count,
        "error_count": found.error_count,
        "error_rate": found.error_count / found.count if found.count else 0.0,
        "slow_count": found.slow_count,
        "requests_per_minute": found.count / minutes,
        "last_request": rfc3339(found.last_ns),
        **durations,
    }


def _minutes(counted: views.Window) -> float:
    """How long a counted window is, in minutes: up to now where it isn't over."""
    until_ns = min(counted.until_ns, max(time.time_ns(), counted.since_ns + 10**9))
    return (until_ns - counted.since_ns) / _MINUTE_NS


def _point(point: views.Point, step_ns: int) -> Point:
    minutes = _minutes(views.Window(point.start_ns, point.start_ns + step_ns))
    return Point(rfc3339(point.start_ns), Figures.of(point.figures, minutes) if point.figures else None)


def _shift(found: views.OperationChange) -> Shift | None:
    if found.shift is None or found.baseline is None or found.current is None:
        return None
    before, after = found.baseline.p95_ns, found.current.p95_ns
    return Shift(
        ms(after - before),
        after / before if before else None,
        CONFIDENCE,
        Interval.of(found.shift.shift),
        Interval.of(found.shift.baseline),
        Interval.of(found.shift.current),
        found.shift.verdict,
    )
