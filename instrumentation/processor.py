"""The span processor: when `on_end` has returned, the span survives the death of the process."""

from __future__ import annotations

import logging
import time

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from ..storage import Store, open_store
from ..storage.records import REMOTE_KNOWN, REMOTE_PARENT, FrameType
from .convert import MAX_VALUE, encode_origin, encode_span

_logger = logging.getLogger("tracekeep")
_SPAN = int(FrameType.SPAN)
_SAMPLED = 1
_ERROR = 2
_MAX_ORIGINS = 10_000
_REPEAT = 20.0

_NO_STATE = DEFAULT_TRACE_STATE

_Known = tuple[Resource, InstrumentationScope | None, int]


class RetainingSpanProcessor(SpanProcessor):
    """Keeps every sampled span in a store.

    Add it to a provider of your own; `instrument()` does so for you.

    Args:
        store: where to; by default `open_store()`.
    """

    def __init__(self, store: Store | None = None) -> None:
        self.store = store if store is not None else open_store()
        self._journal = self.store.journal
        self._append = self._journal.append
        self._encode = msgspec.msgpack.Encoder().encode
        self._origins: dict[int, _Known] = {}
        self._numbers: dict[bytes, int] = {}
        self._complained = -_REPEAT

    def on_end(self, span: ReadableSpan) -> None:
        """Journal a finished span. Never raises, never waits.

        The fast way reads the SDK's own fields, as its public properties copy and wrap: they alone would
        cost more than all the rest. Where they are not as expected, the public way is taken.
        """
        try:
            trace_id, span_id, _, flags, trace_state, _ = span._context  # type: ignore[misc]  # noqa: SLF001
            if not flags & _SAMPLED:
                return
            parent = span._parent  # noqa: SLF001
            flags = flags | REMOTE_KNOWN  # makes a plain int of the SDK's subclass of it
            parent_id = 0
            if parent is not None:
                _, parent_id, is_remote, *_ = parent
                if is_remote:
                    flags |= REMOTE_PARENT
            known = self._origins.get(id(span._instrumentation_scope))  # noqa: SLF001
            if known is None or known[0] is not span._resource:  # noqa: SLF001
                known = self._origin(span)
            attributes = span._attributes  # noqa: SLF001
            status = span._status  # noqa: SLF001
            code = status._status_code._value_  # noqa: SLF001
            if (
                span._name.__class__ is not str  # noqa: SLF001
                or span._events._dq  # type: ignore[attr-defined]  # noqa: SLF001
                or span._links._dq  # type: ignore[attr-defined]  # noqa: SLF001
                or (trace_state is not _NO_STATE and trace_state)
                or attributes.dropped  # type: ignore[union-attr]
            ):
                self._on_end_carefully(span)
                return
            payload = self._encode(
                (
                    trace_id.to_bytes(16, "big"),
                    span_id,
                    parent_id,
                    flags,
                    known[2],
                    span._name,  # noqa: SLF001
                    span._kind._value_ + 1,  # noqa: SLF001
                    span._start_time,  # noqa: SLF001
                    span._end_time,  # noqa: SLF001
                    code,
                    status._description or None,  # noqa: SLF001
                    attributes._dict,  # type: ignore[union-attr]  # noqa: SLF001
                    None,
                )
            )
            if len(payload) > MAX_VALUE:  # some value may be over its limit
                self._on_end_carefully(span)
            else:
                self._append(_SPAN, payload, known[2], code == _ERROR)
        except Exception:
            self._on_end_carefully(span)

    def _on_end_carefully(self, span: ReadableSpan) -> None:
        try:
            context = span.get_span_context()
            if context is None or not context.trace_flags.sampled:
                return
            number = self._origin(span)[2]
            payload, changed = encode_span(span, number)
            if changed:
                self._journal.count_truncated(changed)
            important = span.status.status_code.value == _ERROR or bool(span.events)
            self._append(_SPAN, payload, number, important)
        except Exception:
            self._journal.count_unencodable()
            self._complain()

    def _origin(self, span: ReadableSpan) -> _Known:
        """The definition of the span's resource and scope, made when they are first met."""
        scope, resource = span.instrumentation_scope, span.resource
        known = self._origins.get(id(scope))
        if known is None or known[0] is not resource:
            payload = encode_origin(resource, scope)
            number = self._numbers.get(payload)
            if number is None:
                number = self._numbers[payload] = self._journal.define(payload)
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            # the objects are kept alive with their ids, which could otherwise be given to others
            known = self._origins[id(scope)] = (resource, scope, number)
        return known

    def _complain(self) -> None:
        now = time.monotonic()
        if now - self._complained >= _REPEAT:
            self._complained = now
            _logger.warning("tracekeep: a span could not be encoded; it is counted as dropped", exc_info=True)  # noqa: LOG014  # called while handling

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what has been recorded is committed; whether it is."""
        return self.store.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Wait for the writer, a second at most. Nothing depends on it: the journal has everything already."""
        self.store.flush(1.0)
