"""How older databases are brought up: SQL scripts, one for each step of the schema's version.

Each is run in one transaction; its statements end with a semicolon and a line end.
"""

from __future__ import annotations

_TO_2 = """\
ALTER TABLE series RENAME TO series_1;
DROP INDEX series_updated;
CREATE TABLE metrics ( name TEXT NOT NULL, type TEXT NOT NULL, help TEXT NOT NULL, unit TEXT NOT NULL, \
policy TEXT NOT NULL, bounds BLOB NOT NULL, since BIGINT NOT NULL, updated BIGINT NOT NULL, \
PRIMARY KEY (name) ) WITHOUT ROWID;
CREATE TABLE edges ( trace_id BLOB NOT NULL, span_id BIGINT NOT NULL, caller INTEGER NOT NULL, \
service TEXT NOT NULL, failed INTEGER NOT NULL, messaging INTEGER NOT NULL, peer TEXT NOT NULL, \
duration BIGINT NOT NULL, moment BIGINT NOT NULL, PRIMARY KEY (trace_id, span_id) ) WITHOUT ROWID;
CREATE TABLE error_groups ( id TEXT NOT NULL, version INTEGER NOT NULL, type TEXT NOT NULL, message TEXT NOT NULL, \
culprit TEXT NOT NULL, services TEXT NOT NULL, first_seen BIGINT NOT NULL, last_seen BIGINT NOT NULL, \
count BIGINT NOT NULL, operational INTEGER NOT NULL, state TEXT NOT NULL, changed BIGINT NOT NULL, \
regressions INTEGER NOT NULL, regressed BIGINT NOT NULL, releases TEXT NOT NULL, samples TEXT NOT NULL, \
hours BLOB NOT NULL, PRIMARY KEY (id) ) WITHOUT ROWID;
CREATE TABLE producers ( journal TEXT NOT NULL, metric TEXT NOT NULL, PRIMARY KEY (journal, metric) ) WITHOUT ROWID;
CREATE TABLE readings ( journal TEXT NOT NULL, metric TEXT NOT NULL, labels TEXT NOT NULL, series TEXT NOT NULL, \
value REAL, sum REAL NOT NULL, buckets BLOB, time BIGINT NOT NULL, \
PRIMARY KEY (journal, metric, labels) ) WITHOUT ROWID;
CREATE TABLE rollup_hours ( hour INTEGER NOT NULL, operation INTEGER NOT NULL, count INTEGER NOT NULL, \
errors INTEGER NOT NULL, slow INTEGER NOT NULL, sum BIGINT NOT NULL, min BIGINT NOT NULL, max BIGINT NOT NULL, \
last BIGINT NOT NULL, sketch BLOB NOT NULL, PRIMARY KEY (hour, operation) ) WITHOUT ROWID;
CREATE TABLE series ( metric TEXT NOT NULL, labels TEXT NOT NULL, start BIGINT NOT NULL, updated BIGINT NOT NULL, \
touched BIGINT NOT NULL, hidden INTEGER NOT NULL, value REAL, sum REAL NOT NULL, buckets BLOB, exemplars BLOB, \
PRIMARY KEY (metric, labels) ) WITHOUT ROWID;
CREATE INDEX series_hidden ON series (touched) WHERE hidden > 0;
CREATE INDEX series_updated ON series (updated);
INSERT INTO series(metric, labels, start, updated, touched, hidden, value, sum, buckets) \
SELECT metric, labels, start, updated, CAST(strftime('%s', 'now') AS INTEGER) * 1000000000, 0, value, sum, buckets \
FROM series_1;
DROP TABLE series_1;
ALTER TABLE operations RENAME TO operations_1;
CREATE TABLE operations ( id INTEGER NOT NULL, service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, \
release TEXT NOT NULL, PRIMARY KEY (id), UNIQUE (service, name, kind, release) );
INSERT INTO operations SELECT id, service, name, kind, '' FROM operations_1;
DROP TABLE operations_1"""
# Application metrics: series that expire and have exemplars, definitions, and what live processes say. Operations
# are told apart by release; of those before nobody knows it.

AGGREGATES = (_TO_2,)
"""Of `aggregates.db`, from version n+1 to n+2."""

HISTORY = (
    """\
ALTER TABLE errors ADD COLUMN release TEXT;
ALTER TABLE errors ADD COLUMN group_id TEXT;
CREATE INDEX errors_group ON errors (group_id)""",
)
"""The same of a partition: errors that say which release they are of, and which group."""
