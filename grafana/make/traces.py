"""Traces: search and metrics in TraceQL, straight from the retained history, through the Tempo data source."""

from __future__ import annotations

from .live import Live
from .page import Dashboard, Panels, choice, instances, page, services, sources
from .panels import found_traces, traced, traced_durations

_CHOSEN = 'resource.service.name =~ "${service:pipe}" && name =~ "${operation:pipe}"'
_SERVED = f"{_CHOSEN} && kind = server"


def traces_page(live: Live) -> Dashboard:
    """What single requests did."""
    calls = f'{live.calls}{{instance=~"$instance", {live.span_service}=~"$service"}}'
    return page(
        "traces",
        "Traces",
        "Search and metrics in TraceQL over the retained spans. Ids open the trace.",
        [
            *sources(),
            *instances(),
            *services(live)[:1],
            choice("operation", "Operation", f"label_values({calls}, span_name)"),
        ],
        [("Rate, errors, duration", _measured()), ("Search", _found(live))],
    )


def _measured() -> Panels:
    return [
        traced("Spans", "Spans finished a second, by service.", "ops",
               f"{{ {_CHOSEN} }} | rate() by (resource.service.name)", width=8, stacked=True),
        traced("Failed spans", "Spans a second whose status is error, by operation.", "ops",
               f"{{ {_CHOSEN} && status = error }} | rate() by (name)", width=8, stacked=True),
        traced("Duration of requests", "Quantiles of the durations of server spans.", "s",
               f"{{ {_SERVED} }} | quantile_over_time(duration, 0.5, 0.95, 0.99)", width=8),
        traced_durations("Durations", "How many server spans took how long: powers of two.",
                         f"{{ {_SERVED} }} | histogram_over_time(duration)"),
        traced("Slowest operations", "The largest mean duration of spans, by operation: the ten largest.", "s",
               f"{{ {_CHOSEN} }} | avg_over_time(duration) by (name) | topk(10)"),
        traced("Most frequent operations", "Spans finished a second, by operation: the ten most frequent.", "ops",
               f"{{ {_CHOSEN} }} | rate() by (name) | topk(10)"),
    ]  # fmt: skip


def _found(live: Live) -> Panels:
    slow = f"{live.slow * 1000:g}ms"
    return [
        found_traces("Newest", "The newest traces that have a span of what is chosen.", f"{{ {_CHOSEN} }}"),
        found_traces(
            "Slow requests",
            f"The newest traces with a server span of more than {live.slow:g} s.",
            f"{{ {_SERVED} && duration > {slow} }}",
        ),
        found_traces("Failed", "The newest traces with a failed span.", f"{{ {_CHOSEN} && status = error }}"),
        found_traces(
            "Calls to databases",
            "The newest calls, with what was asked of which database.",
            f'{{ {_CHOSEN} && kind = client && span.db.system.name != "" }} '
            "| select(span.db.system.name, span.db.namespace, span.db.query.text)",
            spans=True,
        ),
    ]
