"""Service graph: who calls whom, how often, how long it takes and how often it fails."""

from __future__ import annotations

from .live import Live
from .page import Dashboard, Panels, choice, instances, page, sources, to
from .panels import FAILED_LIMITS, Column, Line, durations, lines, node_graph, rows
from .queries import RANGE, RATE, among, here, quantile, rate, ratio, top

_EDGE = "client, server, connection_type"
_LEGEND = "{{client}} → {{server}}"
_CHOSEN = ('client=~"$client"', 'server=~"$server"')
_PREFIX = "traces_service_graph_request"


def graph_page(live: Live) -> Dashboard:
    """Who calls whom."""
    del live  # its names don't depend on settings
    known = f'{_PREFIX}_total{{instance=~"$instance"}}'
    return page(
        "graph",
        "Service graph",
        "Calls between services, databases and those who record nothing (user), from pairs of spans.",
        [
            *sources(),
            *instances(),
            choice("client", "Client", f"label_values({known}, client)"),
            choice("server", "Server", f"label_values({known}, server)"),
        ],
        [("Map", _map()), ("Calls", _calls()), ("Durations", _durations()), ("What is missing", _missing())],
    )


def _edges(part: str, *matchers: str) -> str:
    return here(f"{_PREFIX}_{part}", *_CHOSEN, *matchers)


def _failed(window: str = RATE) -> str:
    return ratio(rate(_edges("failed_total"), _EDGE, window), rate(_edges("total"), _EDGE, window))


def _map() -> Panels:
    busiest = top(100, rate(_edges("total"), _EDGE, RANGE))
    slow = quantile(0.95, _edges("server_seconds_bucket"), _EDGE, RANGE)
    return [
        node_graph(
            "Map",
            "Services and the calls between them in the time that is looked at. A click leads to requests, durations "
            "and failures of one. The Tempo data source needs its service graph linked to this Prometheus.",
            '{client=~"${client:pipe}", server=~"${server:pipe}"}',
        ),
        rows(
            "Edges",
            "A row for each pair: the hundred busiest. The type is empty between two services; `virtual_node`: one "
            "side records nothing.",
            [
                Column("Calls/s", busiest, "reqps"),
                Column("Failed", among(_failed(RANGE), _EDGE, busiest), "percentunit", FAILED_LIMITS),
                Column("p95", among(slow, _EDGE, busiest), "s"),
            ],
            sort="Calls/s",
            links=[("server", "This service", to("services", "var-service=${__data.fields.server}"))],
        ),
    ]


def _calls() -> Panels:
    return [
        lines(
            "Calls",
            "Calls a second; the ten busiest pairs.",
            "reqps",
            Line(top(10, rate(_edges("total"), _EDGE)), _LEGEND),
            stacked=True,
        ),
        lines(
            "Failed calls",
            "Share of calls that either side says have failed; the ten worst pairs.",
            "percentunit",
            Line(top(10, _failed()), _LEGEND),
            limits=FAILED_LIMITS,
        ),
    ]


def _durations() -> Panels:
    sides = {
        "server": "As the server saw them; where it records nothing, as the client did",
        "client": "As the client saw them: the network and waiting are in it",
        "messaging_system": "From the end of sending a message to the begin of working on it",
    }
    titles = {"server": "p95 of servers", "client": "p95 of clients", "messaging_system": "p95 of messages' ways"}
    return [
        *(
            lines(
                titles[side],
                f"{text}. 95 % took at most this long; the ten slowest pairs.",
                "s",
                Line(top(10, quantile(0.95, _edges(f"{side}_seconds_bucket"), _EDGE)), _LEGEND),
                width=8,
            )
            for side, text in sides.items()
        ),
        durations(
            "Durations of calls",
            "How many calls a second took how long, as the servers saw them.",
            "s",
            rate(_edges("server_seconds_bucket"), "le"),
            exemplars=False,
        ),
    ]


def _missing() -> Panels:
    return [
        lines(
            "Ends without another",
            "Spans a second that are no end of an edge: the other end did not come within 10 s (unpaired), or too "
            "many waited (full).",
            "ops",
            Line(rate(here("tracekeep_service_graph_dropped_total"), "reason"), "{{reason}}"),
            width=24,
        )
    ]
