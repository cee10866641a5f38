"""The store's own state as metrics."""

from __future__ import annotations

from ..storage.views import Family, Series, Status

# What `Degradation.part` can be; each has its series also while it works.
PARTS = ("journal", "aggregates", "history", "writer")


def status_families(status: Status) -> list[Family]:
    """The store's own state as gauges."""
    degraded = dict.fromkeys(PARTS, 0.0) | {each.part: 1.0 for each in status.degraded}
    return [
        _gauge("tracekeep_degraded", "Whether a part of the store is degraded (1).", degraded, "part"),
        _gauge(
            "tracekeep_writer_up",
            "Whether any process holds the writer's role.",
            status.writer_pid is not None,
        ),
        _gauge(
            "tracekeep_writer_lag_seconds",
            "Age of the oldest record that is journaled and not yet stored.",
            status.lag_seconds,
        ),
        _gauge(
            "tracekeep_last_commit_timestamp_seconds",
            "When the writer last committed, in seconds since the Unix epoch; 0 when it never did.",
            status.last_commit_ns / 1e9,
        ),
        _gauge("tracekeep_journal_bytes", "Size of all journals on disk.", status.journal_bytes),
        _gauge(
            "tracekeep_journal_limit_bytes",
            "Size of all journals past which spans are dropped (journal_max_bytes).",
            status.journal_limit_bytes,
        ),
        _gauge("tracekeep_history_bytes", "Size of the retained history on disk.", status.history_bytes),
        _gauge(
            "tracekeep_history_limit_bytes",
            "Size of the history past which the oldest partition goes (history_max_bytes).",
            status.history_limit_bytes,
        ),
        _gauge("tracekeep_history_partitions", "Number of retained partitions.", status.partitions),
    ]


def _gauge(name: str, text: str, value: float | dict[str, float], label: str = "") -> Family:
    values: dict[str, float] = value if isinstance(value, dict) else {"": value}
    series = [Series(((label, key),) if label else (), float(number)) for key, number in values.items()]
    unit = next((unit for unit in ("seconds", "bytes") if name.endswith(unit)), "")
    return Family(name, "gauge", text, unit, (), series)
