"""What the two kinds of database hold: tables as data, each index with the query that it serves.

`aggregates.db` outlives raw spans: totals, rollups, marks, accounting. A partition under `history/`
holds the spans and errors of one time window and can be read on its own. Times and durations are
integers of nanoseconds; see FORMAT.md for the text and blob columns.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BLOB,
    REAL,
    TEXT,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from .layout import BUCKET_SHIFT, SLOW_INDEX_NS

aggregates = MetaData()
history = MetaData()


def _marks(metadata: MetaData) -> Table:
    return Table(
        "marks",
        metadata,
        Column("journal", TEXT, nullable=False),
        Column("segment", Integer, nullable=False),
        Column("offset", Integer, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        PrimaryKeyConstraint("journal"),
        comment="how far each journal has been applied, in the transaction of what it produced",
        sqlite_with_rowid=False,
    )


aggregate_marks = _marks(aggregates)
history_marks = _marks(history)

series = Table(
    "series",
    aggregates,
    Column("metric", TEXT, nullable=False),
    Column("labels", TEXT, nullable=False, comment="JSON array of [name, value] pairs, in exposition order"),
    Column("start", BigInteger, nullable=False, comment="when it was first counted, ever; 0 of a gauge"),
    Column("updated", BigInteger, nullable=False, comment="number of the commit that changed it last"),
    Column("touched", BigInteger, nullable=False, comment="when that was"),
    Column("hidden", Integer, nullable=False, comment="0: exposed; 1: idle, goes on when it comes back; 2: gone"),
    Column("value", REAL, comment="of a counter or gauge, NULL where it is no number; of a histogram its count"),
    Column("sum", REAL, nullable=False),
    Column("buckets", BLOB, comment="msgpack array of counts per bucket, not cumulative, +Inf last"),
    Column("exemplars", BLOB, comment="msgpack map, bucket: [trace id, span id, value, time, partition]"),
    PrimaryKeyConstraint("metric", "labels"),
    sqlite_with_rowid=False,
)
Index("series_hidden", series.c.touched, sqlite_where=series.c.hidden > 0)  # what is past its time
Index("series_updated", series.c.updated)  # what changed since the commit that a process has seen

metrics = Table(
    "metrics",
    aggregates,
    Column("name", TEXT, nullable=False),
    Column("type", TEXT, nullable=False),
    Column("help", TEXT, nullable=False),
    Column("unit", TEXT, nullable=False),
    Column("policy", TEXT, nullable=False, comment="how processes become one"),
    Column("bounds", BLOB, nullable=False, comment="msgpack array of the buckets' upper bounds, without +Inf"),
    Column("since", BigInteger, nullable=False, comment="when it took this definition after another; else 0"),
    Column("updated", BigInteger, nullable=False, comment="as in series"),
    PrimaryKeyConstraint("name"),
    comment="what applications have said of their metrics; the store's own are in families.py",
    sqlite_with_rowid=False,
)

producers = Table(
    "producers",
    aggregates,
    Column("journal", TEXT, nullable=False),
    Column("metric", TEXT, nullable=False),
    PrimaryKeyConstraint("journal", "metric"),
    comment="which metrics a live process gives, with the definition that counts",
    sqlite_with_rowid=False,
)

readings = Table(
    "readings",
    aggregates,
    Column("journal", TEXT, nullable=False),
    Column("metric", TEXT, nullable=False),
    Column("labels", TEXT, nullable=False, comment="as the process gave them"),
    Column("series", TEXT, nullable=False, comment="labels of the series that it counts in"),
    Column("value", REAL, comment="as in series"),
    Column("sum", REAL, nullable=False),
    Column("buckets", BLOB, comment="as in series"),
    Column("time", BigInteger, nullable=False),
    PrimaryKeyConstraint("journal", "metric", "labels"),
    comment="what each live process last said of a series that goes with it",
    sqlite_with_rowid=False,
)

edges = Table(
    "edges",
    aggregates,
    Column("trace_id", BLOB, nullable=False),
    Column("span_id", BigInteger, nullable=False, comment="of the calling span, as a signed 64-bit integer"),
    Column("caller", Integer, nullable=False, comment="1 where the calling span is there; 0 where the other one is"),
    Column("service", TEXT, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("messaging", Integer, nullable=False, comment="1 of a producer or consumer"),
    Column("peer", TEXT, nullable=False, comment="whom the span itself names; empty where it does not"),
    Column("duration", BigInteger, nullable=False),
    Column("moment", BigInteger, nullable=False, comment="when a producer ended or a consumer began; else 0"),
    PrimaryKeyConstraint("trace_id", "span_id"),
    comment="ends of edges of the service graph that wait for the other one",
    sqlite_with_rowid=False,
)

operations = Table(
    "operations",
    aggregates,
    Column("id", Integer, primary_key=True),
    Column("service", TEXT, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("kind", Integer, nullable=False, comment="as numbered by OTLP"),
    Column("release", TEXT, nullable=False, comment="service.version; empty where there is none"),
    UniqueConstraint("service", "name", "kind", "release"),
)


def _rolled_up() -> tuple[Column[Any], ...]:
    return (
        Column("operation", Integer, nullable=False),
        Column("count", Integer, nullable=False),
        Column("errors", Integer, nullable=False),
        Column("slow", Integer, nullable=False),
        Column("sum", BigInteger, nullable=False),
        Column("min", BigInteger, nullable=False),
        Column("max", BigInteger, nullable=False),
        Column("last", BigInteger, nullable=False, comment="when the latest of them ended"),
        Column("sketch", BLOB, nullable=False, comment="see sketch.py"),
    )


rollups = Table(
    "rollups",
    aggregates,
    Column("minute", Integer, nullable=False, comment="minutes since the epoch in which the spans ended"),
    *_rolled_up(),
    PrimaryKeyConstraint("minute", "operation"),  # performance over a window of minutes
    sqlite_with_rowid=False,
)

error_groups = Table(
    "error_groups",
    aggregates,
    Column("id", TEXT, nullable=False, comment="16 hex digits: the fingerprint; zeros: what is past the limit"),
    Column("version", Integer, nullable=False, comment="of the fingerprint"),
    Column("type", TEXT, nullable=False),
    Column("message", TEXT, nullable=False, comment="of the newest"),
    Column("culprit", TEXT, nullable=False),
    Column("services", TEXT, nullable=False, comment="JSON array"),
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("operational", Integer, nullable=False, comment="of the newest"),
    Column("state", TEXT, nullable=False, comment="open, resolved, muted"),
    Column("changed", BigInteger, nullable=False, comment="when it got its state by a command; else 0"),
    Column("regressions", Integer, nullable=False, comment="how often it came back after it was resolved"),
    Column("regressed", BigInteger, nullable=False, comment="when that was last, while it is open since then; else 0"),
    Column("releases", TEXT, nullable=False, comment="JSON object, release: [first seen, last seen, count]"),
    Column("samples", TEXT, nullable=False, comment="JSON array of [trace id, span id, time]: the first, the newest"),
    Column("hours", BLOB, nullable=False, comment="msgpack map, hours since the epoch: count"),
    PrimaryKeyConstraint("id"),
    sqlite_with_rowid=False,
)

rollup_hours = Table(
    "rollup_hours",
    aggregates,
    Column("hour", Integer, nullable=False, comment="hours since the epoch"),
    *_rolled_up(),
    PrimaryKeyConstraint("hour", "operation"),  # performance over a window of days
    comment="the same of whole hours: equal to their minutes, or not there",
    sqlite_with_rowid=False,
)

accounting = Table(
    "accounting",
    aggregates,
    Column("name", TEXT, nullable=False, comment="accepted, stored, truncated, dropped:<reason>"),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("name"),
    sqlite_with_rowid=False,
)

journals = Table(
    "journals",
    aggregates,
    Column("journal", TEXT, nullable=False),
    Column("counted", BLOB, nullable=False, comment="msgpack: what of its published counters is in `accounting`"),
    PrimaryKeyConstraint("journal"),
    sqlite_with_rowid=False,
)

commands = Table(
    "commands",
    aggregates,
    Column("id", TEXT, nullable=False),
    Column("applied", BigInteger, nullable=False),
    Column("result", TEXT, nullable=False, comment="JSON object"),
    PrimaryKeyConstraint("id"),
    sqlite_with_rowid=False,
)

properties = Table(
    "properties",
    aggregates,
    Column("name", TEXT, nullable=False, comment="commit, cleared, born, forgotten: see FORMAT.md"),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("name"),
    sqlite_with_rowid=False,
)

origins = Table(
    "origins",
    history,
    Column("id", Integer, primary_key=True),
    Column("service", TEXT, nullable=False),
    Column("resource", TEXT, nullable=False, comment="JSON object of attributes"),
    Column("scope", TEXT, nullable=False, comment="JSON object: name, version, schema_url, attributes"),
)

span_operations = Table(
    "operations",
    history,
    Column("id", Integer, primary_key=True),
    Column("origin", Integer, nullable=False),
    Column("name", TEXT, nullable=False),
    Column("kind", Integer, nullable=False, comment="as numbered by OTLP"),
)

attribute_sets = Table(
    "attribute_sets",
    history,
    Column("id", Integer, primary_key=True),
    Column("attributes", TEXT, nullable=False, comment="JSON object; what many spans share is stored once"),
)

spans = Table(
    "spans",
    history,
    Column("id", Integer, primary_key=True, comment="order of arrival"),
    Column("trace_id", BLOB, nullable=False),
    Column("span_id", BigInteger, nullable=False, comment="as a signed 64-bit integer"),
    Column("parent_id", BigInteger, comment="the same; NULL for a root"),
    Column("operation", Integer, nullable=False),
    Column("attribute_set", Integer, comment="NULL where it has none of the shared attributes"),
    Column("start", BigInteger, nullable=False),
    Column("duration", BigInteger, nullable=False),
    Column("status", Integer, nullable=False, comment="as numbered by OTLP"),
    Column("attributes", TEXT, comment="JSON object of the attributes of its own"),
    Column("details", TEXT, comment="JSON object of what most spans lack: events, links, status message, …"),
)
trace_bucket = text(f"(id >> {BUCKET_SHIFT})")
Index("spans_trace", trace_bucket, spans.c.trace_id)  # a trace by its id, a probe for each bucket
Index("spans_operation", spans.c.operation, spans.c.start)  # by service, name and kind in a window
Index("spans_error", spans.c.start, sqlite_where=spans.c.status == 2)  # failed spans
Index("spans_slow", spans.c.start, sqlite_where=spans.c.duration >= SLOW_INDEX_NS)  # slow requests

errors = Table(
    "errors",
    history,
    Column("id", Integer, primary_key=True, comment="order of arrival"),
    Column("time", BigInteger, nullable=False),
    Column("service", TEXT, nullable=False),
    Column("type", TEXT, nullable=False),
    Column("message", TEXT, nullable=False),
    Column("stacktrace", TEXT),
    Column("operational", Integer, nullable=False),
    Column("trace_id", BLOB, nullable=False, comment="empty where it happened outside of a trace"),
    Column("span_id", BigInteger, nullable=False),
    Column("operation", TEXT, nullable=False, comment="span name or logger; the request's name once that has ended"),
    Column("attributes", TEXT, nullable=False, comment="JSON object: context"),
    Column("release", TEXT, comment="service.version; empty where there is none, NULL from before version 2"),
    Column("group_id", TEXT, comment="its fingerprint, 16 hex digits; NULL from before version 2"),
)
Index("errors_time", errors.c.time)  # statistics over a window, clearing
Index("errors_group", errors.c.group_id)  # the errors of a group, newest first

window = Table(
    "window",
    history,
    Column("id", Integer, primary_key=True, comment="1: the only row"),
    Column("opened", BigInteger, nullable=False, comment="time of arrival of the first record"),
    Column("changed", BigInteger, nullable=False, comment="time of arrival of the last one"),
    Column("min_start", BigInteger, comment="of the spans' own clocks, as `max_end`"),
    Column("max_end", BigInteger),
)
