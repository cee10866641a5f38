"""Spans that count alike, in the order of their durations: what totals, rollups and exemplars are taken from."""

from __future__ import annotations

from operator import add, itemgetter
from typing import NamedTuple

from .compiled import compiled
from .intake import DURATION, START, Row

_start, _duration = itemgetter(START), itemgetter(DURATION)


class Fold(NamedTuple):
    """Rows of spans of one shape that ended in one minute; there is at least one."""

    rows: list[Row]
    """From the quickest to the slowest."""
    durations: list[int]
    """Theirs (ns)."""
    last: int
    """When the last of them ended (ns)."""


def fold(rows: list[Row]) -> Fold:
    """Order rows by their durations; the same ones stay as they came."""
    return Fold._make(_in_order(rows))


def in_order_in_python(rows: list[Row]) -> tuple[list[Row], list[int], int]:
    """What `in_order` of `_native_fold.c` does."""
    ordered = sorted(rows, key=_duration)
    return ordered, list(map(_duration, ordered)), max(map(add, map(_start, rows), map(_duration, rows)))


_in_order = compiled(__package__, "in_order") or in_order_in_python
