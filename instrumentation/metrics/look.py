"""One look at all collectors, each by itself, in a thread that can be left behind where one of them hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from .faults import Faults
from .reading import Reading
from .sources import Collector

HUNG_SECONDS = 2.0
"""A collector that takes longer is left to itself, and out of everything until it has answered."""
_SLICE = 0.05  # s after which patience is looked at again

Found = list[tuple[Collector, list[Reading]]]


class Look:
    """Reads collectors; remembers which of them hang.

    Args:
        faults: where what is wrong is counted.
        patience: seconds that one collector may take; may be changed at any time.
    """

    def __init__(self, faults: Faults, patience: float = HUNG_SECONDS) -> None:
        self._faults = faults
        self.patience = patience
        self._hung: dict[object, threading.Thread] = {}
        self.thread: threading.Thread | None = None
        """The one that reads just now."""

    def at(self, collectors: Sequence[Collector]) -> Found:
        """What each gives that answers; in their order."""
        self._hung = {key: thread for key, thread in self._hung.items() if thread.is_alive()}
        left = [each for each in collectors if each.key not in self._hung]
        found = Found()
        while left:
            reader = _Reader(left, self._faults)
            self.thread = reader.thread
            reader.start()
            found += reader.results(lambda: self.patience)
            stuck = reader.stuck()
            if stuck is not None:
                self._faults.count(stuck.name, "hung")
                self._hung[stuck.key] = reader.thread
            left = left[reader.position + 1 :] if stuck is not None else []
        self.thread = None
        return found


class _Reader:
    """Reads collectors one after the other, until it is told to stop."""

    def __init__(self, collectors: Sequence[Collector], faults: Faults) -> None:
        self._collectors = collectors
        self._faults = faults
        self._found = Found()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._stopped = False
        self.position = 0
        self.thread = threading.Thread(target=self._run, name="tracekeep-collect", daemon=True)

    def start(self) -> None:
        """Read in a thread; in this one where none can be had any more, at the end of the process."""
        try:
            self.thread.start()
        except RuntimeError:
            self._run()

    def results(self, patience: Callable[[], float]) -> Found:
        """Wait until all is read, or one takes too long: longer than what `patience` says by then, in seconds."""
        while not self._over.wait(_SLICE):
            with self._lock:
                if time.monotonic() - self._since >= patience():
                    self._stopped = True
                    break
        return list(self._found)

    def stuck(self) -> Collector | None:
        """The collector that has not answered in time."""
        return self._collectors[self.position] if self._stopped else None

    def _run(self) -> None:
        for position, collector in enumerate(self._collectors):
            with self._lock:
                if self._stopped:
                    return
                self.position, self._since = position, time.monotonic()
            readings = self._read(collector)
            with self._lock:
                if self._stopped:
                    return
                self._found.append((collector, readings))
                self._since = time.monotonic()
        self._over.set()

    def _read(self, collector: Collector) -> list[Reading]:
        readings: list[Reading] = []
        try:
            readings.extend(collector.read(self._faults))
        except Exception as error:
            self._faults.count(collector.name, "raised", error)
        return readings
