"""The recorder: looks at an application's metrics now and then, and journals what has changed.

A thread of its own does it, so that a collector that hangs keeps nobody waiting. Whoever needs the newest
(a scrape, the end of the process) asks for a look and waits for it, up to a bound; those who ask at the same
time share one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing import util

from ...storage import Store
from ...storage.families import FAMILIES
from ...storage.records import FrameType
from .faults import Faults
from .ledger import Ledger
from .look import HUNG_SECONDS, Look
from .payloads import payloads
from .reading import FaultError, Reading, Readings
from .sources import Source

_logger = logging.getLogger("tracekeep")

SCRAPE_SECONDS = 0.25
"""The most that a scrape waits for this process's own metrics."""
EXIT_SECONDS = 1.0
"""The most that the end of the process waits for them."""
_FORK_SECONDS = 1.0
"""The most that a fork waits for a look that is under way, so that the child inherits no lock of it."""
_REST = 9
"""Times as long as a look took there is none, unless somebody asks: it takes a tenth of a processor at most."""
_FINALIZE_FIRST = 100
"""Before what an application finalises: its counts are complete then, as far as they will be."""
_MAX_PAYLOAD = 1 << 17
"""Bytes of a record: a segment is left with little room unused."""


class MetricsRecorder:
    """Journals the metrics of this process, and of each process forked from it.

    Args:
        store: where to.
        sources: what to look at.
        interval: seconds between two looks.
        policies: how the gauges of several processes become one, by name of the metric.
        patience: seconds that one collector may take.
    """

    def __init__(
        self,
        store: Store,
        sources: Sequence[Source],
        *,
        interval: float = 5.0,
        policies: Mapping[str, str] | None = None,
        patience: float = HUNG_SECONDS,
    ) -> None:
        self._store = store
        self._sources = sources
        self._interval = interval
        self._patience = patience
        self._policies = policies or {}
        self._limit = min(_MAX_PAYLOAD, store.settings.segment_bytes // 4)
        self.faults = Faults()
        self._ledger = Ledger(store.settings.series_limit)
        self._forked_ns = 0
        self._known_own: set[str] = set()
        self._baseline: Readings | None = None
        self._reset()

    def _reset(self) -> None:
        self._closed = False
        self._state = threading.Condition(threading.Lock())
        self._gate = threading.Lock()
        self._asked = self._answered = 0
        self._thread: threading.Thread | None = None
        self._look = Look(self.faults, self._patience)

    def start(self) -> MetricsRecorder:
        """Begin, and be there for scrapes, forks and children of this process."""
        self._store.before_scrape.append(self.flush)
        _recorders.add(self)
        util.register_after_fork(self, _close_at_end)
        self._start_thread()
        return self

    def flush(self, timeout: float = SCRAPE_SECONDS) -> bool:
        """Journal what has changed up to now.

        Args:
            timeout: seconds; the most it waits.

        Returns:
            Whether it has been done within the bound; otherwise it will be.
        """
        if self._closed or threading.current_thread() is self._look.thread:  # a collector that flushes its provider
            return False
        with self._state:
            self._asked = ticket = self._asked + 1
            self._state.notify_all()
        if self._thread is None and not self._start_thread():
            self._serve(ticket)  # no thread can be had any more, at the end of the process
        with self._state:
            return self._state.wait_for(lambda: self._answered >= ticket, timeout)

    def close(self, timeout: float = EXIT_SECONDS) -> None:
        """Journal what is there, and look no more."""
        if not self._closed:
            self._look.patience = min(self._look.patience, timeout / 4)  # one that hangs must not cost the others
            self.flush(timeout)
            self._closed = True
            with self._state:
                self._state.notify_all()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._run, name="tracekeep-metrics", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            self._thread = None
            return False
        return True

    def _run(self) -> None:
        ticket = 0
        while not self._closed:
            started = time.monotonic()
            self._serve(ticket)
            pause = max(self._interval, _REST * (time.monotonic() - started))
            with self._state:
                self._state.wait_for(lambda: self._asked > self._answered or self._closed, pause)
                ticket = self._asked

    def _serve(self, ticket: int) -> None:
        """One look, for all who have asked up to a ticket."""
        try:
            with self._gate:
                self._record()
        except Exception:  # a defect of ours must not stop the next look
            _logger.warning("tracekeep: metrics could not be recorded", exc_info=True)
        with self._state:
            self._answered = max(self._answered, ticket)
            self._state.notify_all()

    def _record(self) -> None:
        collectors = [each for source in self._sources for each in source.collectors()]
        readings, inherited = Readings(self._policies), []
        for collector, found in self._look.at(collectors):
            for reading in found:
                taken = self._take(readings, reading, collector.name, additive=collector.is_additive)
                if taken and self._forked_ns and not collector.is_safe:
                    inherited.append(reading)
        readings.take(self.faults.reading(), own=True)
        if inherited:
            self._ledger.adopt(inherited, before=self._forked_ns)
        self._forked_ns = 0
        families, gone = self._ledger.take(readings)
        append = self._store.journal.append
        for payload in payloads(time.time_ns(), families, gone, self._limit, self._lose):
            append(FrameType.METRICS, payload, important=True)

    def _take(self, readings: Readings, reading: Reading, collector: str, *, additive: bool) -> bool:
        """Take a metric in; whether it is."""
        if reading.name in FAMILIES:
            if reading.name not in self._known_own:
                self._known_own.add(reading.name)
                _logger.info(
                    "tracekeep: %s of %s is left out: tracekeep makes it from the spans", reading.name, collector
                )
            return False
        try:
            duplicates = readings.take(reading, additive=additive)
        except FaultError as fault:
            self.faults.count(collector, fault.reason, fault)
            return False
        if duplicates:
            self.faults.count(collector, "duplicate", reading.name, times=duplicates)
        return True

    def _lose(self, name: str, error: Exception) -> None:
        """Something of a metric can't be written."""
        self.faults.count(name, "invalid", error)

    # --- forks -------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let a look that is under way end, and note what the child inherits: the parent counts that.

        Looks run other people's code, whose locks the child must not inherit; what is read here doesn't.
        """
        if self._closed or threading.current_thread() is self._look.thread:
            return
        self._gate_held = self._gate.acquire(timeout=_FORK_SECONDS)
        baseline = Readings(self._policies)
        for source in self._sources:
            try:
                for reading in source.read_at_fork(self.faults):
                    self._take(baseline, reading, "at fork", additive=source.is_additive)
            except Exception as error:
                self.faults.count("at fork", "raised", error)
        self._baseline = baseline

    _gate_held = False

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._baseline = None
        if self._gate_held:
            self._gate_held = False
            self._gate.release()

    def after_fork_in_child(self) -> None:
        """Begin with nothing journaled, and what was there at the fork counted by the parent."""
        closed, self._gate_held = self._closed, False
        self._reset()
        self.faults.forget()
        self._ledger = Ledger(self._store.settings.series_limit)
        self._forked_ns = time.time_ns()
        if self._baseline is not None:
            self._ledger.adopt(self._baseline.values())
        self._baseline, self._closed = None, closed
        if not closed:
            self._start_thread()


def _close_at_end(recorder: MetricsRecorder) -> None:
    """A child of `multiprocessing` ends without `atexit`; it has finalisers of its own."""
    util.Finalize(None, recorder.close, exitpriority=_FINALIZE_FIRST)


_recorders: weakref.WeakSet[MetricsRecorder] = weakref.WeakSet()


def _before_fork() -> None:
    for recorder in list(_recorders):
        recorder.before_fork()


def _after_fork_in_parent() -> None:
    for recorder in list(_recorders):
        recorder.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
