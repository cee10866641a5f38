"""Application metrics on their way into totals: the records of processes, each point checked."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import replace

import msgspec

from .change import Change, Metric
from .definitions import flaw_of, is_summable, labels_of, spec_of
from .exemplars import chosen, newest
from .families import OVERFLOW, REJECTED, FamilySpec, Labels
from .gauges import Reading
from .metrics import Metrics
from .records import MetricFamily, MetricPoint, MetricsRecord
from .series import Delta

_logger = logging.getLogger("tracekeep")
_decode = msgspec.msgpack.Decoder(MetricsRecord).decode
_MAX_COMPLAINTS = 1000
_MAX_TIME = (1 << 63) - 1


class Points:
    """Takes the records of application metrics into changes.

    What can't be kept is counted by reason, and logged once for each metric and reason.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._said: set[tuple[str, str]] = set()

    def take(self, change: Change, journal: str, payloads: list[bytes], dead: Container[str]) -> int:
        """Add a process's records, in their order, to a change; how many can't be decoded.

        Args:
            change: to add to.
            journal: the process's.
            payloads: encoded `MetricsRecord`s.
            dead: journals whose process is known to be dead.

        Raises:
            sqlite3.Error: what has expired can't be read.
        """
        undecodable = 0
        for payload in payloads:
            try:
                record = _decode(payload)
            except msgspec.MsgspecError:
                undecodable += 1
                continue
            for family in record.families:
                self._take_family(change, journal, record.time, family, dead)
            for name, labels in record.gone:
                self._withdraw(change, journal, name, labels)
        return undecodable

    def _take_family(
        self, change: Change, journal: str, time_ns: int, family: MetricFamily, dead: Container[str]
    ) -> None:
        spec = spec_of(family)
        metric = self._metrics.define(change, spec, journal, dead) if spec is not None else "bad_definition"
        if isinstance(metric, str):
            self._reject(change, family.name, metric, max(1, len(family.points)))
            return
        for point in family.points:
            flaw = flaw_of(metric.spec, point)
            labels = labels_of(metric.spec, point)
            if flaw is not None or labels is None:
                self._reject(change, family.name, flaw or "bad_labels")
            elif metric.spec.is_total:
                self._add(change, metric, labels, point)
            elif journal not in dead:
                self._set(change, metric, labels, point, journal=journal, time_ns=time_ns)

    def _add(self, change: Change, metric: Metric, labels: Labels, point: MetricPoint) -> None:
        """Add a delta to a total. A sum that is no number is left out, so that the counts go on."""
        spec = metric.spec
        known = metric.totals.get(labels)
        amount = self._amount(change, spec, point)
        if known is not None and not (amount.value or amount.sum or point.exemplars):
            return
        state = known or self._metrics.find(
            change, metric, labels, self._metrics.start_of(change, metric, point.created)
        )
        delta = change.delta(state)
        delta.add(Delta(amount.value, amount.sum, list(amount.buckets) if amount.buckets is not None else None))
        delta.candidates = newest(delta.candidates, chosen(point.exemplars, len(spec.bounds) + 1, change.time))
        if state.labels == OVERFLOW:
            self._metrics.count_overflow(change, spec, 1)

    def _set(
        self, change: Change, metric: Metric, labels: Labels, point: MetricPoint, *, journal: str, time_ns: int
    ) -> None:
        """Note what a process says of one of its own series."""
        spec = metric.spec
        start = self._metrics.start_of(change, metric, point.created) if spec.is_delta else 0
        state = self._metrics.place(change, metric, journal, labels, start)
        if state is None:
            self._reject(change, spec.name, "too_many_readings")
            return
        reading = replace(self._amount(change, spec, point), time=min(max(time_ns, 0), _MAX_TIME))
        changes = change.readings.setdefault(state, {})
        key = (journal, labels)
        before = changes.get(key) or state.readings.get(key)
        if spec.is_delta and before is not None:
            reading = before.plus(reading)
        changes[key] = reading
        if state.labels[:1] == OVERFLOW:
            self._metrics.count_overflow(change, spec, 1)

    def _amount(self, change: Change, spec: FamilySpec, point: MetricPoint) -> Reading:
        """A point's numbers, as far as its metric has them; the count of one with buckets is theirs."""
        buckets = tuple(point.buckets) if spec.has_buckets and point.buckets is not None else None
        total = point.sum if spec.has_buckets or spec.type == "summary" else 0.0
        if not is_summable(total):
            self._reject(change, spec.name, "non_finite")
            total = 0.0
        return Reading(sum(buckets) if buckets is not None else point.value, total, buckets)

    def _withdraw(self, change: Change, journal: str, name: str, labels: list[tuple[str, str]]) -> None:
        metric = change.metrics.get(name) or self._metrics.known.get(name)
        known = labels_of(metric.spec, MetricPoint(labels)) if metric is not None else None
        state = self._metrics.placed(change, metric, journal, known) if metric and known is not None else None
        if state is not None and known is not None:
            change.readings.setdefault(state, {})[journal, known] = None

    def _reject(self, change: Change, name: str, reason: str, count: int = 1) -> None:
        self._metrics.count(change, REJECTED, (("reason", reason),), count)
        complaint = (name[:100], reason)
        if complaint not in self._said and len(self._said) < _MAX_COMPLAINTS:
            self._said.add(complaint)
            _logger.warning("tracekeep: points of the metric %r can't be kept: %s", *complaint)
