import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import pytest


@contextmanager
def served(data_dir, *args):
    """A `tracekeep serve` process and what it printed."""
    command = [sys.executable, "-m", "tracekeep", "serve", "--data-dir", str(data_dir), "--port", "0", *args]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TRACEKEEP_")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ)
    try:
        lines = list(iter(process.stdout.readline, "Stop with Ctrl-C.\n"))
        yield process, re.search(r"http://\S+?:\d+", "".join(lines))[0]
    finally:
        process.kill()
        process.communicate()


def get(url):
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def test_it_serves_and_takes_the_writers_role(tmp_path):
    """The URLs that it prints answer, and it drains the directory itself."""
    with served(tmp_path / "data") as (process, url):
        until = time.monotonic() + 10
        while (found := json.loads(get(f"{url}/ready")))["writer"]["pid"] != process.pid:
            assert time.monotonic() < until, found
        assert "tracekeep_writer_up 1\n" in get(f"{url}/metrics")
        assert json.loads(get(f"{url}/health"))["status"] == "ok"
        head = urllib.request.Request(f"{url}/metrics", method="HEAD")
        with urllib.request.urlopen(head, timeout=10) as response:
            assert (response.status, response.read()) == (200, b"")
            assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_when_told_to(tmp_path, sent):
    """Soon, with exit code 0, and without a word."""
    with served(tmp_path / "data") as (process, url):
        get(f"{url}/health")
        started = time.monotonic()
        process.send_signal(sent)
        _, errors = process.communicate(timeout=15)
        assert (process.returncode, errors) == (0, "")
        assert time.monotonic() - started < 8


def test_an_address_that_others_can_reach_is_pointed_out(tmp_path):
    """Whoever binds it should know what is open."""
    with served(tmp_path / "data", "--host", "0.0.0.0") as (process, _):
        assert process.stdout.readline().startswith("Anyone who can reach this address")
