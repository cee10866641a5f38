"""`tracekeep demo`, as somebody runs it: it says what to open, and its totals outlive its death."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil
import pytest
from tk_fresh import clean_environ
from tk_http import get, get_json
from tk_metrics import scrape, server_spans
from tk_prometheus import free_port
from tk_wait import eventually

COMMAND = [sys.executable, "-m", "tracekeep", "demo"]
START_S = 30
STOP_S = 8  # takes 1 to 3 s, more where other tests keep the machine busy


class Demo:
    """A running demo and all that it has printed."""

    def __init__(self, port, data_dir):
        self.port = port
        environment = clean_environ()
        self.process = subprocess.Popen(
            [*COMMAND, "--port", str(port), "--data-dir", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,  # so that Ctrl-C can be sent to it and its workers as a terminal does
        )
        self.lines = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout))
        self._reader.start()

    @property
    def said(self):
        return "".join(list(self.lines))

    def children(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_open(self):
        def check():
            assert self.process.poll() is None, self.said
            return "the totals go on" in self.said

        eventually(check, START_S)

    def total(self):
        return server_spans(scrape(self.port))

    def end(self, number, *, group=False):
        """Send a signal; gives the exit status once the command and all that it started have gone."""
        children = self.children()
        (os.killpg if group else os.kill)(self.process.pid, number)
        began = time.monotonic()
        status = self.process.wait(timeout=STOP_S)
        _, left = psutil.wait_procs(children, timeout=STOP_S)
        assert not left, f"left behind: {left}"
        assert time.monotonic() - began < STOP_S
        self.close()
        return status

    def close(self):
        self._reader.join()
        self.process.stdout.close()


@contextmanager
def demo(port, data_dir):
    running = Demo(port, data_dir)
    try:
        yield running
    except BaseException:
        print(running.said)
        raise
    finally:
        if running.process.poll() is None:
            running.end(signal.SIGKILL)
        running.close()


def test_it_says_what_to_open_and_goes_on_after_kill(tmp_path):
    """All printed addresses answer; after SIGKILL of the command a new one goes on from the same totals."""
    port, data_dir = free_port(), tmp_path / "data"
    with demo(port, data_dir) as first:
        first.wait_open()
        addresses = re.findall(rf"http://127\.0\.0\.1:{port}(/\S+)", first.said)
        assert {"/observability/metrics", "/observability/monitoring/errors"} <= set(addresses)
        assert any(re.fullmatch(r"/observability/monitoring/traces/[0-9a-f]{32}", each) for each in addresses)
        for address in addresses:
            assert get(port, address).status == 200, address
        eventually(lambda: first.total() > 100, 15)
        errors = eventually(lambda: _errors(port, critical=1, operational=2), 15)
        before = first.total()
        first.end(signal.SIGKILL)
        assert str(data_dir) in first.said
    with demo(port, data_dir) as second:
        second.wait_open()
        assert second.total() >= before
        eventually(lambda: second.total() > before + 50, 15)
        now = get_json(port, "/observability/monitoring/errors")["stats"]
        assert all(now[key] >= errors[key] for key in ("total", "critical", "operational"))
        account = get_json(port, "/observability/monitoring/accounting")
        assert account["balanced"], account
        assert second.end(signal.SIGINT, group=True) == 0
        assert "Traceback" not in first.said + second.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_while_it_starts(tmp_path, number):
    """Stopped before the shop has opened: no traceback and nobody left behind."""
    with demo(free_port(), tmp_path / "data") as running:
        eventually(lambda: len(running.children()) >= 2, START_S)
        assert running.end(number) == 0
        assert "Traceback" not in running.said


def test_a_worker_that_dies_is_replaced(tmp_path):
    """After kill -9 of both workers the shop is served again, and no total has fallen."""
    port = free_port()
    with demo(port, tmp_path / "data") as running:
        running.wait_open()
        eventually(lambda: running.total() > 30, 15)
        before = running.total()
        for child in running.children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
        eventually(lambda: running.total() > before + 30, START_S)
        assert running.end(signal.SIGHUP) == 0, "as when its terminal is closed"
        assert "Traceback" not in running.said


def test_a_port_in_use_is_said_in_one_line(tmp_path):
    """Another server on the port: one line that names it and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with demo(port, tmp_path / "data") as running:
            assert running.process.wait(timeout=START_S) != 0
            running.close()
            assert len(running.lines) == 1
            assert str(port) in running.said
            assert "--port" in running.said


def test_a_folder_that_cannot_be_is_said_in_one_line(tmp_path):
    """A data folder whose parent is a file: one line that names it and says what to do."""
    (tmp_path / "file").touch()
    with demo(free_port(), tmp_path / "file" / "data") as running:
        assert running.process.wait(timeout=START_S) != 0
        running.close()
        assert len(running.lines) == 1
        assert "--data-dir" in running.said


def _errors(port, **at_least):
    stats = get_json(port, "/observability/monitoring/errors")["stats"]
    return stats if all(stats[key] >= value for key, value in at_least.items()) else None
