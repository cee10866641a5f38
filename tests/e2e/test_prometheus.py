"""A real Prometheus scrapes the service through kill -9 and a new start, and sees counters that only grow."""

import subprocess

import pytest
from tk_client import Client
from tk_http import get, get_json
from tk_metrics import METRICS
from tk_prometheus import Prometheus
from tk_service import Service
from tk_wait import eventually

SERVER_CALLS = 'traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}'

EXPOSED = {
    "traces_spanmetrics_calls_total",
    "traces_spanmetrics_latency_bucket",
    "http_server_request_duration_seconds_count",
    "exceptions_total",
    "tracekeep_records_accepted_total",
    "tracekeep_records_stored_total",
}


def test_no_reset_through_kill_and_restart(tmp_path, require):
    """`resets()` of every counter is 0 and the increase of the totals is what the client sent, exactly."""
    program = require("prometheus")
    with (
        Service(tmp_path / "data", tmp_path, workers=2) as service,
        Prometheus(program, tmp_path / "prometheus", service.port) as prometheus,
    ):
        first = _send(service, 200)  # the series exist before the count begins
        _wait_for_total(prometheus, first)
        second = _send(service, 300)
        service.kill_all()  # right after the last answer: nothing had time to settle
        service.start_all()
        service.wait_ready()
        third = _send(service, 300)
        _wait_for_total(prometheus, first + second + third)
        assert _increase(prometheus) == second + third
        assert prometheus.value(f"sum(increase({SERVER_CALLS}[1h]))") == pytest.approx(second + third, rel=0.5)
        scraped = [name for name in prometheus.counters() if prometheus.query(f"count({name})")]
        assert set(scraped) >= EXPOSED
        for name in scraped:
            assert prometheus.value(f"sum(resets({name}[1h]))") == 0, name


def test_exemplars_lead_to_stored_traces(tmp_path, require):
    """Prometheus gets exemplars of latency buckets and of errors, over OpenMetrics; each is the id of a stored trace.

    Also those of before a kill: its buckets go on, and so do the traces behind them.
    """
    program = require("prometheus")
    with (
        Service(tmp_path / "data", tmp_path, workers=2) as service,
        Prometheus(program, tmp_path / "prometheus", service.port) as prometheus,
    ):
        first = _send(service, 150)
        _wait_for_total(prometheus, first)
        service.kill_all()
        service.start_all()
        service.wait_ready()
        second = _send(service, 150)
        _wait_for_total(prometheus, first + second)
        names = {"traces_spanmetrics_latency_bucket", "http_server_request_duration_seconds_bucket", "exceptions_total"}
        names.add("traces_spanmetrics_calls_total")
        everything = "{" + f'__name__=~"{"|".join(sorted(names))}"' + "}"
        eventually(lambda: {name for name, *_ in prometheus.exemplars(everything)} == names, 15, every=0.5)
        found = prometheus.exemplars(everything)
        for trace_id, span_id in {(labels["trace_id"], labels["span_id"]) for _, labels, _ in found}:
            spans = get_json(service.port, f"/observability/monitoring/traces/{trace_id}")["spans"]
            assert span_id in {span["span_id"] for span in spans}, trace_id
        for name, labels, value in found:
            if name.endswith("_bucket"):
                spans = get_json(service.port, f"/observability/monitoring/traces/{labels['trace_id']}")["spans"]
                (duration,) = [span["duration_ms"] for span in spans if span["span_id"] == labels["span_id"]]
                assert value == pytest.approx(duration / 1000, rel=1e-3)


def test_promtool_accepts_the_page(tmp_path, require):
    """`promtool check metrics` finds nothing to complain of."""
    program = require("promtool")
    with Service(tmp_path / "data", tmp_path) as service:
        _send(service, 50)
        page = get(service.port, METRICS).body
    checked = subprocess.run([program, "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def _send(service, requests):
    """Let a client send about so many requests and stop; gives how many were answered, which is all."""
    with Client(service.port, rate=150) as client:
        eventually(lambda: len(client.received) >= requests, 30)
    assert not client.unanswered
    return len(client.received)


def _wait_for_total(prometheus, expected):
    eventually(lambda: prometheus.value(f"sum({SERVER_CALLS})") == expected, 15, every=0.2)


def _increase(prometheus):
    """Last less first raw sample, over all series: what `increase()` estimates, without its extrapolation."""
    series = [[float(value) for _, value in each["values"]] for each in prometheus.query(f"{SERVER_CALLS}[1h]")]
    assert all(values == sorted(values) for values in series)
    return sum(values[-1] - values[0] for values in series)
