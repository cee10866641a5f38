"""The quick way to read prometheus_client's counters, histograms and summaries: from their values, not by samples.

A histogram of a thousand series has twenty thousand samples; most haven't changed since the look before. What
is read here is private to prometheus_client: where it is other than known, samples are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import Counter, Histogram, Summary

from ...storage.families import Labels
from .reading import FaultError, Point, Reading, add, checked_bounds, checked_help, checked_labels, checked_name
from .samples import exemplars, nanoseconds

_LabelValues = tuple[str, ...]
_known: WeakKeyDictionary[Any, dict[_LabelValues, Labels]] = WeakKeyDictionary()
"""Labels of each metric's series, by their values."""
_ROOM = 100
"""Series that may be remembered beside as many as there are …"""
_MAX_KNOWN = 20_000
"""… but no more of one metric than this."""


def read_children(metric: object) -> Reading | None:
    """A metric of one of the three classes themselves; None where it has to be read by its samples."""
    read = _READERS.get(type(metric))
    if read is None:
        return None
    try:
        return _read(metric, read)
    except (AttributeError, TypeError, ValueError, LookupError, FaultError):
        return None


def _read(metric: Any, read: Callable[[Any], Point]) -> Reading:
    names, type_ = metric._labelnames, metric._type
    if names:
        with metric._lock:
            children = list(metric._metrics.items())
    else:
        children = [((), metric)]
    known = _known.setdefault(metric, {})
    if len(known) > min(2 * len(children) + _ROOM, _MAX_KNOWN):
        known.clear()
    points: dict[Labels, Point] = {}
    for values, child in children:
        labels = known.get(values)
        if labels is None:
            labels = checked_labels(zip(names, values, strict=True))[0]
            if len(known) < _MAX_KNOWN:
                known[values] = labels
        point = read(child)
        if labels in points:  # they differ only in what was cut
            add(points[labels], point)
        else:
            points[labels] = point
    bounds = checked_bounds(metric._upper_bounds[:-1]) if type_ == "histogram" else ()
    name, help_, unit = metric._name, metric._documentation, metric._unit
    return Reading(checked_name(name), type_, checked_help(help_), checked_help(unit), "sum", bounds, points)


def _counter(child: Any) -> Point:
    value = child._value
    exemplar = value.get_exemplar()
    return Point(
        _finite(value.get()),
        created=nanoseconds(child._created),
        exemplars=exemplars([(0, exemplar)]) if exemplar is not None else None,
    )


def _summary(child: Any) -> Point:
    count, created = child._count.get(), nanoseconds(child._created)
    return Point(_finite(count), float(child._sum.get()), created=created)


def _histogram(child: Any) -> Point:
    sum_, values = float(child._sum.get()), child._buckets
    buckets = [value.get() for value in values]
    given = [(place, values[place].get_exemplar()) for place, count in enumerate(buckets) if count]
    created = nanoseconds(child._created)
    return Point(_finite(sum(buckets)), sum_, buckets, created, exemplars([each for each in given if each[1]]))


def _finite(value: float) -> float:
    if not 0 <= value < float("inf"):
        raise FaultError("invalid", f"a counter can't be {value}")  # the samples' way counts it
    return float(value)


_READERS: dict[type, Callable[[Any], Point]] = {Counter: _counter, Summary: _summary, Histogram: _histogram}
