"""Clients outside the service: they record the trace of each response that they received whole."""

import http.client
import itertools
import threading
import time
from dataclasses import dataclass

from tk_http import send

_PATHS = ("/quick", "/work/1", "/work/2", "/stream", "/fail", "/work/3", "/quick", "/work/4")
_REQUESTS_PER_CONNECTION = 10  # then a new one, which lands on any worker


@dataclass(frozen=True)
class Received:
    trace_id: str
    status: int
    path: str
    sent_at: float
    seconds: float


class Client:
    """`rate` requests per second altogether, from a few threads, one at a time each; `with` runs it."""

    def __init__(self, port, *, rate=200.0, threads=8, paths=_PATHS, timeout=10.0):
        self.port, self.paths, self.timeout = port, paths, timeout
        self.received: list[Received] = []
        self.unanswered: list[Exception] = []
        self._pause = threads / rate
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """Let what is under way end; send nothing more."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ids(self):
        return [received.trace_id for received in list(self.received)]

    def p99(self, since=0.0):
        """In seconds, of the requests sent since then."""
        times = sorted(each.seconds for each in list(self.received) if each.sent_at >= since)
        return times[int(len(times) * 0.99)]

    def _run(self, first):
        paths = itertools.islice(itertools.cycle(self.paths), first, None)
        while not self._stop.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            for path in itertools.islice(paths, _REQUESTS_PER_CONNECTION):
                usable = self._visit(connection, path)
                if self._stop.is_set() or not usable:
                    break
            connection.close()

    def _visit(self, connection, path):
        """Send one request, then wait for the next one's turn; gives whether the connection can go on."""
        started = time.monotonic()
        try:
            received = _ask(connection, path, started)
            self.received.append(received)
        except OSError as error:
            self.unanswered.append(error)
            received = None
        self._stop.wait(max(0.0, started + self._pause - time.monotonic()))
        return received is not None and received.status < 500  # uvicorn closes after an unhandled exception


def _ask(connection, path, started):
    response = send(connection, "GET", path)
    trace_id = response.headers.get("x-trace-id") or response.json["trace_id"]
    return Received(trace_id, response.status, path, started, time.monotonic() - started)
