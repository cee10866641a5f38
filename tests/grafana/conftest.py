"""The demo shop and a guest service on one data directory, and a real Prometheus that scrapes them."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from tk_http import get
from tk_prometheus import Prometheus, free_port
from tk_wait import eventually

_GUEST = Path(__file__).parent.parent / "support" / "tk_guest.py"
_LIMITS = {
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=testing,service.version=1.2.3",
    "TRACEKEEP_SERIES_LIMIT": "120",
    "TRACEKEEP_METRIC_LIMIT": "40",
    "TRACEKEEP_METRICS_INTERVAL": "1s",
}


class Place:
    """What runs, and until when a query may still be empty."""

    def __init__(self, prometheus, port, patience):
        self.prometheus, self.port = prometheus, port
        self._until = time.monotonic() + patience

    def patiently(self, check):
        """Wait for something with the patience that all have together."""
        return eventually(check, max(0.0, self._until - time.monotonic()), every=0.25)


@pytest.fixture(scope="session")
def place(require, tmp_path_factory):
    """A shop under load, a service that calls it names and breaks its limits, and their Prometheus."""
    program, folder = require("prometheus"), tmp_path_factory.mktemp("place")
    port, environment = free_port(), _environment()
    command = ["-m", "tracekeep", "demo", "--port", str(port), "--data-dir", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        shop = subprocess.Popen([sys.executable, *command], env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: get(port, "/observability/health").status == 200, 30)
            with (
                Prometheus(program, folder / "prometheus", port) as prometheus,
                guest(folder / "data", environment, log),
            ):
                yield Place(prometheus, port, 60)
        finally:
            _end(shop)


def _environment():
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TRACEKEEP_"))}
    return kept | _LIMITS


class guest:  # noqa: N801 - read as a function
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
