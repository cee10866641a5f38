"""What a metric is, and those that the store makes itself: names, help, buckets and labels.

Default names are those that Grafana's own pages query (Tempo's metrics generator), in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .records import SpanKind, StatusCode

Labels = tuple[tuple[str, str], ...]
"""(name, value) pairs in exposition order; values are bounded."""

MAX_LABEL = 256
"""Characters of a label value; the rest is cut and an ellipsis put."""

OVERFLOW: Labels = (("otel_metric_overflow", "true"),)
"""Labels of the series that takes the remainder past the limit (OpenTelemetry metrics SDK, "overflow attribute")."""


_TOTAL_TYPES = frozenset({"counter", "barecounter", "histogram", "summary"})
_BUCKET_TYPES = frozenset({"histogram", "gaugehistogram"})


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """What a metric is: `bounds` of its buckets in `unit`, without `+Inf`; `type` as Prometheus calls it.

    Without a type it is a histogram where it has bounds, and else a counter. The policy says how processes become one.
    """

    name: str
    help: str
    bounds: tuple[float, ...] = ()
    unit: str = ""
    type: str = ""
    policy: str = "sum"

    def __post_init__(self) -> None:
        if not self.type:
            object.__setattr__(self, "type", "histogram" if self.bounds else "counter")

    @property
    def is_total(self) -> bool:
        """Whether its series add up for ever; those of others live with the processes that give them."""
        return self.type in _TOTAL_TYPES and self.policy != "worker"

    @property
    def is_delta(self) -> bool:
        """Whether processes tell what was added; else they tell what is."""
        return self.type in _TOTAL_TYPES

    @property
    def has_buckets(self) -> bool:
        """Whether its series have buckets."""
        return self.type in _BUCKET_TYPES

    def matches(self, other: FamilySpec) -> bool:
        """Whether values of the two can be put together."""
        return (self.type, self.policy, self.bounds) == (other.type, other.policy, other.bounds)


SPAN_CALLS = FamilySpec("traces_spanmetrics_calls", "Spans finished, by service, name, kind and status.")
SPAN_LATENCY = FamilySpec(
    "traces_spanmetrics_latency",
    "Duration of spans in seconds.",
    bounds=tuple(0.002 * 2**i for i in range(14)),  # Tempo's ExponentialBuckets(0.002, 2, 14)
)
HTTP_DURATION = FamilySpec(
    "http_server_request_duration_seconds",
    "Duration of HTTP server requests.",
    bounds=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10),  # HTTP semantic conventions
    unit="seconds",
)
EXCEPTIONS = FamilySpec("exceptions", "Exceptions recorded, each once, by service and type.")
GROUPS_NEW = FamilySpec("tracekeep_error_groups_new", "Error groups that were met for the first time, by service.")
GROUPS_REGRESSED = FamilySpec(
    "tracekeep_error_groups_regressed", "Error groups that came back after they had been resolved, by service."
)
BY_SERVICE = (GROUPS_NEW, GROUPS_REGRESSED)
"""Counters that every service has which records spans, at 0 at first."""
_EDGE_BOUNDS = tuple(0.1 * 2**i for i in range(8))  # Tempo's ExponentialBuckets(0.1, 2, 8)
EDGE_TOTAL = FamilySpec("traces_service_graph_request", "Calls between services, by both names and type of connection.")
EDGE_FAILED = FamilySpec("traces_service_graph_request_failed", "Those of them that either side says have failed.")
EDGE_SERVER = FamilySpec(
    "traces_service_graph_request_server_seconds",
    "Duration of calls as the server saw them; where it records nothing, as the client did.",
    bounds=_EDGE_BOUNDS,
    unit="seconds",
)
EDGE_CLIENT = FamilySpec(
    "traces_service_graph_request_client_seconds",
    "Duration of calls as the client saw them.",
    bounds=_EDGE_BOUNDS,
    unit="seconds",
)
EDGE_MESSAGING = FamilySpec(
    "traces_service_graph_request_messaging_system_seconds",
    "Time that messages took from the end of the producer's span to the begin of the consumer's.",
    bounds=_EDGE_BOUNDS,
    unit="seconds",
)
EDGE_DROPPED = FamilySpec(
    "tracekeep_service_graph_dropped",
    "Spans that are no end of an edge: the other end did not come in time (unpaired), or too many waited (full).",
)
ACCEPTED = FamilySpec("tracekeep_records_accepted", "Records accepted from the processes of this data directory.")
STORED = FamilySpec("tracekeep_records_stored", "Records stored.")
DROPPED = FamilySpec("tracekeep_records_dropped", "Records dropped, by reason.")
TRUNCATED = FamilySpec("tracekeep_values_truncated", "Attribute values cut or replaced before they were recorded.")
OVERFLOWED = FamilySpec("tracekeep_series_overflow", "Observations that went to an overflow series, by metric.")
REJECTED = FamilySpec("tracekeep_metrics_rejected", "Points of application metrics that can't be kept, by reason.")

FAMILIES: Mapping[str, FamilySpec] = {
    spec.name: spec
    for spec in (
        SPAN_CALLS,
        SPAN_LATENCY,
        HTTP_DURATION,
        EXCEPTIONS,
        GROUPS_NEW,
        GROUPS_REGRESSED,
        EDGE_TOTAL,
        EDGE_FAILED,
        EDGE_SERVER,
        EDGE_CLIENT,
        EDGE_MESSAGING,
        EDGE_DROPPED,
        ACCEPTED,
        STORED,
        DROPPED,
        TRUNCATED,
        OVERFLOWED,
        REJECTED,
    )
}

STATUS_METRICS = frozenset(
    {
        "tracekeep_degraded",
        "tracekeep_writer_up",
        "tracekeep_writer_lag_seconds",
        "tracekeep_last_commit_timestamp_seconds",
        "tracekeep_journal_bytes",
        "tracekeep_journal_limit_bytes",
        "tracekeep_history_bytes",
        "tracekeep_history_limit_bytes",
        "tracekeep_history_partitions",
    }
)
"""Gauges of the store's own state, which are not kept: no application may have theirs under such a name."""


def bounded(value: object) -> str:
    """A label value: text, at most `MAX_LABEL` characters."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"


def service_of(labels: Labels) -> str:
    """The label `service`; empty where there is none."""
    return next((value for name, value in labels if name == "service"), "")


def span_labels(service: str, name: str, kind: int, status: int) -> Labels:
    """Labels of the span metrics, as Tempo's metrics generator names and writes them."""
    return (
        ("service", bounded(service)),
        ("span_name", bounded(name)),
        ("span_kind", f"SPAN_KIND_{_name(SpanKind, kind)}"),
        ("status_code", f"STATUS_CODE_{_name(StatusCode, status)}"),
    )


def _name(enum: type[SpanKind | StatusCode], number: int) -> str:
    try:
        return enum(number).name
    except ValueError:
        return enum(0).name


_HTTP_LABELS = (
    ("http_request_method", "http.request.method"),
    ("url_scheme", "url.scheme"),
    ("http_route", "http.route"),
    ("http_response_status_code", "http.response.status_code"),
    ("error_type", "error.type"),
)


def http_labels(service: str, attributes: Mapping[str, Any]) -> Labels | None:
    """Labels of the HTTP server duration, after the semantic conventions; None for a span that isn't one.

    `http_route` is missing where no route matched: unknown paths share one series.
    """
    if "http.request.method" not in attributes:
        return None
    labels = [("service", bounded(service))]
    for label, key in _HTTP_LABELS:
        value = attributes.get(key)
        if value is not None:
            labels.append((label, bounded(value)))
    return tuple(labels)


def exception_labels(service: str, type_: str) -> Labels:
    """Labels of the exceptions counter: never the message."""
    return (("service", bounded(service)), ("exception_type", bounded(type_)))
