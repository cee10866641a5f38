"""Errors: which exceptions, since when, of which service and release, and the traces that have them."""

from __future__ import annotations

from .live import Live
from .page import VERSION, Dashboard, Panels, instances, page, services, sources, to
from .panels import FAILED_LIMITS, Column, Line, found_traces, lines, number, rows
from .queries import (
    RANGE,
    RATE,
    SERVER_ERROR,
    among,
    failed_share,
    happened,
    here,
    increase,
    ours,
    rate,
    requests,
    spans,
    top,
)

_EXCEPTIONS = ours("exceptions_total")
_TYPE = "service, exception_type"
_GROUPS = {
    "new": ours("tracekeep_error_groups_new_total"),
    "regressed": ours("tracekeep_error_groups_regressed_total"),
}


def errors_page(live: Live) -> Dashboard:
    """What fails."""
    return page(
        "errors",
        "Errors",
        "Exceptions by type, service and release, groups that are new or have come back, and the traces behind them.",
        [*sources(), *instances(), *services(live)],
        [
            ("At a glance", _glance()),
            ("Exceptions", _exceptions()),
            ("Groups: new and regressed", _groups()),
            ("By release", _releases()),
            ("Spans that failed", _spans(live)),
            ("Traces", _traces()),
        ],
    )


def _glance() -> Panels:
    before = f"sum(increase({_EXCEPTIONS}[{RANGE}] offset {RANGE}))"
    return [
        number("Exceptions", "Exceptions recorded a second, each once.", "cps", f"{rate(_EXCEPTIONS)} or vector(0)"),
        number(
            "In this time",
            "Exceptions recorded in the time that is looked at.",
            "short",
            f"{happened(_EXCEPTIONS)} or vector(0)",
            decimals=0,
        ),
        number(
            "Against the time before",
            "Exceptions in the time that is looked at for each one in the same time before it; nothing where there "
            "was none.",
            "none",
            f"{increase(_EXCEPTIONS)} / ({before} > 0)",
            limits=(1.5, 3),
            decimals=2,
        ),
        number(
            "Failed requests",
            "Share of HTTP requests answered with a status of 500 or more.",
            "percentunit",
            failed_share(),
            limits=FAILED_LIMITS,
        ),
        number(
            "New groups",
            "Error groups seen for the first time, in the time that is looked at.",
            "short",
            happened(_GROUPS["new"]),
            limits=(0.5, 5),
            decimals=0,
        ),
        number(
            "Regressed groups",
            "Error groups that came back after they were resolved, in the time that is looked at.",
            "short",
            happened(_GROUPS["regressed"]),
            limits=(0.5, 1),
            decimals=0,
        ),
    ]


def _exceptions() -> Panels:
    traces = to("traces", "var-service=${__data.fields.service}")
    most = top(50, happened(_EXCEPTIONS, _TYPE))
    return [
        lines(
            "Exceptions by type",
            "Exceptions a second; the ten most frequent types. Points are exemplars: they open the trace.",
            "cps",
            Line(top(10, rate(_EXCEPTIONS, _TYPE)), "{{service}} {{exception_type}}", exemplars=True),
            stacked=True,
        ),
        lines(
            "Exceptions by service",
            "Exceptions a second; the ten services that have the most.",
            "cps",
            Line(top(10, rate(_EXCEPTIONS, "service")), "{{service}}"),
            stacked=True,
        ),
        rows(
            "Types",
            "How often each type was recorded in the time that is looked at; the fifty most frequent. The service "
            "leads to its traces. Messages, stacks and states are at /monitoring/errors.",
            [
                Column("Exceptions", most, decimals=0),
                Column("A second now", among(rate(_EXCEPTIONS, _TYPE, "5m"), _TYPE, most), "cps"),
            ],
            sort="Exceptions",
            links=[("service", "Its traces", traces)],
        ),
    ]


def _groups() -> Panels:
    texts = {
        "new": "Error groups that a service had for the first time. Empty until there is one.",
        "regressed": "Error groups that a service had again after they were resolved. Empty until there is one.",
    }
    return [
        lines(
            f"Groups that are {state}",
            text,
            "short",
            Line(top(10, happened(_GROUPS[state], "service", RATE)), "{{service}}"),
        )
        for state, text in texts.items()
    ]


def _releases() -> Panels:
    """A release is told by `target_info`, which has it where the resource does, at each moment."""
    version = f"max by (job, instance, {VERSION}) ({here('target_info')})"

    def of_release(expression: str) -> str:
        return f"sum by ({VERSION}) ({expression} * on (job, instance) group_left ({VERSION}) {version})"

    exceptions, asked, failed = (
        rate(each, "job, instance") for each in (_EXCEPTIONS, requests(), requests(SERVER_ERROR))
    )
    return [
        lines(
            "Exceptions by release",
            "Exceptions a second by `service.version`, of what runs on an instance at that moment. A series without a "
            "name: the resource has no version.",
            "cps",
            Line(top(10, of_release(exceptions)), f"{{{{{VERSION}}}}}"),
        ),
        lines(
            "Failed requests by release",
            "Share of HTTP requests answered with a status of 500 or more, by `service.version`.",
            "percentunit",
            Line(top(10, f"{of_release(failed)} / {of_release(asked)}"), f"{{{{{VERSION}}}}}"),
            limits=FAILED_LIMITS,
        ),
    ]


def _spans(live: Live) -> Panels:
    labels = f"{live.span_service}, span_name, span_kind"
    failed = spans(live.calls, live, "", 'status_code="STATUS_CODE_ERROR"')
    every = spans(live.calls, live, "")
    most = top(50, increase(failed, labels))
    return [
        rows(
            "Operations that failed",
            "Spans whose status is error, in the time that is looked at; the fifty most frequent operations.",
            [
                Column("Failed", most, decimals=0),
                Column(
                    "Share",
                    among(f"{increase(failed, labels)} / {increase(every, labels)}", labels, most),
                    "percentunit",
                    FAILED_LIMITS,
                ),
            ],
            sort="Failed",
        )
    ]


def _traces() -> Panels:
    return [
        found_traces(
            "Failed traces",
            "The newest traces with a span that failed. The id opens the trace.",
            '{ resource.service.name =~ "${service:pipe}" && status = error }',
        ),
        found_traces(
            "Exceptions in spans",
            "The newest spans with an exception, with its type and message. The id opens the trace.",
            '{ resource.service.name =~ "${service:pipe}" && event.exception.type != "" } '
            "| select(event.exception.type, event.exception.message)",
            spans=True,
        ),
    ]
