"""The span processor: when `on_end` has returned, the span survives the death of the process."""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from ..storage import Store, open_store
from ..storage.cleaning import MAX_VALUE
from ..storage.compiled import compiled
from ..storage.records import REMOTE_KNOWN, REMOTE_PARENT, FrameType, Origin, Template
from .complaints import Complaints
from .convert import encode_span, make_origin

_logger = logging.getLogger("tracekeep")
_SPAN = int(FrameType.SPAN)
_SAMPLED = 1
_ERROR = 2
_MAX_ORIGINS = 10_000
_MAX_TEMPLATES = 1000
"""Of one origin; spans past it carry names and keys themselves, as an application that puts ids in names would."""

_NO_STATE = DEFAULT_TRACE_STATE


class _Origin(NamedTuple):
    """A resource and a scope that have been met: kept alive, as their ids could otherwise be given to others."""

    resource: Resource
    scope: InstrumentationScope | None
    origin: Origin
    number: int
    templates: dict[tuple[Any, ...], int]
    """Numbers by span name, kind and attribute keys."""


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
        self._origins: dict[int, _Origin] = {}
        self._known: dict[bytes, _Origin] = {}
        self._complaints = Complaints(_logger)
        self._speed_up()

    def _speed_up(self) -> None:
        """Put the C form of `on_end` before this one, where it was built and nobody has overridden this one."""
        recorder = compiled(__package__, "Recorder")
        if recorder is not None and type(self).on_end is RetainingSpanProcessor.on_end:
            quick = recorder(self._journal.tail.append, self._origins, _NO_STATE, self._on_end_in_python)
            self.on_end = quick.on_end  # type: ignore[method-assign]  # before the class's own

    def on_end(self, span: ReadableSpan) -> None:
        """Journal a finished span. Never raises, never waits."""
        self._on_end_in_python(span)

    def _on_end_in_python(self, span: Any) -> None:
        """Read the SDK's own fields, as its public properties copy and wrap: they alone would cost more than all else.

        Where they are not as expected, the public way is taken.
        """
        try:
            trace_id, span_id, _, flags, trace_state, _ = span._context
            if not flags & _SAMPLED:
                return
            parent = span._parent
            flags = flags | REMOTE_KNOWN  # makes a plain int of the SDK's subclass of it
            parent_id = 0
            if parent is not None:
                _, parent_id, is_remote, *_ = parent
                if is_remote:
                    flags |= REMOTE_PARENT
            known = self._origins.get(id(span._instrumentation_scope))
            if known is None or known.resource is not span._resource:
                known = self._origin(span)
            attributes = span._attributes
            status = span._status
            code = status._status_code._value_
            if (
                span._name.__class__ is not str
                or span._events._dq
                or span._links._dq
                or (trace_state is not _NO_STATE and trace_state)
                or attributes.dropped
            ):
                self._on_end_carefully(span)
                return
            name, kind, values = span._name, span._kind._value_, attributes._dict
            template = known.templates.get((name, kind, *values))
            if template is None:
                template = self._template(known, name, kind, tuple(values))
            payload = self._encode(
                (
                    trace_id.to_bytes(16, "big"),
                    span_id,
                    parent_id,
                    flags,
                    template,
                    span._start_time,
                    span._end_time,
                    code,
                    status._description or None,
                    list(values.values()),
                )
            )
            if len(payload) > MAX_VALUE or not template:  # some value may be over its limit; or too many names
                self._on_end_carefully(span)
            else:
                self._append(_SPAN, payload, template, code == _ERROR)
        except Exception:
            self._on_end_carefully(span)

    def _on_end_carefully(self, span: ReadableSpan) -> None:
        try:
            context = span.get_span_context()
            if context is None or not context.trace_flags.sampled:
                return
            number = self._origin(span).number
            payload, changed = encode_span(span, number)
            if changed:
                self._journal.count_truncated(changed)
            important = span.status.status_code.value == _ERROR or bool(span.events)
            self._append(_SPAN, payload, number, important)
        except Exception:
            self._journal.count_unencodable()
            self._complaints.note("tracekeep: a span could not be encoded; it is counted as dropped")

    def _origin(self, span: ReadableSpan) -> _Origin:
        """What is known of the span's resource and scope."""
        scope, resource = span.instrumentation_scope, span.resource
        known = self._origins.get(id(scope))
        if known is None or known.resource is not resource:
            origin = make_origin(resource, scope)
            known = self._known.get(self._encode(origin))
            if known is None or known.resource is not resource or known.scope is not scope:
                number = known.number if known is not None else self._journal.define(self._encode(origin))
                known = _Origin(resource, scope, origin, number, known.templates if known is not None else {})
                self._known[self._encode(origin)] = known
            if len(self._origins) >= _MAX_ORIGINS:
                self._origins.clear()
            self._origins[id(scope)] = known
        return known

    def _template(self, known: _Origin, name: str, kind: int, keys: tuple[str, ...]) -> int:
        """The number of a template that is met for the first time; 0 where there are too many already."""
        definition = self._encode(Template(known.origin, name, kind + 1, list(keys)))
        if len(known.templates) >= _MAX_TEMPLATES or len(definition) > MAX_VALUE:
            return 0
        number = self._journal.define(definition)
        known.templates[name, kind, *keys] = number
        return number

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until what has been recorded is committed; whether it is."""
        return self.store.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Wait for the writer, a second at most. Nothing depends on it: the journal has everything already."""
        self.store.flush(1.0)
