"""The schema as SQL, so that the writer needs no SQLAlchemy: importing it in a thread could meet the host's import.

Made from `schema.py`; `tests/storage/test_schema.py` fails where the two differ and prints what belongs here.
"""

from __future__ import annotations

AGGREGATES = (
    "CREATE TABLE accounting ( name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name) ) WITHOUT ROWID",
    (
        "CREATE TABLE commands ( id TEXT NOT NULL, applied BIGINT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (id) ) "
        "WITHOUT ROWID"
    ),
    (
        "CREATE TABLE edges ( trace_id BLOB NOT NULL, span_id BIGINT NOT NULL, caller INTEGER NOT NULL, service TEXT "
        "NOT NULL, failed INTEGER NOT NULL, messaging INTEGER NOT NULL, peer TEXT NOT NULL, duration BIGINT NOT NULL, "
        "moment BIGINT NOT NULL, PRIMARY KEY (trace_id, span_id) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE error_groups ( id TEXT NOT NULL, version INTEGER NOT NULL, type TEXT NOT NULL, message TEXT NOT "
        "NULL, culprit TEXT NOT NULL, services TEXT NOT NULL, first_seen BIGINT NOT NULL, last_seen BIGINT NOT NULL, "
        "count BIGINT NOT NULL, operational INTEGER NOT NULL, state TEXT NOT NULL, changed BIGINT NOT NULL, "
        "regressions INTEGER NOT NULL, regressed BIGINT NOT NULL, releases TEXT NOT NULL, samples TEXT NOT NULL, hours "
        "BLOB NOT NULL, PRIMARY KEY (id) ) WITHOUT ROWID"
    ),
    "CREATE TABLE journals ( journal TEXT NOT NULL, counted BLOB NOT NULL, PRIMARY KEY (journal) ) WITHOUT ROWID",
    (
        'CREATE TABLE marks ( journal TEXT NOT NULL, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, sequence '
        "BIGINT NOT NULL, PRIMARY KEY (journal) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE metrics ( name TEXT NOT NULL, type TEXT NOT NULL, help TEXT NOT NULL, unit TEXT NOT NULL, "
        "policy TEXT NOT NULL, bounds BLOB NOT NULL, since BIGINT NOT NULL, updated BIGINT NOT NULL, PRIMARY KEY "
        "(name) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE operations ( id INTEGER NOT NULL, service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT "
        "NULL, release TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (service, name, kind, release) )"
    ),
    (
        "CREATE TABLE producers ( journal TEXT NOT NULL, metric TEXT NOT NULL, PRIMARY KEY (journal, metric) ) "
        "WITHOUT ROWID"
    ),
    "CREATE TABLE properties ( name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name) ) WITHOUT ROWID",
    (
        "CREATE TABLE readings ( journal TEXT NOT NULL, metric TEXT NOT NULL, labels TEXT NOT NULL, series TEXT NOT "
        "NULL, value REAL, sum REAL NOT NULL, buckets BLOB, time BIGINT NOT NULL, PRIMARY KEY (journal, metric, "
        "labels) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE rollup_hours ( hour INTEGER NOT NULL, operation INTEGER NOT NULL, count INTEGER NOT NULL, errors "
        "INTEGER NOT NULL, slow INTEGER NOT NULL, sum BIGINT NOT NULL, min BIGINT NOT NULL, max BIGINT NOT NULL, last "
        "BIGINT NOT NULL, sketch BLOB NOT NULL, PRIMARY KEY (hour, operation) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE rollups ( minute INTEGER NOT NULL, operation INTEGER NOT NULL, count INTEGER NOT NULL, errors "
        "INTEGER NOT NULL, slow INTEGER NOT NULL, sum BIGINT NOT NULL, min BIGINT NOT NULL, max BIGINT NOT NULL, last "
        "BIGINT NOT NULL, sketch BLOB NOT NULL, PRIMARY KEY (minute, operation) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE series ( metric TEXT NOT NULL, labels TEXT NOT NULL, start BIGINT NOT NULL, updated BIGINT NOT "
        "NULL, touched BIGINT NOT NULL, hidden INTEGER NOT NULL, value REAL, sum REAL NOT NULL, buckets BLOB, "
        "exemplars BLOB, PRIMARY KEY (metric, labels) ) WITHOUT ROWID"
    ),
    "CREATE INDEX series_hidden ON series (touched) WHERE hidden > 0",
    "CREATE INDEX series_updated ON series (updated)",
)

HISTORY = (
    "CREATE TABLE attribute_sets ( id INTEGER NOT NULL, attributes TEXT NOT NULL, PRIMARY KEY (id) )",
    (
        "CREATE TABLE errors ( id INTEGER NOT NULL, time BIGINT NOT NULL, service TEXT NOT NULL, type TEXT NOT NULL, "
        "message TEXT NOT NULL, stacktrace TEXT, operational INTEGER NOT NULL, trace_id BLOB NOT NULL, span_id "
        "BIGINT NOT NULL, operation TEXT NOT NULL, attributes TEXT NOT NULL, release TEXT, group_id TEXT, PRIMARY KEY "
        "(id) )"
    ),
    "CREATE INDEX errors_group ON errors (group_id)",
    "CREATE INDEX errors_time ON errors (time)",
    (
        'CREATE TABLE marks ( journal TEXT NOT NULL, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, sequence '
        "BIGINT NOT NULL, PRIMARY KEY (journal) ) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE operations ( id INTEGER NOT NULL, origin INTEGER NOT NULL, name TEXT NOT NULL, kind INTEGER "
        "NOT NULL, PRIMARY KEY (id) )"
    ),
    (
        "CREATE TABLE origins ( id INTEGER NOT NULL, service TEXT NOT NULL, resource TEXT NOT NULL, scope TEXT NOT "
        "NULL, PRIMARY KEY (id) )"
    ),
    (
        "CREATE TABLE spans ( id INTEGER NOT NULL, trace_id BLOB NOT NULL, span_id BIGINT NOT NULL, parent_id "
        "BIGINT, operation INTEGER NOT NULL, attribute_set INTEGER, start BIGINT NOT NULL, duration BIGINT NOT NULL, "
        "status INTEGER NOT NULL, attributes TEXT, details TEXT, PRIMARY KEY (id) )"
    ),
    "CREATE INDEX spans_error ON spans (start) WHERE status = 2",
    "CREATE INDEX spans_operation ON spans (operation, start)",
    "CREATE INDEX spans_slow ON spans (start) WHERE duration >= 1000000000",
    "CREATE INDEX spans_trace ON spans ((id >> 16), trace_id)",
    (
        "CREATE TABLE window ( id INTEGER NOT NULL, opened BIGINT NOT NULL, changed BIGINT NOT NULL, min_start "
        "BIGINT, max_end BIGINT, PRIMARY KEY (id) )"
    ),
)
