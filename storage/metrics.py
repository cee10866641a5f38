"""All metrics in memory: definitions, limits, and the series that a batch counts in.

The writer holds everything that is exposed, so that a file that is lost is written anew without a counter going
back. What has expired stays in the database only, and goes on from there when it comes back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator
from dataclasses import replace
from typing import Any

from .change import Change, Metric
from .definitions import conflict, exposed_names
from .exemplars import PACE, Candidates, One, kept_in, newest, of_span
from .families import (
    BY_SERVICE,
    FAMILIES,
    HTTP_DURATION,
    OVERFLOW,
    OVERFLOWED,
    SPAN_CALLS,
    SPAN_LATENCY,
    STATUS_METRICS,
    FamilySpec,
    Labels,
    service_of,
)
from .fold import Fold
from .gauges import GaugeState, worker_label
from .intake import Row
from .metric_rows import delete_hidden, delete_unused, read_metric, read_metrics, read_series, write_metrics
from .naming import OTHER_SPECS
from .series import Delta, SeriesState, in_ns, sort_into
from .settings import StoreSettings

_AT_ZERO = frozenset(spec.name for spec in BY_SERVICE)
_OVERFLOW_READINGS = 4
"""Readings in an overflow series, in series limits: it takes memory to know what each of them was before."""


class Metrics:
    """What `aggregates.db` has of metrics, and what is in memory of it.

    Attributes:
        connection: the writer's.
        known: by name; the store's own are always there.
        born: since when nothing has been lost (ns): no series that is new began before.
        outdated: how those of the store's own histograms are to be whose buckets have other bounds so far.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self.connection: sqlite3.Connection
        self.known: dict[str, Metric] = {}
        self.born = 0
        self._names: dict[str, str] = {}
        self.candidates = Candidates()
        self.outdated: dict[str, FamilySpec] = {}
        self._wanted = {
            SPAN_LATENCY.name: replace(SPAN_LATENCY, bounds=settings.latency_buckets),
            HTTP_DURATION.name: replace(HTTP_DURATION, bounds=settings.http_duration_buckets),
        }
        self._bounds_ns: dict[str, list[int]] = {}

    def load(self) -> None:
        """Take in what the database has."""
        self.known = read_metrics(self.connection)
        self.outdated = {name: spec for name, spec in self._wanted.items() if not spec.matches(self.known[name].spec)}
        self._claim_names()
        self._bounds_ns = {name: in_ns(self.known[name].spec) for name in FAMILIES}

    def _claim_names(self) -> None:
        self._names = dict.fromkeys(STATUS_METRICS, "")
        for spec in OTHER_SPECS:
            self._names.update(dict.fromkeys(exposed_names(spec), ""))
        for name, metric in self.known.items():
            self._names.update(dict.fromkeys(exposed_names(metric.spec), name))

    # --- definitions -----------------------------------------------------------------------------------------------

    def define(self, change: Change, spec: FamilySpec, journal: str, dead: Container[str]) -> Metric | str:
        """The metric that a process gives with some definition, or why it can't be.

        The definition that the metric has counts while another live process gives the metric with it. Else the new
        one takes its place: all series begin anew with a new start time, so that buckets are never mixed.
        """
        name = spec.name
        if name in FAMILIES:
            return "name_taken"
        metric = change.metrics.get(name) or self.known.get(name)
        if metric is None:
            metric = read_metric(self.connection, name)
            refusal = self._refusal(change, spec)
            if refusal:
                return refusal
            metric = self._enter(change, metric or Metric(spec))
        users = metric.users | change.users.get(name, set())
        if not metric.spec.matches(spec):
            refusal = self._refusal(change, spec, renamed=True)
            if any(user != journal and user not in dead for user in users):
                return conflict(metric.spec, spec)
            if refusal:
                return refusal
            change.forget(name)
            users = set()
            metric = self._enter(change, Metric(spec, change.time, is_committed=False))
        if journal not in users and journal not in dead:
            change.users.setdefault(name, set()).add(journal)
            if (spec.help, spec.unit) != (metric.spec.help, metric.spec.unit):
                change.texts[name] = spec
        return metric

    def redefine(self, change: Change) -> None:
        """Have a change begin anew all histograms that are outdated."""
        change.metrics = {name: Metric(spec, change.time, is_committed=False) for name, spec in self.outdated.items()}

    def _refusal(self, change: Change, spec: FamilySpec, *, renamed: bool = False) -> str | None:
        """Why there can be no metric with a name and type that nobody has yet."""
        for exposed in exposed_names(spec):
            if self._names.get(exposed, change.names.get(exposed, spec.name)) != spec.name:
                return "name_taken"
        new = sum(name not in self.known for name in change.metrics)
        full = len(self.known) - len(FAMILIES) + new >= self._settings.metric_limit
        return "too_many_metrics" if full and not renamed else None

    @staticmethod
    def _enter(change: Change, metric: Metric) -> Metric:
        change.metrics[metric.spec.name] = metric
        change.names.update(dict.fromkeys(exposed_names(metric.spec), metric.spec.name))
        return metric

    def start_of(self, change: Change, metric: Metric, created: int) -> int:
        """When a new series began: as its process says, where that is not before what has been lost (ns)."""
        return min(max(created, self.born, metric.since), change.time) if created > 0 else change.time

    # --- totals ----------------------------------------------------------------------------------------------------

    def find(self, change: Change, metric: Metric, labels: Labels, start: int = 0) -> SeriesState:
        """The total with these labels; past the limit the overflow series.

        Args:
            change: it may be new with this.
            metric: whose series add up.
            labels: of the series.
            start: when it began, where it is new; else now (ns).

        Raises:
            sqlite3.Error: whether it has expired can't be read.
        """
        known = metric.totals
        state = known.get(labels)
        if state is None:
            if len(known) - (OVERFLOW in known) >= self._settings.series_limit:
                labels = OVERFLOW
                state = known.get(labels)
            if state is None:
                state = SeriesState(metric.spec, labels, start or change.time, change.time)
                if metric.is_committed:
                    state = read_series(self.connection, state) or state
                known[labels] = state
        return state

    def count(
        self, change: Change, spec: FamilySpec, labels: Labels, amount: float, exemplar: One | None = None
    ) -> None:
        """Add to one of the store's own counters."""
        delta = self.add(change, self.find(change, self.known[spec.name], labels), amount)
        if exemplar is not None:
            delta.exemplars = newest(delta.exemplars, {0: exemplar})

    def add(self, change: Change, state: SeriesState, amount: float) -> Delta:
        """Add to a series' value; what this change adds to it so far."""
        delta = change.delta(state)
        delta.value += amount
        if state.labels == OVERFLOW:
            self.count_overflow(change, state.spec, amount)
        return delta

    def count_overflow(self, change: Change, spec: FamilySpec, amount: float) -> None:
        """Note that something went to an overflow series."""
        if spec is not OVERFLOWED:
            self.count(change, OVERFLOWED, (("metric", spec.name),), amount)

    def observe(
        self, change: Change, state: SeriesState, durations: list[int], rows: list[Row] | None = None, stored: int = 0
    ) -> None:
        """Add sorted durations (ns) to one of the store's own histograms, in seconds.

        Args:
            change: to add to.
            state: the histogram.
            durations: in ns, sorted.
            rows: of the spans that took so long, in this order, where some are to be exemplars: in each bucket the
                slowest of a batch, and of several batches the newest.
            stored: when the partition was opened that has them (ns).
        """
        delta = self.add(change, state, len(durations))
        ends = sort_into(delta, self._bounds_ns[state.spec.name], durations)
        if rows is not None and stored:
            self._show(change, state, ends, rows, stored)

    def observe_again(self, change: Change, state: SeriesState, fold: Fold, stored: int) -> None:
        """The same for spans that have been counted before, by other bounds."""
        delta = change.delta(state)
        delta.value += len(fold.durations)
        self._show(change, state, sort_into(delta, in_ns(state.spec), fold.durations), fold.rows, stored)

    @staticmethod
    def _show(change: Change, state: SeriesState, ends: dict[int, int], rows: list[Row], stored: int) -> None:
        held = state.exemplars
        if held is not None and change.time - state.shown < PACE and held.keys() >= ends.keys():
            return
        state.shown = change.time
        delta = change.series[state]
        found = {bucket: of_span(rows[end - 1], stored, change.time) for bucket, end in ends.items()}
        delta.exemplars = newest(delta.exemplars, found)

    def show_failed(self, change: Change, state: SeriesState, row: Row, stored: int) -> None:
        """Make a span an exemplar of a counter that it has been added to."""
        self._show(change, state, {0: 1}, [row], stored)

    def keep_exemplars(self, change: Change, partitions: Container[int]) -> None:
        """Have a change drop the exemplars that lead into other partitions than some, given by their opening (ns)."""
        for metric in self.known.values():
            for state in metric.totals.values():
                held = change.exemplars.get(state, state.exemplars)
                if held:
                    kept = kept_in(held, partitions)
                    if len(kept or ()) < len(held):
                        change.exemplars[state] = kept

    # --- gauges ----------------------------------------------------------------------------------------------------

    def place(self, change: Change, metric: Metric, journal: str, labels: Labels, start: int) -> GaugeState | None:
        """The series that a process's reading counts in; None where even the overflow series is full."""
        found = self.placed(change, metric, journal, labels)
        if found is not None:
            return found
        worker = worker_label(journal) if metric.spec.policy == "worker" else ""
        if len(metric.gauges) < self._settings.series_limit and labels != OVERFLOW:
            own = _with_worker(labels, worker)
            state = metric.gauges[own] = GaugeState(metric.spec, own, start)
            return state
        overflow = metric.overflow.get(worker)
        if overflow is None:
            own = _with_worker(OVERFLOW, worker)
            overflow = metric.overflow[worker] = GaugeState(metric.spec, own, start)
        held = len(overflow.readings) + len(change.readings.get(overflow, ()))
        return overflow if held < _OVERFLOW_READINGS * self._settings.series_limit else None

    def placed(self, change: Change, metric: Metric, journal: str, labels: Labels) -> GaugeState | None:
        """The series that a process's reading counts in already, or that has its labels."""
        worker = worker_label(journal) if metric.spec.policy == "worker" else ""
        overflow = metric.overflow.get(worker)
        if overflow is not None:
            key = (journal, labels)
            if change.readings.get(overflow, {}).get(key) or key in overflow.readings:
                return overflow
        return metric.gauges.get(_with_worker(labels, worker))

    def givers(self) -> set[str]:
        """Journals whose processes give metrics."""
        return set().union(*(metric.users for metric in self.known.values()))

    def withdraw(self, change: Change, journal: str) -> None:
        """Take back all that a process that is gone said of itself."""
        change.withdrawn.append(journal)
        for metric in self.known.values():
            for state in _gauges_of(metric):
                for key in state.readings:
                    if key[0] == journal:
                        change.readings.setdefault(state, {})[key] = None

    # --- expiry ----------------------------------------------------------------------------------------------------

    def expire(self, change: Change, before: int) -> None:
        """Hide the totals that have not changed since a time (ns), but for overflow series and what is told at 0."""
        calls = self.known[SPAN_CALLS.name].totals.values()
        active = {service_of(state.labels) for state in calls if state.touched >= before}
        change.expired = [
            state
            for metric in self.known.values()
            for state in metric.totals.values()
            if state.touched < before
            and state.labels != OVERFLOW
            and not (metric.spec.name in _AT_ZERO and service_of(state.labels) in active)
        ]

    @staticmethod
    def delete_hidden(connection: sqlite3.Connection, *, expired_before: int, gone_before: int) -> bool:
        """Delete rows of series that were hidden before some times (ns); whether any of them was a total."""
        return delete_hidden(connection, expired_before, gone_before)

    def retire(self, connection: sqlite3.Connection) -> None:
        """Let go of metrics that have no series and that no process gives."""
        for metric in self.known.values():
            for place in (metric.gauges, metric.overflow):
                _drop_empty(place)
        gone = [name for name, metric in self.known.items() if name not in FAMILIES and not _is_used(metric)]
        for name in gone:
            del self.known[name]
        if gone:
            self._claim_names()
        delete_unused(connection, self.known)

    # --- commits ---------------------------------------------------------------------------------------------------

    def write(self, connection: sqlite3.Connection, change: Change) -> None:
        """Write a change's rows."""
        write_metrics(connection, change)

    def take(self, change: Change) -> None:
        """Take a committed change into memory."""
        for name, metric in change.metrics.items():
            self._replace(name, metric)
        for name, spec in change.texts.items():
            self.known[name].spec = spec
        if change.metrics:
            self._claim_names()
        for name, journals in change.users.items():
            self.known[name].users |= journals
        for state, held in change.exemplars.items():
            state.exemplars = held
        for state, delta in change.series.items():
            state.take(delta, change.time)
            if delta.candidates:
                self.candidates.take(state, delta.candidates)
        for state in change.expired:
            state.is_live = False
            self.known[state.spec.name].totals.pop(state.labels, None)
        for gauge, changes in change.readings.items():
            gauge.readings = gauge.after(changes)
            if not gauge.readings:
                self._drop(gauge)
        for metric in self.known.values() if change.withdrawn else ():
            metric.users.difference_update(change.withdrawn)

    def _replace(self, name: str, metric: Metric) -> None:
        before = self.known.get(name)
        for state in before.totals.values() if before is not None and before is not metric else ():
            state.is_live = False
        metric.is_committed = True
        self.known[name] = metric
        if name in FAMILIES:
            self._bounds_ns[name] = in_ns(metric.spec)
            self.outdated.pop(name, None)

    def _drop(self, gauge: GaugeState) -> None:
        metric = self.known[gauge.spec.name]
        metric.gauges.pop(gauge.labels, None)
        for worker in [worker for worker, state in metric.overflow.items() if state is gauge]:
            del metric.overflow[worker]

    def everything(self, change: Change) -> None:
        """Have a change write all that memory has."""
        own = {name: metric for name, metric in self.known.items() if metric.spec is not FAMILIES.get(name)}
        change.metrics = own
        change.users = {name: set(metric.users) for name, metric in own.items()}
        for metric in self.known.values():
            change.series.update((state, Delta()) for state in metric.totals.values())
            change.readings.update((state, dict(state.readings)) for state in _gauges_of(metric) if state.readings)


def _gauges_of(metric: Metric) -> Iterator[GaugeState]:
    yield from metric.gauges.values()
    yield from metric.overflow.values()


def _is_used(metric: Metric) -> bool:
    return bool(metric.users or metric.totals or metric.gauges or metric.overflow)


def _drop_empty(place: dict[Any, GaugeState]) -> None:
    for key in [key for key, state in place.items() if not state.readings]:
        del place[key]


def _with_worker(labels: Labels, worker: str) -> Labels:
    """Labels of a series that is of one worker; a label of the same name is renamed as Prometheus does."""
    if not worker:
        return labels
    renamed = [("exported_worker" if name == "worker" else name, value) for name, value in labels]
    return (*renamed, ("worker", worker))
