"""Metrics as samples, whoever wrote them: prometheus_client's form of everything."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from prometheus_client.metrics_core import Metric

from ...storage.families import Labels
from .faults import Faults
from .reading import (
    CUMULATIVE,
    TYPES,
    Exemplar,
    FaultError,
    Point,
    Reading,
    add,
    checked_bounds,
    checked_help,
    checked_labels,
    checked_name,
    checked_number,
)

_TRACE_ID, _SPAN_ID = 32, 16  # hex digits
_POLICY_OF_TYPE = {"info": "max", "stateset": "max"}
"""The same info of several processes is one series; a state is on where it is on in one of them."""


class SampleParser:
    """Makes a reading of a metric with its samples, whoever wrote it."""

    def __init__(self, metric: Metric, policy: str | None, collector: str, faults: Faults) -> None:
        self._metric = metric
        self._collector = collector
        self._faults = faults
        self._name = checked_name(metric.name)
        self._type = "unknown" if metric.type == "untyped" else metric.type
        if self._type not in TYPES:
            raise FaultError("invalid", f"{metric.type!r:.100} is no type of metric")
        self._policy = policy or _POLICY_OF_TYPE.get(self._type, "sum")
        self._points: dict[Labels, Point] = {}
        self._cut: set[Labels] = set()

    def reading(self) -> Reading:
        """The whole metric.

        Raises:
            FaultError: nothing of it can be taken.
        """
        if self._type in {"histogram", "gaugehistogram"}:
            bounds = self._histograms()
        else:
            bounds = ()
            for sample in self._metric.samples:
                self._guarded(self._take, sample)
        return Reading(
            self._name,
            self._type,
            checked_help(self._metric.documentation),
            checked_help(self._metric.unit),
            self._policy,
            bounds,
            self._points,
        )

    def _guarded(self, take: Any, *arguments: Any) -> None:
        """What is wrong with one series leaves the others alone."""
        try:
            take(*arguments)
        except FaultError as fault:
            self._faults.count(self._collector, fault.reason, fault)
        except Exception as error:
            self._faults.count(self._collector, "invalid", error)

    # --- one number a series, or a few -------------------------------------------------------------------------------

    def _take(self, sample: Any) -> None:
        suffix = sample.name.removeprefix(self._name) if sample.name.startswith(self._name) else None
        cumulative = self._type in CUMULATIVE
        labels, cut = checked_labels(sample.labels.items())
        if suffix == "_created" and cumulative:
            if (created := nanoseconds(sample.value)) and labels in self._points:
                self._points[labels].created = created
        elif self._type == "summary":
            self._take_summary(sample, suffix, labels)
        elif suffix in {"", {"counter": "_total", "info": "_info"}.get(self._type, "")}:
            point = Point(checked_number(sample.value, cumulative=cumulative))
            if self._type == "counter":
                point.exemplars = exemplars([(0, sample.exemplar)])
            self._put(labels, point, cut=cut)
        else:
            raise FaultError("invalid", f"{sample.name!r:.100} is no sample of the {self._type} {self._name}")

    def _take_summary(self, sample: Any, suffix: str | None, labels: Labels) -> None:
        if suffix == "_count":
            self._points.setdefault(labels, Point(0.0)).value = checked_number(sample.value, cumulative=True)
        elif suffix == "_sum":
            self._points.setdefault(labels, Point(0.0)).sum = checked_number(sample.value)
        elif suffix != "":  # quantiles of several processes can't become one
            raise FaultError("invalid", f"{sample.name!r:.100} is no sample of the summary {self._name}")

    def _put(self, labels: Labels, point: Point, *, cut: bool) -> None:
        """Keep a point. Those whose labels are the same only because they were cut are one series."""
        known = self._points.get(labels)
        if known is None:
            self._points[labels] = point
        elif not (cut or labels in self._cut):
            raise FaultError("duplicate", f"{self._name}{dict(labels)}")
        elif self._type in CUMULATIVE:
            add(known, point)
        if cut:
            self._cut.add(labels)

    # --- histograms --------------------------------------------------------------------------------------------------

    def _histograms(self) -> tuple[float, ...]:
        """Take all series; those with other bounds than the first are left out."""
        found: dict[Labels, _Histogram] = {}
        cut: set[Labels] = set()
        for sample in self._metric.samples:
            self._guarded(self._gather, sample, found, cut)
        bounds: tuple[float, ...] | None = None
        for labels, histogram in found.items():
            try:
                own, point = histogram.point(cumulative=self._type == "histogram")
                bounds = own if bounds is None else bounds
                if own == bounds:
                    self._put(labels, point, cut=labels in cut)
                else:
                    self._faults.count(self._collector, "conflict", f"{self._name} has series with other buckets")
            except FaultError as fault:
                self._faults.count(self._collector, fault.reason, fault)
        return bounds or ()

    def _gather(self, sample: Any, found: dict[Labels, _Histogram], cut: set[Labels]) -> None:
        pairs = [(name, value) for name, value in sample.labels.items() if name != "le"]
        labels, was_cut = checked_labels(pairs)
        if was_cut:
            cut.add(labels)
        histogram = found.setdefault(labels, _Histogram())
        suffix = sample.name.removeprefix(self._name)
        if suffix == "_bucket":
            bound = float(sample.labels["le"])
            if bound in histogram.buckets and not was_cut:
                raise FaultError("duplicate", f"{sample.name}{sample.labels}")
            before = histogram.buckets.get(bound, 0)
            histogram.buckets[bound] = before + checked_number(sample.value, cumulative=True)
            histogram.exemplars.append((bound, sample.exemplar))
        elif suffix in {"_count", "_gcount"}:
            histogram.count = (histogram.count or 0) + checked_number(sample.value, cumulative=True)
        elif suffix in {"_sum", "_gsum"}:
            histogram.sum += checked_number(sample.value)
        elif suffix == "_created":
            histogram.created = nanoseconds(sample.value)
        else:
            raise FaultError("invalid", f"{sample.name!r:.100} is no sample of the histogram {self._name}")


class _Histogram:
    """The samples of one series of a histogram."""

    def __init__(self) -> None:
        self.buckets: dict[float, float] = {}
        """Cumulative, by upper bound."""
        self.exemplars: list[tuple[float, Any]] = []
        self.count: float | None = None
        self.sum = 0.0
        self.created = 0

    def point(self, *, cumulative: bool) -> tuple[tuple[float, ...], Point]:
        """Bounds, and the series with buckets that aren't cumulative.

        Raises:
            FaultError: it is none.
        """
        if any(map(math.isnan, self.buckets)):
            raise FaultError("invalid", "a bucket's bound is no number")
        bounds = checked_bounds(sorted(bound for bound in self.buckets if bound != math.inf))
        below = [self.buckets[bound] for bound in bounds]
        total = self.buckets.get(math.inf, self.count)
        if total is None:
            raise FaultError("invalid", "a histogram has no +Inf bucket")
        counts = [now - before for before, now in zip([0, *below], [*below, total], strict=True)]
        if min(counts) < 0 and cumulative:
            raise FaultError("invalid", "the buckets of a histogram fall")
        places = {bound: place for place, bound in enumerate((*bounds, math.inf))}
        found = exemplars([(places[bound], each) for bound, each in self.exemplars])
        return bounds, Point(total, self.sum, counts, self.created, found)


def exemplars(found: Iterable[tuple[int, Any]]) -> list[Exemplar] | None:
    """Those that name a span, as `trace_id` and `span_id` in hex."""
    kept = []
    for bucket, exemplar in found:
        try:
            trace_id, span_id = exemplar.labels["trace_id"], exemplar.labels["span_id"]
            if len(trace_id) == _TRACE_ID and len(span_id) == _SPAN_ID:
                time = nanoseconds(exemplar.timestamp)
                kept.append(Exemplar(bucket, bytes.fromhex(trace_id), int(span_id, 16), float(exemplar.value), time))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return kept or None


def nanoseconds(seconds: Any) -> int:
    """0 where it is no time."""
    try:
        return max(0, int(float(seconds) * 1e9))
    except (TypeError, ValueError, OverflowError):
        return 0
