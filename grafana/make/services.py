"""Service overview: rate, errors and duration of each service and route; what is slow, what fails, and why."""

from __future__ import annotations

from dataclasses import replace

from .live import Live
from .page import Dashboard, Panels, instances, page, services, sources, to
from .panels import FAILED_LIMITS, Column, Line, durations, lines, number, rows
from .queries import (
    HTTP,
    RANGE,
    RATE,
    SERVER_ERROR,
    among,
    failed_share,
    happened,
    le,
    ours,
    quantile,
    rate,
    requests,
    spans,
    top,
)

_APDEX_LIMITS = (0.7, 0.94)  # Apdex's own words: below 0.7 is poor, from 0.94 on excellent
_ROUTE = "service, http_request_method, http_route"
_ROUTE_LEGEND = "{{service}} {{http_request_method}} {{http_route}}"
_BUCKETS = ours(f"{HTTP}_bucket")
_CALLERS = 'span_kind!="SPAN_KIND_SERVER"'


def services_page(live: Live) -> Dashboard:
    """The dashboard to begin with."""
    return page(
        "services",
        "Service overview",
        "Rate, errors and duration of every service and route, from totals that go on through restarts and deploys.",
        [*sources(), *instances(), *services(live)],
        [
            ("At a glance", _glance(live)),
            ("Services", _services(live)),
            ("Routes", _routes(live)),
            ("Latency", _latency(live)),
            ("Errors", _errors()),
            ("Inside: what the services do and call", _inside(live)),
        ],
    )


def _within(bound: float, by: str, window: str, *matchers: str) -> str:
    return rate(ours(f"{HTTP}_bucket", le(bound), *matchers), by, window)


def _apdex(live: Live, by: str = "", window: str = RATE) -> str:
    fine = 'http_response_status_code!~"5.."'
    satisfied, tolerated = (_within(bound, by, window, fine) for bound in (live.satisfied, live.tolerated))
    return f"({satisfied} + {tolerated}) / 2 / {rate(requests(), by, window)}"


def _slow(live: Live, by: str = "", window: str = RATE) -> str:
    return f"1 - {_within(live.slow, by, window)} / {rate(requests(), by, window)}"


def _glance(live: Live) -> Panels:
    apdex = (
        f"1: all users are satisfied, 0: none. Satisfied within {live.satisfied:g} s, tolerating up to "
        f"{live.tolerated:g} s, which are bounds of buckets; failed requests satisfy nobody."
    )
    slow = f"Share of requests that took longer than {live.slow:g} s, the bucket's bound that is nearest to `slow_ms`."
    exceptions = "Exceptions recorded a second, each once however many spans it passed through."
    return [
        number("Requests", "HTTP requests answered a second.", "reqps", rate(requests())),
        number(
            "Failed",
            "Share of requests answered with a status of 500 or more.",
            "percentunit",
            failed_share(),
            limits=FAILED_LIMITS,
        ),
        number(
            "p95",
            "95 % of requests were answered within this time.",
            "s",
            quantile(0.95, _BUCKETS),
            limits=(live.satisfied, live.slow) if live.satisfied < live.slow else None,
        ),
        number("Apdex", apdex, "none", _apdex(live), limits=_APDEX_LIMITS, rising=False),
        number("Slow", slow, "percentunit", _slow(live), limits=(0.01, 0.1)),
        number("Exceptions", exceptions, "cps", f"{rate(ours('exceptions_total'))} or vector(0)"),
    ]


def _services(live: Live) -> Panels:
    here = to("services", "var-service=${__data.fields.service}")
    errors = to("errors", "var-service=${__data.fields.service}")
    table = rows(
        "Services",
        "A row for each service: the hundred busiest, over the whole time that is looked at. The name leads to that "
        "service alone, the share of failures to its errors.",
        _columns(live, 100, "service"),
        sort="Requests/s",
        links=[("service", "This service", here), ("Failed", "Its errors", errors)],
    )
    return [
        table,
        lines(
            "Requests by service",
            "HTTP requests answered a second; the ten busiest services.",
            "reqps",
            Line(top(10, rate(requests(), "service")), "{{service}}"),
            width=8,
            stacked=True,
        ),
        lines(
            "Failed by service",
            "Share of requests answered with a status of 500 or more; the ten worst services.",
            "percentunit",
            Line(top(10, failed_share("service")), "{{service}}"),
            width=8,
            limits=FAILED_LIMITS,
        ),
        lines(
            "p95 by service",
            "95 % of requests were answered within this time; the ten slowest services.",
            "s",
            Line(top(10, quantile(0.95, _BUCKETS, "service")), "{{service}}"),
            width=8,
        ),
    ]


def _columns(live: Live, count: int, by: str) -> list[Column]:
    """Of the busiest, over the whole time."""
    busiest = top(count, rate(requests(), by, RANGE))
    others = [
        Column("Failed", failed_share(by, RANGE), "percentunit", FAILED_LIMITS),
        *(Column(f"p{share * 100:g}", quantile(share, _BUCKETS, by, RANGE), "s") for share in (0.5, 0.95, 0.99)),
        Column("Apdex", _apdex(live, by, RANGE), "none", decimals=2),
        Column("Slow", _slow(live, by, RANGE), "percentunit"),
    ]
    return [
        Column("Requests/s", busiest, "reqps"),
        *(replace(each, query=among(each.query, by, busiest)) for each in others),
    ]


def _routes(live: Live) -> Panels:
    traces = to(
        "traces",
        "var-service=${__data.fields.service}",
        "var-operation=${__data.fields.http_request_method}%20${__data.fields.http_route:percentencode}",
    )
    spent = rate(ours(f"{HTTP}_sum"), _ROUTE)
    table = rows(
        "Routes",
        "A row for each route: the fifty busiest, over the whole time that is looked at. The route leads to its "
        "traces. A row without a route: requests that no route matched.",
        _columns(live, 50, _ROUTE),
        sort="Requests/s",
        links=[("http_route", "Traces of this route", traces)],
        height=10,
    )
    return [
        table,
        lines(
            "Slow routes",
            "95 % of a route's requests were answered within this time; the ten slowest routes.",
            "s",
            Line(top(10, quantile(0.95, _BUCKETS, _ROUTE)), _ROUTE_LEGEND),
        ),
        lines(
            "Where the time goes",
            "Seconds of answering each second: a route that is quick but asked for often can be what costs the most. "
            "The ten largest.",
            "s",
            Line(top(10, spent), _ROUTE_LEGEND),
            stacked=True,
        ),
        lines(
            "Requests by route",
            "HTTP requests answered a second; the ten busiest routes.",
            "reqps",
            Line(top(10, rate(requests(), _ROUTE)), _ROUTE_LEGEND),
            stacked=True,
        ),
        lines(
            "Failed by route",
            "Requests a second answered with a status of 500 or more; the ten worst routes.",
            "reqps",
            Line(top(10, rate(requests(SERVER_ERROR), _ROUTE)), _ROUTE_LEGEND),
        ),
    ]


def _latency(live: Live) -> Panels:
    kept = "Points are exemplars: single requests that open their trace."
    served = spans(live.latency, live, "_bucket", 'span_kind="SPAN_KIND_SERVER"')
    quantiles = [
        Line(quantile(share, _BUCKETS), f"p{share * 100:g}", exemplars=True) for share in (0.5, 0.9, 0.95, 0.99)
    ]
    mean = Line(f"{rate(ours(f'{HTTP}_sum'))} / {rate(requests())}", "mean")
    return [
        durations(
            "Durations",
            f"How many requests a second took how long. {kept}",
            "s",
            rate(_BUCKETS, "le"),
        ),
        lines("Quantiles", f"Durations of HTTP requests over all that is chosen. {kept}", "s", *quantiles, mean),
        lines(
            "Slow requests",
            f"Share of requests that took longer than {live.slow:g} s; the ten worst services.",
            "percentunit",
            Line(top(10, _slow(live, "service")), "{{service}}"),
        ),
        durations(
            "Durations of server spans",
            f"The same from the span metrics, which have server spans of other protocols too. {kept}",
            live.latency_unit,
            rate(served, "le"),
        ),
    ]


def _errors() -> Panels:
    types = rate(requests('error_type!=""'), "service, error_type")
    exceptions = rate(ours("exceptions_total"), "service, exception_type")
    return [
        lines(
            "Answers by status",
            "HTTP requests answered a second, by status code.",
            "reqps",
            Line(rate(requests(), "http_response_status_code"), "{{http_response_status_code}}"),
            width=8,
            stacked=True,
        ),
        lines(
            "Failed requests by type",
            "Requests a second that failed, by what they failed with: an exception's class or a status. The ten most "
            "frequent.",
            "reqps",
            Line(top(10, types), "{{service}} {{error_type}}"),
            width=8,
            stacked=True,
        ),
        lines(
            "Exceptions by type",
            "Exceptions recorded a second, answered or not. The ten most frequent.",
            "cps",
            Line(top(10, exceptions), "{{service}} {{exception_type}}"),
            width=8,
            stacked=True,
        ),
        rows(
            "Errors of routes",
            "How often a route failed with what, in the time that is looked at; the fifty most frequent.",
            [
                Column(
                    "Requests",
                    top(50, happened(requests('error_type!=""'), f"{_ROUTE}, http_response_status_code, error_type")),
                    decimals=0,
                )
            ],
            sort="Requests",
            links=[("service", "Its errors", to("errors", "var-service=${__data.fields.service}"))],
        ),
    ]


def _inside(live: Live) -> Panels:
    by = f"{live.span_service}, span_name, span_kind"
    legend = f"{{{{{live.span_service}}}}} {{{{span_name}}}}"
    calls = spans(live.calls, live, "", _CALLERS)
    failed = spans(live.calls, live, "", _CALLERS, 'status_code="STATUS_CODE_ERROR"')
    buckets = spans(live.latency, live, "_bucket", _CALLERS)
    return [
        lines(
            "Calls",
            "Spans finished a second that are not requests: calls to databases and other services, steps of work. "
            "The ten most frequent.",
            "ops",
            Line(top(10, rate(calls, by)), legend),
            width=8,
        ),
        lines(
            "Failed calls",
            "Those a second whose status is error; the ten most frequent.",
            "ops",
            Line(top(10, rate(failed, by)), legend),
            width=8,
        ),
        lines(
            "p95 of calls",
            "95 % of these spans took at most this long; the ten slowest.",
            live.latency_unit,
            Line(top(10, quantile(0.95, buckets, by)), legend),
            width=8,
        ),
    ]
