"""Application metrics as journal records, appended as the instrumentation appends them."""

import time

import msgspec
from tk_spans import counter

from tracekeep.storage.records import FrameType, MetricFamily, MetricPoint, MetricsRecord


def family(name, type_="counter", points=(), *, policy="sum", bounds=(), help_="Help.", unit=""):
    """A metric of a record; points are `MetricPoint`s or (labels as a dict, value)."""
    return MetricFamily(name, type_, help_, unit, policy, list(bounds), [as_point(each) for each in points])


def as_point(given):
    return given if isinstance(given, MetricPoint) else point(given[1], **given[0])


def point(value=0, *, sum_=0.0, buckets=None, created=0, exemplars=None, **labels):
    """A point with its labels; a histogram's value is its buckets'."""
    value = sum(buckets) if buckets is not None else value
    return MetricPoint(list(labels.items()), value, sum_, buckets, created, exemplars)


def say(store, *families, gone=(), time_ns=None):
    """Journal a record of metrics, as a process does."""
    record = MetricsRecord(time.time_ns() if time_ns is None else time_ns, list(families), list(gone))
    getattr(store, "journal", store).append(FrameType.METRICS, msgspec.msgpack.encode(record))


def find(store, name):
    """The committed family of this name, or None."""
    return next((each for each in store.totals().families if each.name == name), None)


def values(store, name):
    """The committed values of a metric, by label text such as `a=1,b=2`."""
    found = find(store, name)
    return {label_text(each): each.value for each in found.series} if found else {}


def label_text(series):
    return ",".join(f"{name}={value}" for name, value in series.labels)


def kept(store):
    """Wait until what this process has recorded is committed."""
    assert store.flush(5)


def rejected(store, reason):
    """Points that were rejected for a reason."""
    return counter(store, "tracekeep_metrics_rejected", reason=reason)
