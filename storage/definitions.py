"""Application metrics as they come: what of a definition, a label set or a point can't be kept, and why."""

from __future__ import annotations

from itertools import pairwise
from math import isfinite

from .families import MAX_LABEL, FamilySpec, Labels, bounded
from .records import MetricFamily, MetricPoint

REJECT_REASONS = (
    "bad_definition",
    "name_taken",
    "too_many_metrics",
    "type_conflict",
    "policy_conflict",
    "bounds_conflict",
    "bad_labels",
    "bad_buckets",
    "negative",
    "non_finite",
    "too_many_readings",
)
"""Why a point of an application metric is not kept."""

SUFFIXES = {
    "counter": ("", "_total", "_created"),
    "barecounter": ("", "_created"),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "gaugehistogram": ("", "_bucket", "_gcount", "_gsum"),
    "summary": ("", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
"""What is put behind a metric's name on a page, by type; nothing for the others."""

TYPES = frozenset(SUFFIXES) | {"gauge", "stateset", "unknown"}
POLICIES = frozenset({"sum", "max", "min", "mostrecent", "worker"})
_NO_SUMS = frozenset({"info", "stateset"})
_MAX_BOUNDS = 1000
_MAX_LABELS = 64
_MAX_HELP = 1024
_LARGEST = 1e200
"""Of a counter's or histogram's numbers: however many of them are added, none becomes infinite."""


def spec_of(family: MetricFamily) -> FamilySpec | None:
    """What a process says a metric is; None where that can't be.

    What adds up does so whatever the policy, but for `worker`. The sum of 1s that say that something is so would
    say nothing: that of an info or a stateset is their maximum.
    """
    if family.type not in TYPES or family.policy not in POLICIES or not _is_name(family.name):
        return None
    spec = FamilySpec(
        family.name, family.help[:_MAX_HELP], unit=family.unit[:MAX_LABEL], type=family.type, policy=family.policy
    )
    policy, bounds = spec.policy, tuple(family.bounds) if spec.has_buckets else ()
    if policy != "worker" and spec.is_delta:
        policy = "sum"
    elif policy == "sum" and spec.type in _NO_SUMS:
        policy = "max"
    rising = all(low < high for low, high in pairwise(bounds))
    if len(bounds) > _MAX_BOUNDS or not rising or not all(map(isfinite, bounds)):
        return None
    return FamilySpec(spec.name, spec.help, bounds, spec.unit, spec.type, policy)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_LABEL and text.isprintable()


def exposed_names(spec: FamilySpec) -> list[str]:
    """All names that a metric takes on a page."""
    return [spec.name + suffix for suffix in SUFFIXES.get(spec.type, ("",))]


def conflict(known: FamilySpec, other: FamilySpec) -> str:
    """Why two definitions of a metric exclude each other."""
    if known.type != other.type:
        return "type_conflict"
    return "policy_conflict" if known.policy != other.policy else "bounds_conflict"


def labels_of(spec: FamilySpec, point: MetricPoint) -> Labels | None:
    """A point's labels, by name and with bounded values; None where they can't be exposed.

    The same labels in another order are the same series.
    """
    labels = tuple(sorted((name, bounded(value)) for name, value in point.labels))
    names = {name for name, _ in labels}
    reserved = {"__name__", "le" if spec.has_buckets else "", "quantile" if spec.type == "summary" else ""}
    unique = len(names) == len(labels) <= _MAX_LABELS
    if not unique or names & reserved or not all(map(_is_name, names)):
        return None
    return labels


def flaw_of(spec: FamilySpec, point: MetricPoint) -> str | None:
    """Why a point can't be kept, or None. A gauge may have any value."""
    values = [point.value]
    if spec.has_buckets:
        if point.buckets is None or len(point.buckets) != len(spec.bounds) + 1:
            return "bad_buckets"
        values = point.buckets
    elif not spec.is_delta:
        return None
    if not all(map(is_summable, values)):
        return "non_finite"
    return "negative" if min(values) < 0 else None


def is_summable(number: float) -> bool:
    """Whether a number can be added up; NaN, infinities and what would become one can't."""
    return abs(number) <= _LARGEST
