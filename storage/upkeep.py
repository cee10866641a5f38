"""What the writer does each second beside storing: what no record brings along, what has died, what has grown old."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from .batch import count_quiet, finish
from .custody import Custody
from .rebuild import rebucket

_logger = logging.getLogger("tracekeep")

_SUMMING = 0.02  # s a second for rollups of hours, while there are any to be made


class Upkeep:
    """The writer's housekeeping; every method can be tried again after a failure.

    Args:
        custody: what is kept.
        announce: tells everybody that something has been committed.
    """

    def __init__(self, custody: Custody, announce: Callable[[], None]) -> None:
        self._custody = custody
        self._announce = announce
        self._partitions: frozenset[int] = frozenset()

    def tend(self, caught_up: float) -> None:
        """Do all of it but retention.

        Args:
            caught_up: monotonic time up to which everything that was journaled has been stored.
        """
        self._count_without_records(caught_up)
        self._finish_dead()
        self._rebucket()
        self._tend_exemplars()
        with self._custody.blaming("aggregates"):
            self._custody.databases.aggregates.sum_up_hours(time.time(), _SUMMING)

    def retire_old(self) -> None:
        """Drop what retention no longer keeps."""
        history, blaming = self._custody.databases.history, self._custody.blaming
        with blaming("history"):
            expired = history.expired(time.time_ns())
        self._tend_exemplars(expired)
        with blaming("history"):
            history.drop(expired, self._custody.databases.aggregates.groups.kept_traces())
        with blaming("aggregates"):
            self._custody.databases.aggregates.prune(time.time())

    def _tend_exemplars(self, leaving: Collection[Path] = ()) -> None:
        """Drop exemplars that lead nowhere, or will when some partitions leave; confirm those that lead somewhere."""
        aggregates, history = self._custody.databases.aggregates, self._custody.databases.history
        with self._custody.blaming("history"):
            held = frozenset(opened for path, opened in history.present().items() if path not in leaving)
            change = aggregates.begin()
            change.exemplars = aggregates.metrics.candidates.confirm(history.holds, history.opened, change.time)
        with self._custody.blaming("aggregates"):
            if held != self._partitions:
                aggregates.metrics.keep_exemplars(change, held)
            if change.exemplars:
                aggregates.apply(change)
                self._announce()
            self._partitions = held

    def _rebucket(self) -> None:
        """Count histograms anew whose bounds the settings have changed, once the totals have all of the history."""
        bases = self._custody.databases
        if not bases.aggregates.metrics.outdated or not bases.is_folded():
            return
        names = ", ".join(bases.aggregates.metrics.outdated)
        _logger.info("tracekeep: %s: counted anew from the history, as the settings give other buckets", names)
        with self._custody.blaming("aggregates"):
            rebucket(bases.history.directory, bases.aggregates)
        self._announce()

    def _count_without_records(self, caught_up: float) -> None:
        """Take in what no record brings: the own counters of processes that say nothing else, and that time passes."""
        aggregates = self._custody.databases.aggregates
        with self._custody.blaming("aggregates"):
            change = aggregates.begin()
            for name, reader in self._custody.gather.readers.items():
                count_quiet(change, name, reader.state(), aggregates)
            aggregates.edges.expire(change, caught_up)
            if not (change.accounting or change.graph):
                return
            aggregates.apply(change)
        self._announce()

    def withdraw_dead(self) -> None:
        """Take back at once what dead processes said of themselves, however much they left to be read."""
        aggregates = self._custody.databases.aggregates
        gone = [name for name in aggregates.metrics.givers() if name in self._custody.gather.dead()]
        if gone:
            change = aggregates.begin()
            for name in gone:
                aggregates.metrics.withdraw(change, name)
            with self._custody.blaming("aggregates"):
                aggregates.apply(change)

    def _finish_dead(self) -> None:
        """Account for dead processes' journals that are read to their end, and remove them."""
        bases = self._custody.databases
        done = [name for name, reader in self._custody.gather.readers.items() if reader.is_finished()]
        if done:
            change = bases.aggregates.begin()
            for name in done:
                reader = self._custody.gather.readers[name]
                finish(change, name, reader.position, reader.state(), bases.aggregates)
                change.marks[name] = reader.position
            with self._custody.blaming("aggregates"):
                bases.aggregates.apply(change)
            self._custody.make_durable()
            done = [name for name in done if self._custody.gather.remove_finished(name)]
        done += bases.orphaned_marks(self._custody.data_dir / "journal")
        if done:
            with self._custody.blaming("aggregates"):
                forgetting = bases.aggregates.begin()
                forgetting.finished = done
                for name in done:
                    bases.aggregates.metrics.withdraw(forgetting, name)
                bases.aggregates.apply(forgetting)
            with self._custody.blaming("history"):
                bases.history.forget(done)
            self._announce()
        self._custody.gather.forget_missing()
