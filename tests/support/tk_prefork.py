"""Runs `tk_metrics_app` under the servers that people use: a master that keeps some workers alive."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
from tk_http import send
from tk_wait import eventually

SERVERS = {
    "uvicorn": "-m uvicorn tk_metrics_app:app --fd {fd} --workers {workers} --log-level warning --no-access-log",
    "gunicorn": "-m gunicorn tk_metrics_app:app -k uvicorn_worker.UvicornWorker --bind fd://{fd} -w {workers} "
    "--log-level warning --no-control-socket",
}
SERVERS["gunicorn-preload"] = SERVERS["gunicorn"] + " --preload"
_START_S = 40.0
_STACKS = "Current thread 0x"
"""What `faulthandler` writes once."""


class Prefork:
    """A server of four workers, started by `with`, and all of its processes ended with it."""

    def __init__(self, server, data_dir, log_dir, *, workers=4, env=None):
        self.workers = workers
        self.log = Path(log_dir) / f"{server}.log"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._command = [sys.executable, *SERVERS[server].format(fd=self._listener.fileno(), workers=workers).split()]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TRACEKEEP_", "PROMETHEUS_"))}
        own = {"PYTHONPATH": str(Path(__file__).parent), "TRACEKEEP_DATA_DIR": str(data_dir)}
        self._env = kept | own | {"TRACEKEEP_METRICS_INTERVAL": "0.1"} | (env or {})

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, failure, *_):
        family = self._family()
        if failure:
            self.tell_stacks(family)
        self._process.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._listener.close()
        if failure:
            print(self.log.read_text(errors="replace")[-60_000:])

    def tell_stacks(self, family):
        """Have each worker write to the log what its threads are doing: what hangs is seen there."""
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGURG)
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.log.read_text(errors="replace").count(_STACKS) >= self.workers, 5)

    def start(self):
        with self.log.open("ab") as log:
            fd = self._listener.fileno()
            self._process = subprocess.Popen(self._command, pass_fds=[fd], env=self._env, stdout=log, stderr=log)
        self.wait_ready()

    def wait_ready(self):
        eventually(lambda: len(self.pids()) == self.workers, _START_S)

    def stop(self):
        """SIGTERM the master, as a deploy does, and see all end."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=20)

    def _family(self):
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []

    def pids(self):
        """Of the workers that serve just now."""
        assert self._process.poll() is None, "the master has ended"
        return set(self.visit_all("/pid", lambda _pid, response: response.json))

    def visit_all(self, path, take, *, connections=60):
        """Ask each worker that takes one of many connections: {pid: what was taken}."""
        open_, found = [], {}
        try:
            for _ in range(connections):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                open_.append(connection)
                number = send(connection, "GET", "/pid").json["pid"]
                if number not in found:
                    found[number] = take(number, send(connection, "GET", path))
                if len(found) == self.workers:
                    break
        finally:
            for connection in open_:
                connection.close()
        return found

    def operate(self, times):
        """Do so many operations in one process, any: (its pid, how many it has done)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            answer = send(connection, "POST", f"/operate/{times}").json
        finally:
            connection.close()
        return answer["pid"], answer["done"]

    def kill(self, pid):
        """SIGKILL a worker, and see another in its place."""
        victim = psutil.Process(pid)
        assert victim in self._family()
        victim.kill()
        eventually(lambda: pid not in self.pids() and len(self.pids()) == self.workers, _START_S)
