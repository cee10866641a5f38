"""The series that `scrape` is about: the same observations for us and for prometheus_client.

`python -m tests.benchmarks.scrape_load ours|prometheus_client DIR SERIES` is one of several workers. It reads lines
`STEP TURN`, observes in every STEPth series, and answers when another process can see it.
"""

import os
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

import msgspec

NAME = "request_duration_seconds"
HELP = "Duration of requests."
LABELS = ("service", "route", "method", "status")
BOUNDS = tuple(2.0**power for power in range(-10, 7))  # with +Inf, count and sum: 20 lines
_OBSERVATIONS = 5
_SERIES_A_FAMILY = 1_000  # of ours; the default limit of a metric is 2,000
_PIECE = 250  # series in a record


def labels_of(number: int) -> tuple[str, ...]:
    return ("shop", f"/items/{number}", "GET", "200")


def observations(number: int, turn: int) -> list[float]:
    """Multiples of 1/1024: however they are added up, the sum is the same."""
    return [((number * 7 + turn * 131 + each * 8191) % 131_072) / 1024 for each in range(_OBSERVATIONS)]


class Ours:
    """Journals increments as an instrumented process does."""

    def __init__(self, data_dir, series: int, **settings) -> None:
        from tracekeep.storage import open_store

        self.store = open_store(data_dir, **settings)
        self._series = series

    def add(self, step: int, turn: int) -> None:
        from tracekeep.storage.records import FrameType, MetricsRecord

        numbers = range(0, self._series, step) if step else ()
        for start in range(0, len(numbers), _PIECE):
            families = list(_families(numbers[start : start + _PIECE], turn))
            record = MetricsRecord(time.time_ns(), families)
            self.store.journal.append(FrameType.METRICS, msgspec.msgpack.encode(record))
        if not self.store.flush(60):
            raise TimeoutError("the increments were not committed")


def _families(numbers: range, turn: int) -> Iterator[object]:
    from tracekeep.storage.records import MetricFamily, MetricPoint

    by_family: dict[int, list[MetricPoint]] = {}
    for number in numbers:
        values = observations(number, turn)
        counted = Counter(bisect_left(BOUNDS, value) for value in values)
        buckets = [counted[place] for place in range(len(BOUNDS) + 1)]
        pairs = list(zip(LABELS, labels_of(number), strict=True))
        point = MetricPoint(pairs, len(values), sum(values), buckets, time.time_ns())
        by_family.setdefault(number // _SERIES_A_FAMILY, []).append(point)
    for family, points in by_family.items():
        name = f"{NAME.removesuffix('_seconds')}{f'_{family}' if family else ''}_seconds"
        yield MetricFamily(name, "histogram", HELP, "seconds", "sum", list(BOUNDS), points)


class Theirs:
    """Observes with prometheus_client: in its multiprocess mode where PROMETHEUS_MULTIPROC_DIR is set."""

    def __init__(self, series: int) -> None:
        from prometheus_client import CollectorRegistry, Histogram

        self.registry = CollectorRegistry()
        histogram = Histogram(NAME, HELP, LABELS, registry=self.registry, buckets=BOUNDS)
        self._children = [histogram.labels(*labels_of(number)) for number in range(series)]

    def add(self, step: int, turn: int) -> None:
        for number in range(0, len(self._children), step) if step else ():
            for value in observations(number, turn):
                self._children[number].observe(value)


def main() -> None:
    side, directory, series = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if side == "ours":
        load: Ours | Theirs = Ours(directory, series, writer="none")
    else:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        load = Theirs(series)
    print("ready", flush=True)
    for line in sys.stdin:
        load.add(*map(int, line.split()))
        print("done", flush=True)


if __name__ == "__main__":
    main()
