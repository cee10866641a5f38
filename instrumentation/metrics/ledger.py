"""What of each series has been journaled last, and so what is new: the memory of the recorder.

Per metric at most `limit` series are remembered. What is beyond goes, summed, to one overflow series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from ...storage.families import OVERFLOW, Labels
from ...storage.records import MetricFamily, MetricPoint
from .reading import Exemplar, Point, Reading, Readings, add

Gone = list[tuple[str, list[tuple[str, str]]]]
_MAX_FAMILIES = 10_000
_COMBINE: dict[str, Callable[[float, float], float]] = {"max": max, "min": min, "mostrecent": lambda _, new: new}


class _Kept(msgspec.Struct):
    """One metric as it was journaled last."""

    type: str
    bounds: tuple[float, ...]
    series: dict[Labels, Point] = {}
    overflow: Point | None = None
    announce: bool = False
    """Its series are to be journaled next time, whether changed or not."""


class Ledger:
    """Turns readings into what has changed since the reading before.

    Args:
        limit: series of one metric that are told apart.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[str, _Kept] = {}
        self._inherited: dict[str, dict[Labels, float]] = {}
        """Of gauges that are added to, what the parent had at the fork."""

    def take(self, readings: Readings) -> tuple[list[MetricFamily], Gone]:
        """What has changed, and which gauges are no more; both are remembered as journaled."""
        families: list[MetricFamily] = []
        gone = Gone()
        for name, kept in list(self._kept.items()):
            if name not in readings and (kept.type in _GAUGES or len(self._kept) > _MAX_FAMILIES):
                gone += _all_gone(name, self._kept.pop(name))
        for name, reading in readings.items():
            known = self._kept.get(name)
            if known is None or (known.type, known.bounds) != (reading.type, reading.bounds):
                if known is not None:
                    gone += _all_gone(name, known)
                known = self._kept[name] = _Kept(reading.type, reading.bounds)
            points = self._added(known, reading) if reading.is_cumulative else self._changed(known, reading, gone)
            if points:
                families.append(_family(reading, points))
        return families, gone

    def adopt(self, readings: Iterable[Reading], before: int | None = None) -> None:
        """Remember counts that another process has journaled or will: after a fork, those from before it.

        Args:
            readings: only those of cumulative types count.
            before: only series that began then or earlier (ns), or nobody knows when; None: all.
        """
        for reading in readings:
            if not reading.is_cumulative:
                if reading.is_added_to and before is None:
                    self._inherited[reading.name] = {labels: point.value for labels, point in reading.points.items()}
                continue
            kept = self._kept.get(reading.name)
            if kept is None or kept.bounds != reading.bounds:
                kept = self._kept[reading.name] = _Kept(reading.type, reading.bounds)
            kept.announce = reading.policy == "worker"
            for labels, point in reading.points.items():
                if labels in kept.series or (before is not None and point.created > before):
                    continue
                if len(kept.series) < self._limit:
                    kept.series[labels] = point
                else:
                    _add_overflow(kept, point)

    # --- what only grows ---------------------------------------------------------------------------------------------

    def _added(self, kept: _Kept, reading: Reading) -> list[MetricPoint]:
        points, beyond = [], list[tuple[Labels, Point]]()
        announce, kept.announce = kept.announce, False
        for labels, point in reading.points.items():
            last = kept.series.get(labels)
            if last is None:
                beyond.append((labels, point))
                continue
            kept.series[labels] = point
            found = _delta(labels, point, last)
            if found is not None or announce:
                points.append(found or MetricPoint(list(labels), created=point.created))
        if beyond:
            points += self._new_series(kept, reading, beyond)
        elif kept.overflow is not None:
            kept.overflow = None
        return points

    def _new_series(self, kept: _Kept, reading: Reading, found: list[tuple[Labels, Point]]) -> list[MetricPoint]:
        """Series that are met for the first time, or are beyond the limit.

        While the overflow is in use nothing moves out of it: its counts would be counted again.
        """
        points, overflow = [], _empty(found[0][1])
        room = self._room(kept, reading, len(found)) if kept.overflow is None else 0
        for labels, point in found[:room]:
            kept.series[labels] = point
            points.append(_whole(labels, point))
        for _labels, point in found[room:]:
            add(overflow, point)
        if found[room:]:
            last, kept.overflow = kept.overflow, overflow
            overflow.exemplars, overflow.created = None, 0
            changed = _whole(OVERFLOW, overflow) if last is None else _delta(OVERFLOW, overflow, last, restarts=False)
            points += [changed] if changed is not None else []
        return points

    def _room(self, kept: _Kept, reading: Reading, wanted: int) -> int:
        """How many series can be remembered; those that are no more make room for new ones."""
        room = self._limit - len(kept.series)
        if room < wanted:
            for labels in [each for each in kept.series if each not in reading.points][: wanted - room]:
                del kept.series[labels]
                room += 1
        return room

    # --- what goes up and down ---------------------------------------------------------------------------------------

    def _changed(self, kept: _Kept, reading: Reading, gone: Gone) -> list[MetricPoint]:
        points, overflow = [], None
        if reading.policy == "sum":
            for labels, value in self._inherited.get(reading.name, {}).items():
                if labels in reading.points:
                    reading.points[labels].value -= value
        for labels in [each for each in kept.series if each not in reading.points]:
            del kept.series[labels]
            gone.append((reading.name, list(labels)))
        for labels, point in reading.points.items():
            last = kept.series.get(labels)
            if last is None and len(kept.series) >= self._limit:
                overflow = _combined(overflow, point, reading.policy)
                continue
            kept.series[labels] = point
            if last is None or not _same(point, last, reading.policy):
                points.append(_whole(labels, point))
        if overflow is not None and (kept.overflow is None or not _same(overflow, kept.overflow, reading.policy)):
            points.append(_whole(OVERFLOW, overflow))
        elif overflow is None and kept.overflow is not None:
            gone.append((reading.name, list(OVERFLOW)))
        kept.overflow = overflow
        return points


_GAUGES = frozenset({"gauge", "gaugehistogram", "info", "stateset", "unknown"})


def _delta(labels: Labels, point: Point, last: Point, *, restarts: bool = True) -> MetricPoint | None:
    """What was added since; all there is where it began again; None where nothing was.

    A sum of series falls when one of them is removed: that is no restart (`restarts`), and what the
    others have gained in the same interval can't be told.
    """
    if (point.value, point.sum, point.created) == (last.value, last.sum, last.created):
        return None
    if _began_again(point, last):
        return _whole(labels, point) if restarts and point.value else None
    added = Point(point.value - last.value, point.sum - last.sum, created=point.created)
    if not added.value and not (added.sum and math.isfinite(added.sum)):
        return None
    if point.buckets is not None and last.buckets is not None:
        added.buckets = [now - before for now, before in zip(point.buckets, last.buckets, strict=True)]
    added.exemplars = _newer(point.exemplars, last.exemplars)
    return _whole(labels, added)


def _began_again(point: Point, last: Point) -> bool:
    if point.value < last.value or (point.created != last.created and point.created and last.created):
        return True
    if point.buckets is None or last.buckets is None:
        return False
    return any(now < before for now, before in zip(point.buckets, last.buckets, strict=True))


def _whole(labels: Labels, point: Point) -> MetricPoint:
    exemplars = [(each.bucket, each.trace_id, each.span_id, each.value, each.time) for each in point.exemplars or ()]
    sum_ = float(point.sum) if math.isfinite(point.sum) else 0.0
    return MetricPoint(list(labels), float(point.value), sum_, point.buckets, point.created, exemplars or None)


def _newer(exemplars: list[Exemplar] | None, last: list[Exemplar] | None) -> list[Exemplar] | None:
    return [each for each in exemplars if each not in last] if exemplars and last else exemplars


def _same(point: Point, last: Point, policy: str) -> bool:
    """Whether a gauge is as it was.

    For `mostrecent` it counts that it was set, also to what it was before: a number that was computed anew
    is another object.
    """
    if policy == "mostrecent" and point.value is not last.value:
        return False
    value_same = point.value == last.value or (math.isnan(point.value) and math.isnan(last.value))
    return value_same and point.buckets == last.buckets and point.sum == last.sum


def _combined(overflow: Point | None, point: Point, policy: str) -> Point:
    if overflow is None:
        return Point(point.value, point.sum, point.buckets)
    combine = _COMBINE.get(policy)
    if combine is None:
        add(overflow, point)
    else:
        overflow.value = combine(overflow.value, point.value)
    return overflow


def _add_overflow(kept: _Kept, point: Point) -> None:
    if kept.overflow is None:
        kept.overflow = _empty(point)
    add(kept.overflow, point)


def _empty(like: Point) -> Point:
    return Point(0.0, buckets=[0] * len(like.buckets) if like.buckets is not None else None)


def _all_gone(name: str, kept: _Kept) -> Gone:
    if kept.type not in _GAUGES:
        return []
    labels = [*kept.series, *([OVERFLOW] if kept.overflow is not None else [])]
    return [(name, list(each)) for each in labels]


def _family(reading: Reading, points: list[MetricPoint]) -> MetricFamily:
    return MetricFamily(
        reading.name, reading.type, reading.help, reading.unit, reading.policy, list(reading.bounds), points
    )
