"""What a store's journal holds of metrics: read back as any writer would."""

import msgspec

from tracekeep.storage.reader import JournalReader, Position
from tracekeep.storage.records import FrameType, MetricsRecord


def metrics_records(store):
    """All metrics records of this process, in their order."""
    directory = store.data_dir / "journal" / store.journal.name
    frames = JournalReader(directory, Position()).read(1_000_000)
    return [
        msgspec.msgpack.decode(payload, type=MetricsRecord)
        for type_, _, payload in frames
        if type_ == FrameType.METRICS
    ]


def series(records):
    """What the records come to: {name: {labels: [value, sum, buckets]}}; counts added up, gauges as they are now."""
    found = {}
    for record in records:
        for name, labels in record.gone:
            del found[name][tuple(map(tuple, labels))]
        for family in record.families:
            known = found.setdefault(family.name, {})
            for point in family.points:
                _fold(known, family, point)
    return found


def _fold(known, family, point):
    labels = tuple(map(tuple, point.labels))
    before = known.get(labels)
    if before is None or family.type not in {"counter", "histogram", "summary"}:
        known[labels] = [point.value, point.sum, point.buckets]
        return
    buckets = [a + b for a, b in zip(before[2], point.buckets, strict=True)] if point.buckets else None
    known[labels] = [before[0] + point.value, before[1] + point.sum, buckets]
