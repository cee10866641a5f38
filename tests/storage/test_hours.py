"""Hours are equal to their minutes, or not there; with or without them the answers are the same."""

import random
import sqlite3
import time
from contextlib import closing

from tk_spans import ERROR, Recorder, die
from tk_wait import eventually

from tracekeep.storage import engine, hours
from tracekeep.storage.performance import GROUPINGS

MINUTE = 60_000_000_000
HOUR = 60 * MINUTE
BASE = (time.time_ns() // HOUR - 30) * HOUR
"""The beginning of an hour, thirty hours ago."""


def summed(store):
    """The hours that are there, in hours after BASE, with how many spans each has."""
    with closing(sqlite3.connect(f"file:{store.data_dir}/aggregates.db?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT hour, sum(count) FROM rollup_hours GROUP BY hour")
        return {hour - BASE // HOUR: count for hour, count in rows}


def fill(store, seed, count=400, length=24):
    """Spans of two releases and two operations at any time of some hours; how many by hour."""
    chance, found = random.Random(seed), {}
    recorders = [Recorder(store, **{"service.version": release}) for release in ("1.0", "2.0")]
    for _ in range(count):
        end, duration = BASE + chance.randrange(length * HOUR), chance.randrange(1, 10**10)
        chance.choice(recorders)(
            chance.choice("ab"), start=end - duration, duration=duration, status=ERROR * (seed % 2)
        )
        hour = (end - BASE) // HOUR
        found[hour] = found.get(hour, 0) + 1
    assert store.flush(5)
    return found


def answers(store):
    """What is said of many windows."""
    chance, found = random.Random(7), []
    for by in GROUPINGS:
        for _ in range(8):
            since = BASE + chance.randrange(-2 * HOUR, 24 * HOUR)
            until = since + chance.randrange(1, 26 * HOUR)
            found.append(store.performance(since_ns=since, until_ns=until, by=by))
            found.append(store.performance(since_ns=since, until_ns=until, by=by, release="2.0", name="a"))
        found += [
            store.performance_series(since_ns=BASE, until_ns=BASE + 24 * HOUR, step_ns=step * MINUTE, by=by)
            for step in (60, 180, 90)
        ]
    return found


def test_hours_change_no_answer(opened, monkeypatch):
    """Of any window, group and step: the same before any hour is summed up, with some, and with all."""
    with monkeypatch.context() as patch:
        patch.setattr(hours.Hours, "sum_up", lambda *_: None)
        store = opened()
        wanted = fill(store, 1)
        before = answers(store)
        assert summed(store) == {}
    eventually(lambda: summed(store) == wanted, 10)
    assert answers(store) == before


def test_a_late_span_undoes_its_hour(store):
    """The answer has it at once; the hour is summed up again."""
    wanted = fill(store, 2, length=3)
    eventually(lambda: summed(store) == wanted, 10)
    Recorder(store)("late", start=BASE + HOUR + 5, duration=10)
    assert store.flush(5)
    found = store.performance(since_ns=BASE, until_ns=BASE + 3 * HOUR)
    assert sum(each.count for each in found.groups) == sum(wanted.values()) + 1
    wanted[1] += 1
    eventually(lambda: summed(store) == wanted, 10)
    assert sum(each.count for each in store.performance(since_ns=BASE, until_ns=BASE + 3 * HOUR).groups) == sum(
        wanted.values()
    )


def test_hours_go_on_after_a_restart_and_a_loss(opened):
    """What was summed up stays; after `aggregates.db` was lost it is made anew."""
    store = opened()
    wanted = fill(store, 3, length=5)
    eventually(lambda: summed(store) == wanted, 10)
    store.close()
    die(store)
    store = opened()
    more = fill(store, 4, length=5)
    wanted = {hour: wanted.get(hour, 0) + more.get(hour, 0) for hour in {*wanted, *more}}
    eventually(lambda: summed(store) == wanted, 10)
    engine.remove(store.data_dir / "aggregates.db")

    def is_back():
        try:
            return summed(store) == wanted
        except sqlite3.OperationalError:
            return False

    eventually(is_back, 15)


def test_hours_are_dropped_with_the_first_of_their_minutes():
    """No hour stands for minutes that are partly gone."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE rollup_hours (hour INTEGER); INSERT INTO rollup_hours VALUES (0), (1)")
        hours.Hours().prune(connection, 60)
        assert connection.execute("SELECT hour FROM rollup_hours").fetchall() == [(1,)]
        hours.Hours().prune(connection, 61)
        assert connection.execute("SELECT hour FROM rollup_hours").fetchall() == []
