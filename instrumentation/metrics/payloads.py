"""Metrics records as payloads of frames: as many as it takes, each small enough for any segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from ...storage.records import MetricFamily
from .ledger import Gone

_encode = msgspec.msgpack.Encoder().encode
_GONE_AT_A_TIME = 100


def payloads(
    time: int,
    families: list[MetricFamily],
    gone: Gone,
    limit: int,
    lose: Callable[[str, Exception], None],
) -> Iterator[bytes]:
    """Encoded `MetricsRecord`s of about `limit` bytes at most.

    One point is never split: with many buckets it may be larger, and is still far from what a frame holds.

    Args:
        time: ns since the epoch, of all of them.
        families: what has changed.
        gone: gauges that are no more.
        limit: bytes.
        lose: told what can't be encoded, by the name of its metric: all else is.
    """
    batch: list[msgspec.Raw] = []
    size = 0
    for raw in _parts(families, limit, lose):
        if batch and size + len(raw) > limit:
            yield _encode((time, batch, ()))
            batch, size = [], 0
        batch.append(msgspec.Raw(raw))
        size += len(raw)
    yield from [_encode((time, batch, ()))] if batch else []
    for start in range(0, len(gone), _GONE_AT_A_TIME):
        yield _encode((time, (), gone[start : start + _GONE_AT_A_TIME]))


def _parts(families: list[MetricFamily], limit: int, lose: Callable[[str, Exception], None]) -> Iterator[bytes]:
    """Encoded families, with some of their points each where they have many."""
    waiting = families[::-1]
    while waiting:
        family = waiting.pop()
        try:
            raw = _encode(family)
        except Exception as error:
            lose(family.name, error)
            continue
        if len(raw) <= limit or len(family.points) == 1:
            yield raw
        else:
            middle = len(family.points) // 2
            halves = (family.points[:middle], family.points[middle:])
            waiting += [msgspec.structs.replace(family, points=points) for points in reversed(halves)]
