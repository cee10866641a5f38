"""Errors as log records, appended as the instrumentation appends them."""

import time

import msgspec

from tracekeep.storage.records import FrameType, LogRecord, Origin

STACK = """Traceback (most recent call last):
  File "/app/shop/{module}.py", line {line}, in {function}
    {source}
{type}: {message}
"""


def stack(type_="ValueError", message="no such item", *, module="views", line=10, function="item", source="find(id)"):
    """A Python stack trace of one frame in the app's own code."""
    return STACK.format(module=module, line=line, function=function, source=source, type=type_, message=message)


class Logger:
    """Appends log records with an exception to a store, as one service."""

    def __init__(self, store, service="shop", release=None):
        self.store = store
        resource = {"service.name": service} | ({"service.version": release} if release else {})
        self.origin = store.journal.define(msgspec.msgpack.encode(Origin(resource)))

    def __call__(self, type_="ValueError", message="no such item", *, trace_id=b"", span_id=0, **details):
        attributes = {"exception.type": type_, "exception.message": message}
        if details.get("stack", True):
            text = details.get("stack") or stack(type_.rpartition(".")[2], message)
            attributes["exception.stacktrace"] = text
        record = LogRecord(
            trace_id=trace_id,
            span_id=span_id or (1 if trace_id else 0),
            flags=1,
            origin=self.origin,
            time=details.get("time_ns") or time.time_ns(),
            severity=17,
            logger=details.get("logger", "shop.views"),
            event=details.get("event", ""),
            body=details.get("body"),
            attributes=attributes | details.get("attributes", {}),
        )
        payload = msgspec.msgpack.encode(record)
        self.store.journal.append(FrameType.LOG, payload, self.origin, important=True)
        return record
