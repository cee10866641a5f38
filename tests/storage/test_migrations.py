"""Files of older versions are brought up, with all that is in them."""

import sqlite3
import time
from contextlib import closing

import msgspec
import pytest
from tk_app_metrics import find, kept, values
from tk_spans import Recorder, counter, die

from tracekeep.storage import StoreSettings
from tracekeep.storage.aggregates import Aggregates
from tracekeep.storage.families import EXCEPTIONS, SPAN_CALLS, SPAN_LATENCY, span_labels
from tracekeep.storage.layout import APPLICATION_ID
from tracekeep.storage.partitions import History

VERSION_1 = """
CREATE TABLE accounting ( name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name) ) WITHOUT ROWID;
CREATE TABLE commands ( id TEXT NOT NULL, applied BIGINT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (id) )
WITHOUT ROWID;
CREATE TABLE journals ( journal TEXT NOT NULL, counted BLOB NOT NULL, PRIMARY KEY (journal) ) WITHOUT ROWID;
CREATE TABLE marks ( journal TEXT NOT NULL, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, sequence
BIGINT NOT NULL, PRIMARY KEY (journal) ) WITHOUT ROWID;
CREATE TABLE operations ( id INTEGER NOT NULL, service TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT
NULL, PRIMARY KEY (id), UNIQUE (service, name, kind) );
CREATE TABLE properties ( name TEXT NOT NULL, value BIGINT NOT NULL, PRIMARY KEY (name) ) WITHOUT ROWID;
CREATE TABLE rollups ( minute INTEGER NOT NULL, operation INTEGER NOT NULL, count INTEGER NOT NULL, errors
INTEGER NOT NULL, slow INTEGER NOT NULL, sum BIGINT NOT NULL, min BIGINT NOT NULL, max BIGINT NOT NULL,
last BIGINT NOT NULL, sketch BLOB NOT NULL, PRIMARY KEY (minute, operation) ) WITHOUT ROWID;
CREATE TABLE series ( metric TEXT NOT NULL, labels TEXT NOT NULL, start BIGINT NOT NULL, updated BIGINT NOT
NULL, value REAL NOT NULL, sum REAL NOT NULL, buckets BLOB, PRIMARY KEY (metric, labels) ) WITHOUT ROWID;
CREATE INDEX series_updated ON series (updated);
"""
START = 1_700_000_000_000_000_000


@pytest.fixture
def old_file(tmp_path):
    """Give the path of an `aggregates.db` as version 1 made it: ten calls, one exception, ten records stored."""
    path = tmp_path / "aggregates.db"
    labels = msgspec.json.encode(span_labels("shop", "GET /items", 2, 0)).decode()
    buckets = msgspec.msgpack.encode([10] + [0] * len(SPAN_LATENCY.bounds))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(VERSION_1)
        rows = (
            (SPAN_CALLS.name, labels, START, 7, 10.0, 0.0, None),
            (SPAN_LATENCY.name, labels, START, 7, 10.0, 0.01, buckets),
            (EXCEPTIONS.name, '[["service","shop"],["exception_type","KeyError"]]', START, 6, 1.0, 0.0, None),
        )
        connection.executemany("INSERT INTO series VALUES (?,?,?,?,?,?,?)", rows)
        connection.executemany("INSERT INTO accounting VALUES (?,?)", [("accepted", 10), ("stored", 10)])
        connection.executemany("INSERT INTO properties VALUES (?,?)", [("commit", 7), ("cleared", 5)])
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")
    return path


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")
        return [(*row[:3], row[3] and " ".join(row[3].split())) for row in rows], connection.execute(
            "PRAGMA user_version"
        ).fetchone()


def test_a_migrated_file_is_like_a_fresh_one(tmp_path, old_file):
    """The same tables, columns, indexes and version, as SQLite itself states them."""
    fresh = tmp_path / "fresh.db"
    for path in (fresh, old_file):
        Aggregates(path, StoreSettings()).close()
    assert schema_of(old_file) == schema_of(fresh)


def test_a_migrated_file_keeps_its_totals(opened, old_file):
    """Values, buckets, start times and accounting go on where they were; nothing of it expires at once."""
    store = opened(old_file.parent)
    Recorder(store).many(5)
    kept(store)
    (calls,) = find(store, SPAN_CALLS.name).series
    assert (calls.value, calls.start_ns) == (15, START)
    (latency,) = find(store, SPAN_LATENCY.name).series
    assert (latency.value, latency.buckets[0], latency.start_ns) == (15, 15, START)
    assert values(store, EXCEPTIONS.name) == {"service=shop,exception_type=KeyError": 1}
    assert counter(store, "tracekeep_records_stored") == 15
    assert store._writer._custody.bases.aggregates.cleared == 5
    store.close()
    die(store)
    store = opened(old_file.parent)
    Recorder(store).many(1)
    kept(store)
    assert find(store, SPAN_CALLS.name).series[0].value == 16


def test_a_broken_migration_changes_nothing(old_file, monkeypatch):
    """It is one transaction: what fails leaves the file as it was, to be tried again."""
    from tracekeep.storage import aggregates

    before = schema_of(old_file)
    with monkeypatch.context() as patch:
        patch.setattr(aggregates, "MIGRATIONS", (f"{aggregates.MIGRATIONS[0]};\nSELECT nothing FROM nowhere",))
        with pytest.raises(sqlite3.OperationalError):
            Aggregates(old_file, StoreSettings())
    assert schema_of(old_file) == before
    Aggregates(old_file, StoreSettings()).close()
    assert schema_of(old_file)[1] == (2,)


HISTORY_1 = """
CREATE TABLE attribute_sets ( id INTEGER NOT NULL, attributes TEXT NOT NULL, PRIMARY KEY (id) );
CREATE TABLE errors ( id INTEGER NOT NULL, time BIGINT NOT NULL, service TEXT NOT NULL, type TEXT NOT NULL,
message TEXT NOT NULL, stacktrace TEXT, operational INTEGER NOT NULL, trace_id BLOB NOT NULL, span_id
BIGINT NOT NULL, operation TEXT NOT NULL, attributes TEXT NOT NULL, PRIMARY KEY (id) );
CREATE INDEX errors_time ON errors (time);
CREATE TABLE marks ( journal TEXT NOT NULL, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, sequence
BIGINT NOT NULL, PRIMARY KEY (journal) ) WITHOUT ROWID;
CREATE TABLE operations ( id INTEGER NOT NULL, origin INTEGER NOT NULL, name TEXT NOT NULL, kind INTEGER
NOT NULL, PRIMARY KEY (id) );
CREATE TABLE origins ( id INTEGER NOT NULL, service TEXT NOT NULL, resource TEXT NOT NULL, scope TEXT NOT
NULL, PRIMARY KEY (id) );
CREATE TABLE spans ( id INTEGER NOT NULL, trace_id BLOB NOT NULL, span_id BIGINT NOT NULL, parent_id
BIGINT, operation INTEGER NOT NULL, attribute_set INTEGER, start BIGINT NOT NULL, duration BIGINT NOT NULL,
status INTEGER NOT NULL, attributes TEXT, details TEXT, PRIMARY KEY (id) );
CREATE INDEX spans_error ON spans (start) WHERE status = 2;
CREATE INDEX spans_operation ON spans (operation, start);
CREATE INDEX spans_slow ON spans (start) WHERE duration >= 1000000000;
CREATE INDEX spans_trace ON spans ((id >> 16), trace_id);
CREATE TABLE window ( id INTEGER NOT NULL, opened BIGINT NOT NULL, changed BIGINT NOT NULL, min_start
BIGINT, max_end BIGINT, PRIMARY KEY (id) );
"""


def test_old_partitions_are_brought_up(opened, tmp_path):
    """All of them when the writer opens the history: their errors are found, and counted where totals are lost."""
    directory = tmp_path / "history"
    directory.mkdir()
    now = time.time_ns()
    for number, name in enumerate(("20260101T000000Z.db", "20260102T000000Z.db")):
        with closing(sqlite3.connect(directory / name, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(HISTORY_1)
            error = (1, now, "shop", "KeyError", f"no {number}", None, 0, bytes(16), 1, "GET /x", "{}")
            connection.execute(f"INSERT INTO errors VALUES ({','.join('?' * 11)})", error)
            connection.execute("INSERT INTO window VALUES (1, ?, ?, NULL, NULL)", (now, now))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute("PRAGMA user_version=1")
    store = opened(tmp_path)
    Recorder(store)("new")
    assert store.flush(5)
    found = store.errors().items
    assert [(each.message, each.group, each.release) for each in found] == [("no 1", None, None), ("no 0", None, None)]
    (group,) = store.error_groups().items
    assert (group.count, group.type) == (2, "KeyError")
    store.close()
    for name in ("20260101T000000Z.db", "20260102T000000Z.db"):
        History(tmp_path / "fresh", StoreSettings()).close()
        (fresh,) = (tmp_path / "fresh").glob("*.db")
        assert schema_of(directory / name) == schema_of(fresh)
