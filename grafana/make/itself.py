"""tracekeep itself: is all stored, how far behind is the writer, what was lost and why, how full is the disk."""

from __future__ import annotations

from .live import Live
from .page import Dashboard, Panels, instances, page, sources
from .panels import Column, Line, lines, number, rows, states
from .queries import here, increase, rate, top

_ACCEPTED = here("tracekeep_records_accepted_total")
_STORED = here("tracekeep_records_stored_total")
_DROPPED = here("tracekeep_records_dropped_total")
_LAG = here("tracekeep_writer_lag_seconds")
_JOURNAL, _JOURNAL_LIMIT = here("tracekeep_journal_bytes"), here("tracekeep_journal_limit_bytes")
_HISTORY, _HISTORY_LIMIT = here("tracekeep_history_bytes"), here("tracekeep_history_limit_bytes")
_BY_INSTANCE = "{{instance}}"
_LATE = (5, 30)  # seconds; the writer commits every 50 ms
_NEAR, _FULL = 0.75, 0.9
"""Shares of a limit; at three quarters of its cap the journal drops spans without error."""


def itself_page(live: Live) -> Dashboard:
    """How tracekeep does."""
    return page(
        "tracekeep",
        "tracekeep itself",
        "Whether all is kept: accepted = stored + pending + dropped, and what stands in the way.",
        [*sources(), *instances()],
        [
            ("At a glance", _glance()),
            ("State", _state()),
            ("Accounting", _accounting()),
            ("Disk", _disk()),
            ("Metrics", _metrics(live)),
            ("Scrapes", _scrapes()),
        ],
    )


def _pending(by: str = "") -> str:
    def total(each: str) -> str:
        return f"sum by ({by}) ({each})" if by else f"sum({each})"

    return f"{total(_ACCEPTED)} - {total(_STORED)} - {total(_DROPPED)}"


def _glance() -> Panels:
    return [
        number("Degraded", "Parts that are degraded now; /health says which and why.", "short",
               f"sum({here('tracekeep_degraded')})", limits=(1, 2), decimals=0),
        number("Writer", "Instances whose journals somebody moves into the databases.", "short",
               f"sum({here('tracekeep_writer_up')})", decimals=0),
        number("Lag", "Age of the oldest record that is journaled and not yet stored, of the instance that is "
               "furthest behind.", "s", f"max({_LAG})", limits=_LATE),
        number("Dropped", "Records dropped in the time that is looked at.", "short", increase(_DROPPED),
               limits=(1, 100), decimals=0),
        number("Journal", "Share of `journal_max_bytes` that the journals take, of the fullest.", "percentunit",
               f"max({_JOURNAL} / {_JOURNAL_LIMIT})", limits=(_NEAR, _FULL)),
        number("History", "Share of `history_max_bytes` that the history takes, of the fullest. The oldest partition "
               "goes when it is full: that is by design.", "percentunit",
               f"max({_HISTORY} / {_HISTORY_LIMIT})"),
    ]  # fmt: skip


def _state() -> Panels:
    commit = f"time() - ({here('tracekeep_last_commit_timestamp_seconds')} > 0)"
    return [
        states("Degraded parts", "Red: the part is degraded. Nothing is lost while the journal is not.",
               f"max by (instance, part) ({here('tracekeep_degraded')})", "{{instance}} {{part}}"),
        lines("Lag of the writer", "Age of the oldest record that is journaled and not yet stored.", "s",
              Line(f"max by (instance) ({_LAG})", _BY_INSTANCE), width=8, limits=_LATE),
        lines("Since the last commit", "How long ago the writer committed. It grows while nothing is recorded, too.",
              "s", Line(f"max by (instance) ({commit})", _BY_INSTANCE), width=8),
        lines("Writer's role", "1: a process holds it. 0: nobody moves journals into the databases.", "short",
              Line(f"min by (instance) ({here('tracekeep_writer_up')})", _BY_INSTANCE), width=8, maximum=1),
    ]  # fmt: skip


def _accounting() -> Panels:
    return [
        lines("Records", "Spans and others accepted and stored, a second.", "ops",
              Line(rate(_ACCEPTED), "accepted"), Line(rate(_STORED), "stored"), Line(rate(_DROPPED), "dropped"),
              width=8),
        lines("Pending", "Records that are journaled and not yet stored: accepted - stored - dropped.", "short",
              Line(_pending("instance"), _BY_INSTANCE), width=8),
        lines("Dropped by reason", "Records dropped a second. Each loss has a reason; all are 0 as long as nothing "
              "is wrong.", "ops", Line(rate(_DROPPED, "reason"), "{{reason}}"), width=8, stacked=True),
        rows("Losses", "Records dropped since the data directory was made, by instance and reason.",
             [Column("Dropped", f"sum by (instance, reason) ({_DROPPED})", limits=(1, 100), decimals=0)],
             sort="Dropped", width=12),
        lines("Values cut", "Attribute values a second that were cut or replaced before they were recorded.", "ops",
              Line(rate(here("tracekeep_values_truncated_total"), "instance"), _BY_INSTANCE)),
    ]  # fmt: skip


def _disk() -> Panels:
    return [
        lines("Size of the journals", "All of an instance together. They are emptied as the writer commits: what "
              "grows waits for it. At three quarters of the limit spans without error are dropped.", "bytes",
              *_with_limit(_JOURNAL, _JOURNAL_LIMIT), width=8),
        lines("Size of the history", "Size of the retained spans and errors. At the limit the oldest partition goes.",
              "bytes", *_with_limit(_HISTORY, _HISTORY_LIMIT), width=8),
        lines("Partitions", "History files that are retained. It falls when one is too old or too much is kept.",
              "short", Line(f"max by (instance) ({here('tracekeep_history_partitions')})", _BY_INSTANCE), width=8),
    ]  # fmt: skip


def _with_limit(size: str, limit: str) -> tuple[Line, Line]:
    return (
        Line(top(10, f"max by (instance) ({size})"), _BY_INSTANCE),
        Line(f"min({limit})", "lowest limit"),
    )


def _metrics(live: Live) -> Panels:
    failures = here("tracekeep_metrics_collect_failures_total")
    return [
        lines("Overflow", f"Observations a second that found their metric with {live.series_limit} series "
              "(`series_limit`) and went to the one that takes the remainder. The ten metrics that have the most.",
              "ops", Line(top(10, rate(here("tracekeep_series_overflow_total"), "metric")), "{{metric}}"), width=8),
        lines("Rejected", "Points of the application's metrics a second that can't be kept, by reason. Empty while "
              "there is none.", "ops",
              Line(rate(here("tracekeep_metrics_rejected_total"), "reason"), "{{reason}}"), width=8),
        lines("Failures of collectors", "Faults a second while the application's own metrics were read. The ten "
              "collectors that have the most; empty while there is none.", "ops",
              Line(top(10, rate(failures, "collector, reason")), "{{collector}}: {{reason}}"), width=8),
    ]  # fmt: skip


def _scrapes() -> Panels:
    return [
        lines("Duration of scrapes", "How long Prometheus waited for the page.", "s",
              Line(f"max by (instance) ({here('scrape_duration_seconds')})", _BY_INSTANCE)),
        lines("Samples", "Samples on a page of metrics.", "short",
              Line(f"max by (instance) ({here('scrape_samples_scraped')})", _BY_INSTANCE)),
    ]  # fmt: skip
