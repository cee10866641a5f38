"""A process that keeps and exposes 10,000 histogram series, and tells its memory: `... memory_series DIR`."""

import json
import sys
import time

import msgspec
import psutil

from tracekeep.exporter.exposition import Renderer
from tracekeep.exporter.negotiation import choose_exposition
from tracekeep.storage import open_store
from tracekeep.storage.records import FrameType, MetricFamily, MetricPoint, MetricsRecord

_SERIES, _BUCKETS, _PIECE, _PAGES = 10_000, 16, 1_000, 3
_MIB = 1 << 20


def main() -> None:
    store = open_store(sys.argv[1], series_limit=_SERIES)
    renderer = Renderer(choose_exposition(""))
    renderer.render(store.totals().families)
    before = psutil.Process().memory_info().rss
    for _ in range(_PAGES):
        for start in range(0, _SERIES, _PIECE):
            points = [_point(number) for number in range(start, start + _PIECE)]
            bounds = [0.001 * 2**power for power in range(_BUCKETS)]
            family = MetricFamily("waiting_seconds", "histogram", "Waiting.", "seconds", "sum", bounds, points)
            store.journal.append(FrameType.METRICS, msgspec.msgpack.encode(MetricsRecord(time.time_ns(), [family])))
        while not store.flush(5):
            pass
        page = renderer.render(store.totals().families)
    series = sum(b"waiting_seconds_count" in line for line in b"".join(page).splitlines())
    if series != _SERIES:
        raise RuntimeError(f"{series} of {_SERIES} series are on the page")
    print(json.dumps({"added": (psutil.Process().memory_info().rss - before) / _MIB}))
    store.close()


def _point(number: int) -> MetricPoint:
    labels = [("queue", f"queue-{number}"), ("region", f"eu-{number % 7}")]
    return MetricPoint(labels, _BUCKETS + 1, 1.5, [1] * (_BUCKETS + 1))


if __name__ == "__main__":
    main()
