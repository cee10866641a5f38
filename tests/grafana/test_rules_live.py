"""The rules in a real Prometheus that scrapes real services: their inputs exist, and their alerts fire."""

import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tk_client import Client
from tk_fresh import clean_environ
from tk_http import get, get_json, request
from tk_metrics import METRICS
from tk_prometheus import free_port
from tk_rules import SHIPPED, Ruled, demo, selectors
from tk_service import Service
from tk_wait import eventually

GROUPS = [group for path in SHIPPED.glob("rules/*.yml") for group in yaml.safe_load(path.read_text())["groups"]]
RULES = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = [rule["record"] for rule in RULES if "record" in rule]
ALERTS = {rule["alert"] for rule in RULES if "alert" in rule}

EMPTY = {
    "tracekeep_series_overflow_total": "no metric has reached its limit",
    "tracekeep_metrics_rejected_total": "all metrics can be kept",
    "tracekeep_metrics_collect_failures_total": "all collectors work",
}
"""What a healthy demo does not expose, and why."""

DEMO_ALERTS = {"ErrorRatioBurnsFast", "ErrorRatioBurnsSlowly", "LatencyBurnsSlowly"}
"""Its customers provoke them: one request in fifty fails, one in 25 takes over half a second."""
FAULT_ALERTS = {
    "LatencyBurnsFast",
    "ErrorGroupRegressed",
    "NewErrorGroup",
    "TracekeepCollectFailures",
    "TracekeepDegraded",
    "TracekeepHistoryNearLimit",
    "TracekeepJournalNearLimit",
    "TracekeepMetricsRejected",
    "TracekeepRecordsDropped",
    "TracekeepSeriesOverflow",
    "TracekeepUnreachable",
    "TracekeepWriterStalled",
}

SMALL = {
    "series_limit": 1,
    "metric_limit": 0,
    "segment_bytes": 1 << 19,
    "journal_max_bytes": 4 << 20,
    "memory_max_bytes": 0,
    "history_max_bytes": 4 << 20,
}
"""Settings with which every limit is soon reached."""


def test_selectors():
    """The test below sees what rules ask for."""
    asked = (
        'sum by (a) (rate(x_total{b=~"5.."}[5m])) / on (c) y > 2 * scalar(s:t:u) unless last_over_time(z[1h] offset 5m)'
    )
    assert selectors(asked) == ['x_total{b=~"5.."}', "y", "s:t:u", "z"]


def test_every_alert_is_made():
    """Each alert fires in a test here."""
    assert DEMO_ALERTS | FAULT_ALERTS == ALERTS


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """Give a Prometheus that has scraped the demo under load until all that is recorded is there."""
    folder = tmp_path_factory.mktemp("healthy")
    with demo(folder, "--rate", "100") as port, Ruled("prometheus", folder / "prometheus", port) as prometheus:
        prometheus.demo_port = port
        eventually(lambda: prometheus.firing() >= DEMO_ALERTS, 40, every=0.5)
        yield prometheus


@pytest.fixture
def prometheus(require, request):
    """Give the one above, where the program is there."""
    require("prometheus")
    return request.getfixturevalue("healthy")


def test_inputs_exist(prometheus):
    """Every selector of every rule finds series in the demo, or is listed with the reason why not."""
    asked = {each for rule in RULES for each in selectors(rule["expr"])}
    missing = {each for each in asked if not prometheus.query(f"count({each})")}
    assert missing == set(EMPTY)


def test_rules_evaluate(prometheus):
    """No rule fails, and each recording rule that has data to work with gives a value for the service."""
    for name in RECORDED:
        found = prometheus.query(name)
        assert found, name
        assert {each["metric"].get("service") for each in found} == (
            {"shop"} if name.startswith("service:") else {None}
        )
    failures = prometheus.query("prometheus_rule_evaluation_failures_total > 0")
    assert not failures


def test_only_what_is_wrong_fires(prometheus):
    """A healthy demo fires no alert but those on the requests that its customers make fail or wait."""
    assert prometheus.firing() == DEMO_ALERTS


def test_ratios_are_the_demos(prometheus):
    """Two of its 50 kinds of requests are slow, one fails; none is counted twice or left out."""
    assert prometheus.value("service:request_errors:ratio_rate1h") == pytest.approx(0.02, abs=0.012)
    assert prometheus.value("service:request_slow:ratio_rate1h") == pytest.approx(0.04, abs=0.025)


def test_slow_requests_fire(prometheus):
    """Many slow requests fire what is for them."""
    askers = [threading.Thread(target=_ask_slowly, args=(prometheus.demo_port,)) for _ in range(20)]
    for each in askers:
        each.start()
    try:
        eventually(lambda: "LatencyBurnsFast" in prometheus.firing(), 30, every=0.5)
    finally:
        for each in askers:
            each.join()


def _ask_slowly(port):
    for _ in range(5):
        assert get(port, "/reports/sales?days=31").status == 200


def test_faults_fire(require, tmp_path):
    """Small limits, locked databases, no writer, a broken collector, death: each fires its alerts."""
    seen = set()
    folder = tmp_path / "data"
    with (
        Service(folder, tmp_path, settings=SMALL) as service,
        _broken_collector(tmp_path) as broken,
        Ruled(require("prometheus"), tmp_path / "prometheus", service.port, broken) as prometheus,
    ):

        def fires(*wanted):
            eventually(lambda: seen.update(prometheus.firing()) or seen.issuperset(wanted), 30, every=0.3)

        with Client(service.port, rate=60, paths=("/quick", "/attributes/long-key", "/work/1")):
            fires("TracekeepSeriesOverflow", "TracekeepMetricsRejected", "TracekeepCollectFailures")
            fires("TracekeepHistoryNearLimit")
            for _ in range(2):  # `increase` can't see the first; its other case needs a quarter of an hour
                _come_back(service.port, prometheus)
            assert get(service.port, "/attributes/surrogate-message").status == 200  # another error
            fires("ErrorGroupRegressed", "NewErrorGroup")
            with _locked(folder / "aggregates.db", max((folder / "history").glob("*.db"))):
                fires("TracekeepDegraded", "TracekeepJournalNearLimit")
                eventually(lambda: _drops(service.port), 20)
            fires("TracekeepRecordsDropped")
        service.kill_all()
        service.settings = {"writer": "none"}
        service.start_all()
        service.wait_ready()
        fires("TracekeepWriterStalled")
        service.kill_all()
        service.shared.close()  # else a scrape waits in its backlog
        fires("TracekeepUnreachable")
    assert seen >= FAULT_ALERTS - {"LatencyBurnsFast"}


def test_restart_fires_nothing(require, tmp_path):
    """After kill -9 of all workers and a new start no alert has fired, and none is about to."""
    with (
        Service(tmp_path / "data", tmp_path, workers=2) as service,
        Ruled(require("prometheus"), tmp_path / "prometheus", service.port, patient=True) as prometheus,
        Client(service.port, rate=60, paths=("/quick", "/work/1", "/stream")) as client,
    ):
        total = "sum(http_server_request_duration_seconds_count)"
        before = eventually(lambda: prometheus.value(total), 20)
        service.kill_all()
        eventually(lambda: prometheus.value("up") == 0, 20)
        service.start_all()
        service.wait_ready()
        eventually(lambda: prometheus.value(total) > before, 20)
        eventually(lambda: not prometheus.query("ALERTS"), 10)
        assert not prometheus.query('count_over_time(ALERTS{alertstate="firing"}[10m])')
        assert prometheus.value("sum(resets(http_server_request_duration_seconds_count[10m]))") == 0
    assert client.received


def _come_back(port, prometheus):
    """Let an error happen, resolve it, and let it happen again until Prometheus has seen that."""
    counted = "sum(tracekeep_error_groups_regressed_total)"
    before = prometheus.value(counted)
    assert get(port, "/fail").status == 500
    groups = "/observability/monitoring/errors/groups"
    (group,) = eventually(lambda: get_json(port, f"{groups}?type=RuntimeError&limit=1")["groups"], 10)
    assert request("POST", port, f"{groups}/{group['id']}/resolve").status == 200
    assert get(port, "/fail").status == 500
    eventually(lambda: prometheus.value(counted) > before, 10)


def _drops(port):
    account = yaml.safe_load(get(port, "/observability/monitoring/accounting").text)
    return account["dropped"]["journal_full"] > 0


@contextmanager
def _locked(*paths):
    held = [sqlite3.connect(path, isolation_level=None, timeout=10) for path in paths]
    try:
        for each in held:
            each.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        for each in held:
            each.close()


@contextmanager
def _broken_collector(folder):
    """A service one of whose collectors raises; gives its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tk_metrics_app:app", "--port", str(port), "--log-level", "critical"]
    settings = {"TK_BROKEN": "1", "TRACEKEEP_DATA_DIR": str(folder / "broken"), "TRACEKEEP_METRICS_INTERVAL": "0.5"}
    environment = clean_environ() | settings
    support = Path(__file__).parents[1] / "support"
    with (folder / "broken.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=support, env=environment, stdout=log, stderr=log)
    try:
        eventually(lambda: re.search("collect_failures", get(port, METRICS).text), 30)
        yield port
    finally:
        process.kill()
        process.wait()
