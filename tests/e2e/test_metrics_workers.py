"""A service's own metrics, under the servers that people use: any worker gives exactly what all have counted."""

import random
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tk_http import get
from tk_prefork import SERVERS, Prefork
from tk_wait import eventually

AT_IMPORT = 7
"""What `tk_metrics_app` counts when it is imported."""
METRICS = "/observability/metrics"
KILLS, LONG_KILLS = 3, 50
ROUND = 11
"""Operations before each kill."""
SCOPE = {"otel_scope_name": "shop", "otel_scope_version": "2.0"}
COUNTERS = {
    ("shop_custom_total", ("kind", "custom")),
    ("shop_order_seconds_count", ("kind", "a")),
    ("otel_orders_total", ("order_kind", "a")),
    ("otel_order_duration_seconds_count", None),
    ("otel_observed_total", ("kind", "callback")),
}
"""Samples that are the number of operations, with a label if they have one."""


def parse(text):
    """All samples of a page but those of processes, which go with them: {(name, labels): value}."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def value(samples, name, **labels):
    """Of the one sample with exactly these labels."""
    return samples.get((name, frozenset(labels.items())))


class Ledger:
    """What has been done, and by whom."""

    def __init__(self, service):
        self.service = service
        self.done = {}
        self.total = 0

    def operate(self, times):
        pid, self.done[pid] = self.service.operate(times)
        self.total += times

    def check(self, samples, living):
        """Each number on a page, exactly."""
        for name, label in COUNTERS:
            labels = dict([label] if label else []) | (SCOPE if name.startswith("otel") else {})
            assert value(samples, name, **labels) == self.total, name
        odd = value(samples, "shop_orders_total", kind="a") or 0
        assert odd + value(samples, "shop_orders_total", kind="b") == self.total
        low = value(samples, "shop_order_seconds_bucket", kind="a", le="1.0")
        assert low == value(samples, "otel_order_duration_seconds_bucket", le="1.0", **SCOPE)
        assert value(samples, "shop_order_seconds_sum", kind="a") == 0.5 * low + 1.5 * (self.total - low)
        alive = sum(done for pid, done in self.done.items() if pid in living)
        for gauge in ("shop_waiting", "shop_custom_level"):
            assert value(samples, gauge) == alive, gauge
        for gauge in ("otel_active", "otel_level"):
            assert (value(samples, gauge, **SCOPE) or 0) == alive, gauge
        assert value(samples, "shop_peak") == max((done for pid, done in self.done.items() if pid in living), default=0)

    def settle(self):
        """See that every worker's page says the same: everything."""
        pages = self.service.visit_all(METRICS, lambda _pid, response: response)
        assert len(pages) == self.service.workers
        for response in pages.values():
            assert response.status == 200, response.body[:300]
            self.check(parse(response.text), set(pages))
        return response.text


@pytest.mark.parametrize("server", SERVERS)
def test_exactly_what_was_counted(server, tmp_path, long):
    """Through workers that are killed and replaced, nothing is lost, counted twice or left behind."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Prefork(server, tmp_path / "data", tmp_path) as service:
        ledger = Ledger(service)
        ledger.operate(40)
        first = _lines(eventually(ledger.settle, 15))
        for _ in range(LONG_KILLS if long else KILLS):
            for _ in range(ROUND):
                ledger.operate(chance.randrange(1, 4))
            eventually(ledger.settle, 15)
            service.kill(chance.choice(sorted(service.pids())))
        ledger.operate(5)
        last = _lines(eventually(ledger.settle, 15))
        assert last <= first + 5, "the page grows with dead workers"
        if server == "gunicorn-preload":
            assert value(parse(get(service.port, METRICS).text), "shop_imported_total") == AT_IMPORT
        service.stop()


def _lines(text):
    return len(text.splitlines())


@pytest.mark.parametrize("server", SERVERS)
def test_shutdown_journals_the_last(server, tmp_path):
    """What is counted just before a deploy's SIGTERM is kept, however long the interval."""
    with Prefork(server, tmp_path / "data", tmp_path, env={"TRACEKEEP_METRICS_INTERVAL": "1h"}) as service:
        ledger = Ledger(service)
        for _ in range(8):
            ledger.operate(3)
        assert service.stop() in {0, -signal.SIGTERM}
        service.start()
        ledger.done.clear()
        samples = eventually(lambda: _with(service, ledger.total), 10)
        assert value(samples, "otel_orders_total", order_kind="a", **SCOPE) == ledger.total
        assert value(samples, "shop_order_seconds_count", kind="a") == ledger.total


def _with(service, total):
    samples = parse(get(service.port, METRICS).text)
    assert value(samples, "shop_custom_total", kind="custom") == total
    return samples


def test_a_broken_collector(tmp_path):
    """It raises at each look: everything else is right, and the fault is counted and logged once."""
    with Prefork("uvicorn", tmp_path / "data", tmp_path, workers=2, env={"TK_BROKEN": "1"}) as service:
        ledger = Ledger(service)
        ledger.operate(10)
        text = eventually(ledger.settle, 10)
        faults = "tracekeep_metrics_collect_failures_total"
        eventually(lambda: value(_page(service), faults, collector="Broken", reason="raised") >= 10, 10)
        assert value(parse(text), "shop_before_total") is not None
        assert service.log.read_text().count("collector Broken raised") <= 2, "once in each process"


def _page(service):
    return parse(get(service.port, METRICS).text)
