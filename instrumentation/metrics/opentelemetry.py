"""Metrics made with OpenTelemetry's API: a reader of the SDK that gives them under Prometheus's names."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
    export,
)
from opentelemetry.sdk.metrics import _Gauge as Gauge
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from ...storage.families import Labels
from . import exponential
from .faults import Faults
from .names import Names
from .reading import (
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
from .sources import Collector

COLLECTOR = "opentelemetry"
_INSTRUMENTS = (Counter, UpDownCounter, Histogram, Gauge, ObservableCounter, ObservableUpDownCounter, ObservableGauge)
_PATIENCE_MS = 10_000.0
_OF_ONE_PROCESS = ("service.instance.id", "host.pid", "process.")
_SAME_IN_ALL = "process.runtime."


class RetainingMetricReader(MetricReader):
    """A reader that is asked, by the recorder; cumulative, as Prometheus has it.

    Args:
        limit: attribute sets of one instrument; the SDK adds up what is beyond.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            preferred_temporality=dict.fromkeys(_INSTRUMENTS, AggregationTemporality.CUMULATIVE),
            cardinality_limits=dict.fromkeys(_INSTRUMENTS, limit),
        )
        self._data: MetricsData | None = None
        self.on_flush: Callable[[float], object] = lambda _seconds: None
        """Journals what there is; told how long it may wait."""

    def read(self) -> MetricsData | None:
        """All instruments as they are now; runs the callbacks of the observable ones."""
        self._data = None
        self.collect(_PATIENCE_MS)
        data, self._data = self._data, None
        return data

    def read_synchronous(self) -> MetricsData | None:
        """The same without callbacks, so that nobody else's code runs. None where the SDK is other than known."""
        try:
            storages = self.consumer._reader_storages  # nothing public leaves callbacks out
            found: MetricsData | None = storages[self].collect()
        except (AttributeError, KeyError, TypeError):
            return None
        return found

    @property
    def consumer(self) -> Any:
        """What in the SDK the measurements of the reader's provider go through."""
        return getattr(self._collect, "__self__", None)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_kwargs: Any) -> None:  # noqa: ARG002  # the SDK's
        self._data = metrics_data

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Journal what there is."""
        return bool(self.on_flush(timeout_millis / 1000))

    def shutdown(self, timeout_millis: float = 30_000, **_kwargs: Any) -> None:
        """Journal what there is; the recorder goes on with everything else."""
        self.on_flush(min(1.0, timeout_millis / 1000))


def attach(reader: RetainingMetricReader, provider: object, resource: Resource) -> MeterProvider | None:
    """Give a reader to the application's provider, or to one of our own where it has none.

    Returns:
        The provider to be set for the process; None where there is one already.

    Raises:
        TypeError: a provider is set that isn't the SDK's, or an SDK's that takes no readers any more.
    """
    if isinstance(provider, MeterProvider):
        if not hasattr(provider, "add_metric_reader"):
            raise TypeError("this version of the OpenTelemetry SDK takes no reader for a MeterProvider that is set")
        provider.add_metric_reader(reader)
        return None
    if type(provider).__module__.startswith("opentelemetry.") and not isinstance(provider, NoOpMeterProvider):
        return MeterProvider([reader], resource)  # it is the API's own, which stands for "none yet"
    raise TypeError(f"the MeterProvider is a {type(provider).__qualname__}, not the SDK's")


class OpenTelemetrySource:
    """The instruments of one provider, and the resource as `target_info`.

    Args:
        reader: attached to the provider.
        resource: of the provider.
        names: how names are translated.
        scope_info: whether series are labelled with their scope.
    """

    def __init__(self, reader: RetainingMetricReader, resource: Resource, names: Names, *, scope_info: bool) -> None:
        self.reader = reader
        self._convert = Converter(names, scope_info=scope_info)
        self._target = _Target(resource, names)
        self._busy = False
        self.is_additive = True

    def collectors(self) -> Sequence[Collector]:
        """The resource; all instruments; and those without callbacks, for when a callback hangs."""
        everything = _Instruments((COLLECTOR, id(self)), is_safe=False, read=self.read)
        synchronous = _Instruments(("synchronous", id(self)), is_safe=True, read=self.read_while_busy)
        return [self._target, everything, synchronous]

    def read_at_fork(self, faults: Faults) -> Iterator[Reading]:
        """Instruments without callbacks."""
        return self._convert(self.reader.read_synchronous(), faults)

    def read(self, faults: Faults) -> Iterator[Reading]:
        """All instruments."""
        self._busy = True
        data = self.reader.read()
        self._busy = False
        return self._convert(data, faults)

    def read_while_busy(self, faults: Faults) -> Iterator[Reading]:
        """Those without callbacks, while a callback hangs or has failed."""
        busy, self._busy = self._busy, False
        return self._convert(self.reader.read_synchronous() if busy else None, faults)

    def shares(self, collector: object) -> bool:
        """Whether a collector gives the same instruments: that of a `PrometheusMetricReader` of the provider."""
        reader = getattr(getattr(collector, "_callback", None), "__self__", None)
        return (
            isinstance(reader, MetricReader)
            and self.reader.consumer is not None
            and getattr(reader._collect, "__self__", None) is self.reader.consumer
        )


@dataclass(frozen=True, slots=True)
class _Instruments:
    """What a source's reader gives: all, or what it gives in the place of that."""

    key: object
    is_safe: bool
    read: Callable[[Faults], Iterator[Reading]]
    name: str = COLLECTOR
    is_additive: bool = True


class _Target:
    """The resource as `target_info`, without what only one process has: it is the same in all of them."""

    name = "resource"
    key: object = "resource"
    is_safe = True
    is_additive = False

    def __init__(self, resource: Resource, names: Names) -> None:
        attributes = [
            (key, value)
            for key, value in resource.attributes.items()
            if key.startswith(_SAME_IN_ALL) or not key.startswith(_OF_ONE_PROCESS)
        ]
        self._labels = checked_labels(names.labels(attributes))[0]

    def read(self, _faults: Faults) -> list[Reading]:
        if not self._labels:
            return []
        return [Reading("target", "info", "Target metadata", policy="max", points={self._labels: Point(1.0)})]


class Converter:
    """Makes readings of the SDK's data.

    Args:
        names: how names are translated.
        scope_info: whether series are labelled with their scope.
    """

    def __init__(self, names: Names, *, scope_info: bool) -> None:
        self._names = names
        self._scope_info = scope_info

    def __call__(self, data: MetricsData | None, faults: Faults) -> Iterator[Reading]:
        """Readings, one for each instrument and view; what can't be converted is left out and counted."""
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                extra = self._scope_labels(scope.scope) if self._scope_info else {}
                for metric in scope.metrics:
                    try:
                        yield self._reading(metric, extra, faults)
                    except FaultError as fault:
                        faults.count(metric.name, fault.reason, fault)

    @staticmethod
    def _scope_labels(scope: Any) -> dict[str, object]:
        """Name and version of the scope, and its attributes under their own prefix."""
        attributes = {f"otel_scope_{key}": value for key, value in (scope.attributes or {}).items()}
        labels = attributes | {"otel_scope_name": scope.name or "", "otel_scope_version": scope.version or ""}
        return labels | ({"otel_scope_schema_url": scope.schema_url} if scope.schema_url else {})

    def _reading(self, metric: export.Metric, extra: Mapping[str, object], faults: Faults) -> Reading:
        data = metric.data
        counter = isinstance(data, export.Sum) and data.is_monotonic
        kind = "counter" if counter else "gauge" if isinstance(data, export.Gauge) else "other"
        name, unit = self._names.metric(metric.name, metric.unit or "", kind)
        histogram = isinstance(data, export.Histogram | export.ExponentialHistogram)
        type_ = self._names.counter if counter else "histogram" if histogram else "gauge"
        reading = Reading(checked_name(name), type_, checked_help(metric.description), unit, points={})
        reading.is_added_to = isinstance(data, export.Sum) and type_ == "gauge"
        for point in data.data_points:
            try:
                self._take(reading, point, self._labels(point.attributes, extra, histogram=histogram))
            except FaultError as fault:
                faults.count(metric.name, fault.reason, fault)
        return reading

    def _labels(
        self, attributes: Mapping[str, Any] | None, extra: Mapping[str, object], *, histogram: bool
    ) -> tuple[Labels, bool]:
        found = self._names.labels([*extra.items(), *(attributes or {}).items()])
        if histogram:
            found = [("exported_le" if name == "le" else name, value) for name, value in found]
        return checked_labels(found)

    @staticmethod
    def _take(reading: Reading, data: Any, labels: tuple[Labels, bool]) -> None:
        """Add a data point to a metric."""
        if reading.type == "histogram":
            bounds, point = _histogram(data)
            if not reading.points:
                reading.bounds = bounds
            elif bounds != reading.bounds:
                raise FaultError("conflict", f"{reading.name} has series with other buckets")
        else:
            point = Point(checked_number(data.value, cumulative=reading.is_cumulative))
            if reading.is_cumulative:
                point.created = data.start_time_unix_nano or 0
                point.exemplars = _exemplars(data.exemplars, ())
        known = reading.points.get(labels[0])
        if known is None:
            reading.points[labels[0]] = point
        elif reading.is_cumulative:
            add(known, point)  # labels that became the same, as they were cut or of other types
        else:
            raise FaultError("duplicate", reading.name)


def _histogram(data: Any) -> tuple[tuple[float, ...], Point]:
    counts: list[float] | None
    if isinstance(data, export.ExponentialHistogramDataPoint):
        bounds, counts = exponential.BOUNDS, exponential.to_explicit(data)
        if counts is None:
            raise FaultError("unsupported", f"an exponential histogram of scale {data.scale}")
    else:
        bounds, counts = checked_bounds(data.explicit_bounds), list(data.bucket_counts)
        if not counts:  # without bounds the SDK keeps only the count
            counts = [data.count]
    exemplars = _exemplars(data.exemplars, bounds)
    return bounds, Point(data.count, checked_number(data.sum), counts, data.start_time_unix_nano or 0, exemplars)


def _exemplars(found: Sequence[Any], bounds: Sequence[float]) -> list[Exemplar] | None:
    """The newest one of each bucket that was made in a span."""
    kept: dict[int, Exemplar] = {}
    for each in sorted(found or (), key=lambda each: each.time_unix_nano):
        if each.trace_id and each.span_id:
            bucket = bisect_left(bounds, each.value)
            trace_id = each.trace_id.to_bytes(16, "big")
            kept[bucket] = Exemplar(bucket, trace_id, each.span_id, float(each.value), each.time_unix_nano)
    return list(kept.values()) or None
