"""The demo shop, alone and then with a guest that makes faults, and a real Prometheus that scrapes it."""

import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from tk_fresh import clean_environ
from tk_grafana import Dashboard, Unanswered, answer, boards, queries
from tk_http import get, get_json, request
from tk_prometheus import Prometheus, free_port
from tk_wait import eventually

EMPTY_BY_DESIGN = {
    ("graph", "p95 of messages' ways"): "until a service sends another one a message",
    ("runtime", "Gauges by worker"): "until the application has a gauge of that kind",
    ("tracekeep", "Overflow"): "until a metric has more series than its limit",
    ("tracekeep", "Rejected"): "until a metric of the application can't be kept",
    ("tracekeep", "Failures of collectors"): "until a collector of the application fails",
}
"""Panels that the shop alone leaves empty, and why; the guest fills them."""

WINDOW = "10s"
"""Stands for $__rate_interval and $__range: the shop has not run for long."""
_GUEST = Path(__file__).parent.parent / "support" / "tk_guest.py"
_MONITORING = "/observability/monitoring/errors"
_LIMITS = {
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=testing,service.version=1.2.3",
    "TRACEKEEP_SERIES_LIMIT": "120",
    "TRACEKEEP_METRIC_LIMIT": "40",
    "TRACEKEEP_METRICS_INTERVAL": "1s",
}
_ALONE_S, _TOGETHER_S = 60, 60


class Place:
    """What runs, what the shop alone left empty, and until when a query may still be."""

    def __init__(self, prometheus, port):
        self.prometheus, self.port = prometheus, port
        self._until = time.monotonic() + _ALONE_S
        self.alone = self._wait_for_the_shop()

    def patiently(self, check):
        """Wait for something with the patience that all have together."""
        return eventually(check, max(0.0, self._until - time.monotonic()), every=0.25)

    def opened(self):
        """All dashboards, as somebody opens them now."""
        return {name: Dashboard(board, self.prometheus, WINDOW) for name, board in boards().items()}

    def empty(self):
        """(dashboard, panel) of all that is empty now."""
        opened = self.opened()
        return {
            (query.board, query.place)
            for name, board in boards().items()
            for query in queries(name, board)
            if not self._is_answered(query, opened[name].fill(query.text))
        }

    def make_faults(self):
        """Resolve all error groups, so that the next errors are regressions; patience begins anew."""
        for group in get_json(self.port, f"{_MONITORING}/groups")["groups"]:
            assert request("POST", self.port, f"{_MONITORING}/groups/{group['id']}/resolve").status in {200, 202}
        self._until = time.monotonic() + _TOGETHER_S

    def _is_answered(self, query, expression):
        try:
            return answer(self.prometheus, query, expression)
        except Unanswered:
            return False

    def _wait_for_the_shop(self):
        """Until nothing but what is meant to be is empty, or for too long."""
        while (empty := self.empty()) - EMPTY_BY_DESIGN.keys() and time.monotonic() < self._until:
            time.sleep(0.5)
        return empty


@pytest.fixture
def empty_by_design():
    """(dashboard, panel) of what the shop alone leaves empty, with the reason."""
    return EMPTY_BY_DESIGN


@pytest.fixture(scope="package")  # and not for longer: it takes half a processor
def place(require, tmp_path_factory):
    """A shop under load and its Prometheus; then a service that calls it names and breaks its limits."""
    program, folder = require("prometheus"), tmp_path_factory.mktemp("place")
    port, environment = free_port(), clean_environ() | _LIMITS
    command = ["-m", "tracekeep", "demo", "--port", str(port), "--data-dir", str(folder / "data")]
    with (folder / "log").open("wb") as log, ExitStack() as stack:
        shop = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
        stack.callback(_end, shop)
        eventually(lambda: get(port, "/observability/health").status == 200, 30)
        found = Place(stack.enter_context(Prometheus(program, folder / "prometheus", port)), port)
        stack.enter_context(Guest(folder / "data", environment, log))
        found.make_faults()
        yield found


class Guest:
    """The guest, told to go on twice a second."""

    def __init__(self, data_dir, environment, log):
        self._command = [sys.executable, str(_GUEST), str(data_dir)]
        self._options = {"env": environment, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._drive)

    def __enter__(self):
        self._process = subprocess.Popen(self._command, text=True, **self._options)
        assert self._process.stdout.readline() == "ready\n"
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()

    def _drive(self):
        while not self._stop.wait(0.5):
            self._process.stdin.write("go on\n")
            self._process.stdin.flush()


def _end(shop):
    """The command and all that it started."""
    family = [*psutil.Process(shop.pid).children(recursive=True), shop]
    for each in family:
        each.kill()
    psutil.wait_procs(family[:-1], timeout=10)
    shop.wait()
