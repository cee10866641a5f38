"""What of the settings the dashboards depend on: names, labels, bounds of buckets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ...storage import StoreSettings
from ...storage.dimensions import label_name
from ...storage.families import SPAN_CALLS, SPAN_LATENCY
from ...storage.naming import COLLECTOR, COLLECTOR_FORMS

_SATISFIED = 0.25
"""Seconds; users are satisfied below the bound that is nearest to this, and tolerate four times as much (Apdex)."""
OBJECTIVE = 0.5
"""Seconds; what the rules have, as they are shipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What dashboards are made for. Durations in seconds."""

    calls: str
    """Counter of spans, as exposed."""
    latency: str
    """Histogram of their durations, without `_bucket`."""
    latency_unit: str
    """Grafana's name of its unit."""
    span_service: str
    """Label of the span metrics that has the service."""
    dimensions: tuple[str, ...]
    """Further labels of the span metrics."""
    satisfied: float
    """Bound of a bucket: Apdex's threshold."""
    tolerated: float
    """Bound of a bucket: nearest to four times that."""
    slow: float
    """Bound of a bucket: nearest to what counts as slow."""
    objective: float
    """Bound of a bucket: within which the alerts want requests to be answered."""
    series_limit: int


def live_of(settings: StoreSettings) -> Live:
    """What the dashboards need to know of the settings."""
    kept = settings.span_metric_names == COLLECTOR
    calls, latency = ((COLLECTOR_FORMS[each.name].name if kept else each.name) for each in (SPAN_CALLS, SPAN_LATENCY))
    bounds = settings.http_duration_buckets
    satisfied = _nearest(bounds, _SATISFIED)
    return Live(
        calls=f"{calls}_total",
        latency=latency,
        latency_unit="ms" if kept else "s",
        span_service="service_name" if kept else "service",
        dimensions=tuple(map(label_name, settings.span_metric_dimensions)),
        satisfied=satisfied,
        tolerated=_nearest((bound for bound in bounds if bound >= satisfied), 4 * satisfied),
        slow=_nearest(bounds, settings.slow_ms / 1000),
        objective=_nearest(bounds, OBJECTIVE),
        series_limit=settings.series_limit,
    )


def _nearest(bounds: Iterable[float], wanted: float) -> float:
    """The bound that differs from what is wanted by the smallest factor."""
    return min(bounds, key=lambda bound: abs(math.log(bound / wanted)))
