"""What went wrong while metrics were read: counted by collector and reason, logged once each."""

from __future__ import annotations

import logging
import threading

from ...storage.families import Labels, bounded
from .reading import Point, Reading

_logger = logging.getLogger("tracekeep")

NAME = "tracekeep_metrics_collect_failures"
_HELP = "Faults while an application's own metrics were read, by collector and reason."
_MAX_COLLECTORS = 100
"""Distinct collectors that are told apart; those after it are counted together."""
_OTHERS = "others"

REASONS = {
    "raised": "raised an exception",
    "hung": "did not answer in time; it is left out until it does",
    "invalid": "gave something that is no metric; that is left out",
    "duplicate": "gave a series twice; the first is kept",
    "conflict": "gave a metric whose name is taken by another of a different kind; it is left out",
    "limit": "gave more than is kept; the rest is left out",
    "unsupported": "gave a histogram that can't be converted; it is left out",
}
"""By reason, how it goes on."""


class Faults:
    """Counts by collector and reason. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], int] = {}
        self._names: set[str] = set()
        self._told: set[tuple[str, str]] = set()

    def count(self, collector: str, reason: str, detail: object = "", *, times: int = 1) -> None:
        """Note a fault. An exception as the detail is logged with its traceback."""
        with self._lock:
            name = bounded(collector)
            if name not in self._names and len(self._names) >= _MAX_COLLECTORS:
                name = _OTHERS
            self._names.add(name)
            key = (name, reason)
            self._counts[key] = self._counts.get(key, 0) + times
            if key in self._told:
                return
            self._told.add(key)
        error = detail if isinstance(detail, BaseException) else None
        _logger.warning(
            "tracekeep: the metrics collector %s %s%s (counted in %s_total; this is logged once)",
            name,
            REASONS[reason],
            f": {bounded(detail)}" if detail else "",
            NAME,
            exc_info=error,
        )

    def reading(self) -> Reading:
        """The counts as a metric of their own."""
        with self._lock:
            points: dict[Labels, Point] = {
                (("collector", collector), ("reason", reason)): Point(count)
                for (collector, reason), count in self._counts.items()
            }
        return Reading(NAME, "counter", _HELP, points=points)

    def forget(self) -> None:
        """Begin at 0, in a forked child; what has been logged stays so."""
        self._lock = threading.Lock()
        self._counts = {}
