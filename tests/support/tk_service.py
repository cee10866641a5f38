"""Runs the service under test: worker processes that share one port and one data directory.

Every worker also answers on a port of its own, so that each can be asked by itself. The test owns the
listening sockets: a worker that is killed and started again has the same ports, and a request sent meanwhile
waits in the backlog.
"""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tk_fresh import clean_environ
from tk_http import get, get_json
from tk_wait import eventually

_APP = Path(__file__).with_name("tk_app.py")
_START_S = 30.0  # of all workers at once on a busy machine; usual is 2 s
_LOG_TAIL = 6_000


def _listener():
    return socket.create_server(("127.0.0.1", 0), backlog=512)


class Service:
    """`workers` processes of `tk_app.py`, started by `with`, ended with it whatever happens."""

    def __init__(self, data_dir, log_dir, *, workers=1, prefix=(), env=None, settings=None):
        self.data_dir, self.log_dir = Path(data_dir), Path(log_dir)
        self.prefix, self.settings = prefix, settings or {}
        self.env = {**clean_environ(), "PYTHONFAULTHANDLER": "1", **(env or {})}
        self.shared = _listener()
        self.own = [_listener() for _ in range(workers)]
        self.processes = [None] * workers

    @property
    def port(self):
        """The port that all workers answer on."""
        return self.shared.getsockname()[1]

    @property
    def ports(self):
        """The port of each worker."""
        return [listener.getsockname()[1] for listener in self.own]

    def __enter__(self):
        self.start_all()
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, failure, *_):
        for process in self.processes:
            if process is not None:
                process.kill()
                process.wait()
        for listener in (self.shared, *self.own):
            listener.close()
        if failure:
            self._show_logs()

    def start(self, index):
        fds = (self.shared.fileno(), self.own[index].fileno())
        command = [*self.prefix, sys.executable, str(_APP), "--data-dir", str(self.data_dir)]
        command += ["--fd", str(fds[0]), "--fd", str(fds[1]), "--settings", json.dumps(self.settings)]
        with (self.log_dir / f"worker-{index}.log").open("ab") as log:
            self.processes[index] = subprocess.Popen(command, pass_fds=fds, env=self.env, stdout=log, stderr=log)

    def start_all(self):
        for index in range(len(self.processes)):
            self.start(index)

    def wait_ready(self):
        for index, port in enumerate(self.ports):
            eventually(lambda index=index, port=port: self._answers(index, port), _START_S)

    def _answers(self, index, port):
        code = self.processes[index].poll()
        if code is not None:
            raise RuntimeError(f"worker {index} ended at start with {code}")
        return get(port, "/observability/health", timeout=_START_S).status == 200

    def kill(self, *indices):
        """SIGKILL these workers at once, and see them dead."""
        for index in indices:
            self.processes[index].send_signal(signal.SIGKILL)
        for index in indices:
            self.processes[index].wait()

    def kill_all(self):
        self.kill(*range(len(self.processes)))

    def stop(self):
        """SIGTERM all, as a deploy does; gives their exit codes."""
        for process in self.processes:
            process.terminate()
        return [process.wait(timeout=15) for process in self.processes]

    def writer(self):
        """Index of the worker that holds the writer's role; None while nobody of them does."""
        try:
            pid = get_json(self.port, "/observability/ready", timeout=2.0)["writer"]["pid"]
        except (AssertionError, OSError):
            return None
        pids = [process.pid for process in self.processes]
        return pids.index(pid) if pid in pids else None

    def health(self):
        return get_json(self.port, "/observability/health")

    def _show_logs(self):
        for path in sorted(self.log_dir.glob("worker-*.log")):
            print(f"--- {path.name}\n{path.read_bytes()[-_LOG_TAIL:].decode(errors='replace')}")
