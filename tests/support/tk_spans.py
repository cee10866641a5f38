"""Spans as journal records, appended as the instrumentation appends them, and processes that die of it."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tracekeep.storage.frames import HEADER, scan
from tracekeep.storage.reader import JournalReader, Position
from tracekeep.storage.records import Event, Extra, FrameType, Origin, SpanRecord
from tracekeep.storage.segments import FIRST_FRAME

MS = 1_000_000
SERVER, CLIENT, INTERNAL = 2, 3, 1
OK, ERROR = 1, 2
_ids = itertools.count(1)


def span(
    name="GET /items",
    *,
    origin=1,
    trace_id=None,
    span_id=None,
    parent_id=0,
    kind=SERVER,
    start=None,
    duration=MS,
    status=0,
    message=None,
    attributes=None,
    flags=1,
    **extra,
):
    """An encoded span; ids are unique where they aren't given, and it has just ended."""
    number = next(_ids)
    begun = time.time_ns() - duration if start is None else start
    return msgspec.msgpack.encode(
        SpanRecord(
            trace_id=trace_id or number.to_bytes(16, "big"),
            span_id=span_id or number,
            parent_id=parent_id,
            flags=flags,
            origin=origin,
            name=name,
            kind=kind,
            start=begun,
            end=begun + duration,
            status=status,
            message=message,
            attributes=attributes or {},
            extra=Extra(**extra) if extra else None,
        )
    )


def exception(type_="ValueError", message="no such item", *, time_ns=None, **attributes):
    """A span event as OpenTelemetry's `record_exception` makes it."""
    content = {"exception.type": type_, "exception.message": message, "exception.stacktrace": "Traceback …"}
    return Event(time.time_ns() if time_ns is None else time_ns, "exception", content | attributes)


def definition(service="shop", **resource):
    """An encoded origin."""
    return msgspec.msgpack.encode(Origin({"service.name": service, **resource}, scope_name="tests"))


class Recorder:
    """Appends spans of one service to a store or a journal."""

    def __init__(self, store, service="shop", **resource):
        self.journal = getattr(store, "journal", store)
        self.origin = self.journal.define(definition(service, **resource))

    def __call__(self, name="GET /items", **details):
        payload = span(name, origin=self.origin, **details)
        self.journal.append(FrameType.SPAN, payload, self.origin, details.get("status") == ERROR)
        return payload

    def many(self, count, name="GET /items", **details):
        for _ in range(count):
            self(name, **details)


def die(store):
    """What the death of its process does to a store: nothing more is written, and the kernel drops its locks."""
    journal = getattr(store, "journal", store)
    if journal is not store and store._writer is not None:
        store._writer.stop(0.0)
    journal.close()
    if journal._supply._process_lock is not None:
        journal._supply._process_lock.release()


def directory_of(journal):
    """Where a journal's segments are; None while there is no such directory."""
    return journal._root / journal.name if journal.name else None


def only_journal(root):
    """The directory of the one journal of a data directory."""
    (found,) = Path(root, "journal").iterdir()
    return found


def read_all(directory, position=None):
    """All records that a new reader finds in a dead process's journal."""
    reader = JournalReader(Path(directory), position or Position())
    try:
        assert not reader.check_alive()
        return drain(reader)
    finally:
        reader.release()
        if reader.adopted is not None:
            reader.adopted.release()


def drain(reader):
    """What a reader finds until there is no more."""
    found = []
    while more := reader.read(1000):
        found += more
    return found


def frame_spans(data):
    """(start, stop) of each frame in a whole segment's bytes."""
    at, places = FIRST_FRAME, []
    for _type, _sequence, payload in scan(bytes(data[FIRST_FRAME:]), len(data))[0]:
        places.append((at, at + HEADER + len(payload)))
        at = places[-1][1]
    return places


def everything(store, **filters):
    """All spans of a store, over all pages."""
    found, cursor = [], None
    while True:
        page = store.spans(limit=1000, cursor=cursor, **filters)
        assert not page.degraded
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


def series_of(store, family, **labels):
    """The committed series of a family that have these labels."""
    return [
        series
        for each in store.totals().families
        if each.name == family
        for series in each.series
        if labels.items() <= dict(series.labels).items()
    ]


def counter(store, family, **labels):
    """The sum of such series."""
    return sum(series.value for series in series_of(store, family, **labels))


class Script:
    """A child process that runs Python code with `sys.argv[1:]`; killed at the end."""

    def __init__(self, code, *arguments, env=None):
        command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths} | (env or {}),
        )

    def line(self):
        """The next line that it prints."""
        return self.process.stdout.readline().strip()

    def say(self, text=""):
        """Send it a line."""
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self, timeout=20):
        """Let it run to its end; what it printed."""
        out, _ = self.process.communicate("", timeout=timeout)
        assert self.process.returncode == 0, f"exit code {self.process.returncode}: {out}"
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()


def check_kept(store, count, *, stored=None):
    """Every accepted span is in the history once, and totals, rollups and accounting say the same number."""
    account = store.accounting()
    assert account.balanced, account
    assert (account.accepted, account.pending) == (count, 0), account
    assert account.stored == (count if stored is None else stored), account
    spans = everything(store)
    assert len({(each.trace_id, each.span_id) for each in spans}) == len(spans) == account.stored
    assert counter(store, "traces_spanmetrics_calls") == account.stored
    assert counter(store, "traces_spanmetrics_latency") == account.stored
    since, until = min(each.start_ns for each in spans), max(each.start_ns + each.duration_ns for each in spans)
    rolled = store.performance(since_ns=since, until_ns=until + 1)
    assert sum(each.count for each in rolled.groups) == account.stored
    return True
