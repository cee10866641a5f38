"""Metrics, series and readings as rows of `aggregates.db`: what is loaded at start, and what a commit writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Container
from dataclasses import replace
from math import nan
from typing import Any

import msgspec

from .change import Change, Metric
from .exemplars import Exemplars, decode_exemplars, encode_exemplars
from .families import FAMILIES, OVERFLOW, FamilySpec
from .gauges import GaugeState, Reading, combine, worker_label
from .series import (
    Delta,
    SeriesState,
    decode_buckets,
    decode_labels,
    encode_buckets,
    encode_labels,
    storable,
)

EXPIRED, GONE = 1, 2
"""Why a series is hidden."""

_SERIES = "SELECT metric, labels, start, touched, value, sum, buckets, exemplars FROM series"
_METRICS = "SELECT name, type, help, unit, policy, bounds, since FROM metrics"
_IN_USE = " WHERE name IN (SELECT metric FROM series WHERE hidden=0) OR name IN (SELECT metric FROM producers)"
_UPSERT_SERIES = "INSERT OR REPLACE INTO series VALUES (?,?,?,?,?,0,?,?,?,?)"
_UPDATE_EXEMPLARS = "UPDATE series SET exemplars=?, updated=? WHERE metric=? AND labels=? AND hidden=0"
_HIDE = "UPDATE series SET hidden=?, updated=?, touched=?, exemplars=NULL WHERE metric=? AND labels=?"
_UPSERT_METRIC = "INSERT OR REPLACE INTO metrics VALUES (?,?,?,?,?,?,?,?)"
_UPSERT_READING = "INSERT OR REPLACE INTO readings VALUES (?,?,?,?,?,?,?,?)"
_DELETE_READING = "DELETE FROM readings WHERE journal=? AND metric=? AND labels=?"
_decode_bounds = msgspec.msgpack.Decoder(tuple[float, ...]).decode


# --- reading ----------------------------------------------------------------------------------------------------------


def read_metrics(connection: sqlite3.Connection) -> dict[str, Metric]:
    """All metrics that have series or are given by a live process, with their series, and the store's own."""
    fetch = connection.execute
    known = {row[0]: _metric(row) for row in fetch(_METRICS + _IN_USE)}
    known |= {name: _own_metric(connection, spec) for name, spec in FAMILIES.items()}
    starts: dict[tuple[str, str], int] = {}
    for row in fetch(f"{_SERIES} WHERE hidden=0"):
        metric = known.get(row[0])
        if metric is not None and metric.spec.is_total:
            state = _series(metric.spec, row)
            if state is not None:
                metric.totals[state.labels] = state
        elif metric is not None:
            starts[row[0], row[1]] = row[2]
    for journal, name in fetch("SELECT journal, metric FROM producers"):
        if name in known:
            known[name].users.add(journal)
    for row in fetch("SELECT journal, metric, labels, series, value, sum, buckets, time FROM readings"):
        metric = known.get(row[1])
        if metric is not None and not metric.spec.is_total:
            _add_reading(metric, starts.get((row[1], row[3]), 0), row)
    return known


def read_metric(connection: sqlite3.Connection, name: str) -> Metric | None:
    """The definition of a metric whose series have all expired; None where there is none."""
    row = connection.execute(f"{_METRICS} WHERE name=?", (name,)).fetchone()
    return _metric(row) if row is not None else None


def read_series(connection: sqlite3.Connection, state: SeriesState) -> SeriesState | None:
    """A series that has expired, by its metric and labels; None where there is none."""
    row = connection.execute(f"{_SERIES} WHERE metric=? AND labels=?", (state.spec.name, state.labels_text)).fetchone()
    return _series(state.spec, row) if row is not None else None


def _own_metric(connection: sqlite3.Connection, spec: FamilySpec) -> Metric:
    """One of the store's own, with the bounds that its buckets were counted by, where those are not the usual ones."""
    row = connection.execute("SELECT bounds FROM metrics WHERE name=?", (spec.name,)).fetchone()
    bounds = _decode_bounds(row[0]) if row is not None else spec.bounds
    return Metric(spec if bounds == spec.bounds else replace(spec, bounds=bounds))


def _metric(row: tuple[Any, ...]) -> Metric:
    name, type_, help_, unit, policy, bounds, since = row
    return Metric(FamilySpec(name, help_, _decode_bounds(bounds), unit, type_, policy), since)


def _series(spec: FamilySpec, row: tuple[Any, ...]) -> SeriesState | None:
    _metric_name, labels, start, touched, value, total, buckets, exemplars = row
    state = SeriesState(spec, decode_labels(labels), start, touched)
    state.value, state.sum = value or 0.0, total
    found = decode_buckets(buckets)
    if (found is None) != (state.buckets is None) or len(found or ()) != len(state.buckets or ()):
        return None  # counted by other buckets: it begins anew
    state.buckets = found
    state.exemplars = decode_exemplars(exemplars)
    return state


def _add_reading(metric: Metric, start: int, row: tuple[Any, ...]) -> None:
    journal, _name, labels, series, value, total, blob, time_ns = row
    own = decode_labels(series)
    buckets = decode_buckets(blob)
    if own[:1] == OVERFLOW:
        place: dict[Any, GaugeState] = metric.overflow
        key: Any = worker_label(journal) if metric.spec.policy == "worker" else ""
    else:
        place, key = metric.gauges, own
    state = place.get(key)
    if state is None:
        state = place[key] = GaugeState(metric.spec, own, start)
    reading = Reading(nan if value is None else value, total, tuple(buckets) if buckets is not None else None, time_ns)
    state.readings[journal, decode_labels(labels)] = reading


# --- writing ----------------------------------------------------------------------------------------------------------


def write_metrics(connection: sqlite3.Connection, change: Change) -> None:
    """Write what a change does to metrics, series and readings."""
    many = connection.executemany
    replaced = [(name,) for name, metric in change.metrics.items() if not metric.is_committed]
    for table, column in (("series", "metric"), ("readings", "metric"), ("producers", "metric")):
        many(f"DELETE FROM {table} WHERE {column}=?", replaced)
    if replaced:
        connection.execute("INSERT OR REPLACE INTO properties VALUES ('forgotten', ?)", (change.commit,))
    definitions = {name: (metric.spec, metric.since) for name, metric in change.metrics.items()}
    many(_UPSERT_METRIC, [_metric_row(spec, since, change.commit) for spec, since in definitions.values()])
    many(
        "UPDATE metrics SET help=?, unit=?, updated=? WHERE name=?",
        [(spec.help, spec.unit, change.commit, name) for name, spec in change.texts.items()],
    )
    many(_UPDATE_EXEMPLARS, [_exemplars_row(state, change.commit, held) for state, held in change.exemplars.items()])
    many(_UPSERT_SERIES, [_series_row(state, change, delta) for state, delta in change.series.items()])
    many(_HIDE, [_hide_row(EXPIRED, change.commit, state.touched, state) for state in change.expired])
    _write_gauges(connection, change)
    producers = [(journal, name) for name, journals in change.users.items() for journal in journals]
    many("INSERT OR IGNORE INTO producers VALUES (?,?)", producers)
    withdrawn = [(journal,) for journal in change.withdrawn]
    many("DELETE FROM producers WHERE journal=?", withdrawn)
    many("DELETE FROM readings WHERE journal=?", withdrawn)


def _write_gauges(connection: sqlite3.Connection, change: Change) -> None:
    exposed, gone, kept, dropped = [], [], [], []
    for state, changes in change.readings.items():
        readings = state.after(changes)
        if readings:
            exposed.append(_gauge_row(state, change, combine(state.spec, readings.values())))
        else:
            gone.append(_hide_row(GONE, change.commit, change.time, state))
        for (journal, labels), reading in changes.items():
            key = (journal, state.spec.name, encode_labels(labels))
            if reading is None:
                dropped.append(key)
            else:
                kept.append((*key, state.labels_text, *_numbers(reading), reading.time))
    connection.executemany(_UPSERT_SERIES, exposed)
    connection.executemany(_HIDE, gone)
    connection.executemany(_DELETE_READING, dropped)
    connection.executemany(_UPSERT_READING, kept)


def _metric_row(spec: FamilySpec, since: int, commit: int) -> tuple[Any, ...]:
    bounds = msgspec.msgpack.encode(spec.bounds)
    return (spec.name, spec.type, spec.help, spec.unit, spec.policy, bounds, since, commit)


def _series_row(state: SeriesState, change: Change, delta: Delta) -> tuple[Any, ...]:
    value, total, buckets, exemplars = state.after(delta)
    key = (state.spec.name, state.labels_text, state.start, change.commit, change.time)
    return (*key, value, storable(total), encode_buckets(buckets), encode_exemplars(exemplars))


def _exemplars_row(state: SeriesState, commit: int, exemplars: Exemplars | None) -> tuple[Any, ...]:
    return (encode_exemplars(exemplars), commit, state.spec.name, state.labels_text)


def _gauge_row(state: GaugeState, change: Change, reading: Reading) -> tuple[Any, ...]:
    return (
        state.spec.name, state.labels_text, state.start, change.commit, change.time, *_numbers(reading), None
    )  # fmt: skip


def _numbers(reading: Reading) -> tuple[Any, ...]:
    """Value, sum and buckets; a value that is no number is written as NULL by the driver."""
    buckets = list(reading.buckets) if reading.buckets is not None else None
    return (reading.value, storable(reading.sum), encode_buckets(buckets))


def _hide_row(why: int, commit: int, touched: int, state: SeriesState | GaugeState) -> tuple[Any, ...]:
    return (why, commit, touched, state.spec.name, state.labels_text)


def delete_hidden(connection: sqlite3.Connection, expired_before: int, gone_before: int) -> bool:
    """Delete rows of series that were hidden before some times (ns); whether any of them was a total.

    Readers whose last look was before a row was hidden must read everything anew: `forgotten` says so.
    """
    past = "hidden=1 AND touched < ? OR hidden=2 AND touched < ?"
    times = (expired_before, gone_before)
    latest, totals = connection.execute(
        f"SELECT max(updated), coalesce(sum(hidden=1), 0) FROM series WHERE hidden > 0 AND ({past})", times
    ).fetchone()
    if latest is None:
        return False
    connection.execute(f"DELETE FROM series WHERE hidden > 0 AND ({past})", times)
    connection.execute(
        "INSERT INTO properties VALUES ('forgotten', ?) "
        "ON CONFLICT(name) DO UPDATE SET value=max(value, excluded.value)",
        (latest,),
    )
    return bool(totals)


def delete_unused(connection: sqlite3.Connection, known: Container[str]) -> None:
    """Delete definitions that no series refers to any more, and that no process gives."""
    unused = connection.execute(
        "SELECT name FROM metrics WHERE NOT EXISTS (SELECT 1 FROM series WHERE series.metric=metrics.name)"
    ).fetchall()
    connection.executemany("DELETE FROM metrics WHERE name=?", [row for row in unused if row[0] not in known])
