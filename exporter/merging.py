"""Several series that are one on the page."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import zip_longest

import msgspec

from ..storage.views import Series

# Of these the first is as good as any.
_NOT_ADDED = frozenset({"info", "stateset"})


def merged(series: Iterable[Series], type_: str, key: Callable[[Series], Hashable]) -> list[Series]:
    """Series that are told apart by their key; the others added up, in the order of the first of each."""
    found: dict[Hashable, Series] = {}
    for each in series:
        identity = key(each)
        known = found.get(identity)
        if known is None:
            found[identity] = each
        elif type_ not in _NOT_ADDED:
            found[identity] = _sum(known, each)
    return list(found.values())


def agreeing(series: Sequence[Series]) -> list[Series]:
    """One series with the labels that all of them have: what can be said of the whole target."""
    if len(series) < 2:  # nothing to agree on
        return list(series)
    common = set(series[0].labels).intersection(*[each.labels for each in series[1:]])
    labels = tuple(pair for pair in series[0].labels if pair in common)
    return [msgspec.structs.replace(series[0], labels=labels)]


def _sum(one: Series, other: Series) -> Series:
    starts = [each.start_ns for each in (one, other) if each.start_ns]
    return msgspec.structs.replace(
        one,
        value=one.value + other.value,
        sum=one.sum + other.sum,
        buckets=tuple(first + second for first, second in zip_longest(one.buckets, other.buckets, fillvalue=0)),
        start_ns=min(starts, default=0),
        exemplars={**other.exemplars, **one.exemplars},
        version=max(one.version, other.version),
    )
