"""From journal frames to what the databases take: span rows, error rows, and what is to be folded.

This loop sees every record once, in the writer, so it is written for speed: what is the same for many
spans (resource, scope, name, kind, the attributes with few values) is looked up, not computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import add, itemgetter
from typing import Any

import msgspec

from .compiled import compiled
from .dimensions import NO_DIMENSIONS, Dimensions
from .exceptions import ErrorRow, RecentErrors
from .jsonable import jsonable
from .peers import peer_of
from .records import (
    COMPACT,
    REMOTE_PARENT,
    Command,
    CompactSpan,
    Extra,
    LogRecord,
    Origin,
    SpanKind,
    SpanRecord,
    StatusCode,
    Template,
)
from .shapes import LABEL_KEYS, KnownOrigin, Layout, Layouts, Operation, Plan, Shape, is_long

_decode_span = msgspec.msgpack.Decoder(SpanRecord).decode
_decode_compact = msgspec.msgpack.Decoder(CompactSpan).decode
_decode_template = msgspec.msgpack.Decoder(Template).decode
_decode_origin = msgspec.msgpack.Decoder(Origin).decode
_decode_log = msgspec.msgpack.Decoder(LogRecord).decode
_decode_command = msgspec.msgpack.Decoder(Command).decode
_take_plain = compiled(__package__, "take_plain")
"""Takes plain spans until one isn't: (its place, the key of its shape where only that was missing)."""
_encode = msgspec.msgpack.Encoder().encode
_to_json = msgspec.json.Encoder().encode

MINUTE = 60_000_000_000
_MAX_TIME = (1 << 63) - 1
_SIGN = 1 << 63
_WRAP = 1 << 64

MAX_SETS = 4096
"""Sets of shared attributes in one partition; past it spans keep theirs, so a hostile header can't grow them."""
_MAX_SHAPES = 16_384
_MAX_JOURNALS = 256

Row = tuple[Any, ...]
AnySpan = CompactSpan | SpanRecord
Folds = dict[tuple[Shape, int], list[Row]]
"""Rows of spans, by shape and the minute in which they ended."""
TRACE, SPAN, START, DURATION = 0, 1, 5, 6
"""Places in a span's row."""


@dataclass(slots=True)
class Intake:
    """One batch, ready for the databases."""

    spans: list[Row] = field(default_factory=list)
    errors: list[ErrorRow] = field(default_factory=list)
    changed_errors: list[ErrorRow] = field(default_factory=list)
    """Already stored ones whose context has become known."""
    late_errors: list[ErrorRow] = field(default_factory=list)
    """Logged ones whose request may have ended before."""
    origins: list[Row] = field(default_factory=list)
    operations: list[Row] = field(default_factory=list)
    sets: list[Row] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    folds: Folds = field(default_factory=dict)
    exceptions: dict[tuple[str, str], int] = field(default_factory=dict)
    undecodable: int = 0

    @property
    def min_start(self) -> int:
        """The earliest start of its spans; there must be one."""
        return int(min(map(itemgetter(START), self.spans)))

    @property
    def max_end(self) -> int:
        """The latest end of its spans; there must be one."""
        return int(max(map(add, map(itemgetter(START), self.spans), map(itemgetter(DURATION), self.spans))))


@dataclass(slots=True)
class _Met:
    """What is known of one journal's templates. Found by the id of its definitions, so it keeps them alive."""

    definitions: Mapping[int, bytes]
    layouts: dict[int, Layouts] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)


class Dictionary:
    """What one partition has numbered: origins, operations, attribute sets; and its errors of late.

    Made anew with each partition, so each can be read on its own. `dimensions`: the setting
    `span_metric_dimensions`.
    """

    def __init__(
        self,
        *,
        last_origin: int = 0,
        last_operation: int = 0,
        last_set: int = 0,
        last_error: int = 0,
        dimensions: tuple[str, ...] = (),
    ) -> None:
        self.origins: dict[bytes, KnownOrigin] = {}
        self.defined: dict[bytes, KnownOrigin] = {}
        self.templates: dict[bytes, Layouts] = {}
        self.sets: dict[str, int] = {}
        self.shape_count = 0
        self.last_origin = last_origin
        self.last_operation = last_operation
        self.last_set = last_set
        self.errors = RecentErrors(last_error)
        self.dimensions = dimensions
        self._journals: dict[int, _Met] = {}

    def renewed(self) -> Dictionary:
        """Another one that goes on with the numbers, for when what this one numbered did not get stored."""
        return Dictionary(
            last_origin=self.last_origin,
            last_operation=self.last_operation,
            last_set=self.last_set,
            last_error=self.errors.last,
            dimensions=self.dimensions,
        )

    # --- the loop ------------------------------------------------------------------------------------------------

    def take_spans(self, payloads: list[bytes], definitions: Mapping[int, bytes], batch: Intake) -> None:
        """Turn encoded spans into rows and folds of `batch`. A payload that can't be decoded is counted.

        Args:
            payloads: a CompactSpan or SpanRecord each.
            definitions: of the journal that they are from, by number.
            batch: what they are added to.
        """
        met = self._met(definitions)
        folds = batch.folds
        at, key = -1, None
        while (at := at + 1) < len(payloads):
            if _take_plain is not None:
                at, key = _take_plain(payloads, at, met.plans, batch.spans, folds, self.errors.by_trace)
                if at == len(payloads):
                    return
            try:
                row, shape = self._take(payloads[at], key, met, batch)
            except Exception:  # one record that nothing can be made of must not hold up the rest
                batch.undecodable += 1
                continue
            place = (shape.leader, (row[START] + row[DURATION]) // MINUTE)
            fold = folds.get(place)
            if fold is None:
                folds[place] = [row]
            else:
                fold.append(row)
            batch.spans.append(row)

    def take_logs(self, payloads: list[bytes], definitions: Mapping[int, bytes], batch: Intake) -> None:
        """The same for encoded log records: those that tell of an exception become errors.

        Before the spans of a batch, so that the request of an error is still to end.
        """
        for payload in payloads:
            try:
                log = _decode_log(payload)
                self.errors.take_log(log, self._defined(log.origin, definitions, batch), batch)
            except Exception:
                batch.undecodable += 1

    def _take(self, payload: bytes, key: bytes | None, met: _Met, batch: Intake) -> tuple[Row, Shape]:
        """One span's row and shape; with a key, the shape is known by it from now on."""
        span: AnySpan
        if payload[:1] == COMPACT:
            span = _decode_compact(payload)
            values, extra = span.values, None
            layouts = met.layouts.get(span.template) or self._meet(span.template, met, batch)
        else:
            span = _decode_span(payload)
            values, extra = list(span.attributes.values()), span.extra
            layouts = self._layouts(span, met.definitions, batch)
        types = tuple(map(type, values))
        layout = layouts.known.get(types) or layouts.add(types)
        start, end, status = span.start, span.end, span.status
        if not 0 <= start <= end <= _MAX_TIME:
            start, end = _sane_times(start, end)
        own = dict(zip(layout.own_keys, layout.own(values), strict=True))
        if not layout.is_plain:
            own = jsonable(own)
        shared = layout.shared(values)
        shape = layout.shapes.get((shared, status))
        if shape is None:
            shape = self._shape(layouts.operation, layout, shared, own, status=status, batch=batch)
        if key is not None and layout.is_plain and (shared, status) in layout.shapes:
            layouts.learn(key, shape)
        span_id, parent_id = span.span_id, span.parent_id
        details = None
        if extra is not None or span.message is not None or span.flags & REMOTE_PARENT:
            details = _details(span, extra)
        row = (
            span.trace_id,
            span_id if span_id < _SIGN else span_id - _WRAP,
            (parent_id if parent_id < _SIGN else parent_id - _WRAP) if parent_id else None,
            shape.operation,
            shape.attribute_set,
            start,
            end - start,
            shape.status,
            _to_json(own).decode() if own else None,
            details,
        )
        if extra is not None and extra.events:
            self.errors.take(span, extra.events, shape, own, batch)
        if shape.kind == SpanKind.SERVER and span.trace_id in self.errors.by_trace:
            self.errors.settle(span, shape, own, batch)
        return row, shape

    def _met(self, definitions: Mapping[int, bytes]) -> _Met:
        """What is known of a journal's templates."""
        met = self._journals.get(id(definitions))
        if met is None:
            if len(self._journals) >= _MAX_JOURNALS:
                self._journals.clear()
            met = self._journals[id(definitions)] = _Met(definitions)
        return met

    def _meet(self, number: int, met: _Met, batch: Intake) -> Layouts:
        layouts = met.layouts[number] = self._template(met.definitions[number], batch)
        met.plans[number] = layouts.plan
        return layouts

    # --- dictionaries --------------------------------------------------------------------------------------------

    def _template(self, definition: bytes, batch: Intake) -> Layouts:
        """What is known of spans with a template."""
        layouts = self.templates.get(definition)
        if layouts is None:
            template = _decode_template(definition)
            origin = self._origin(template.origin, batch)
            operation = origin.operations.get((template.name, template.kind))
            if operation is None:
                operation = self._operation(origin, template.name, template.kind, batch)
            layouts = self.templates[definition] = operation.layouts_of(tuple(template.keys))
        return layouts

    def _layouts(self, span: SpanRecord, definitions: Mapping[int, bytes], batch: Intake) -> Layouts:
        """What is known of spans like one that has no template."""
        origin = self._defined(span.origin, definitions, batch)
        operation = origin.operations.get((span.name, span.kind))
        if operation is None:
            operation = self._operation(origin, span.name, span.kind, batch)
        keys = tuple(span.attributes)
        return operation.layouts.get(keys) or operation.layouts_of(keys)

    def _defined(self, number: int, definitions: Mapping[int, bytes], batch: Intake) -> KnownOrigin:
        """The origin with a number; one that was damaged leaves its records with a service that says so."""
        definition = definitions.get(number, b"")
        origin = self.defined.get(definition)
        if origin is None:
            decoded = _decode_origin(definition) if definition else Origin({})
            origin = self.defined[definition] = self._origin(decoded, batch)
        return origin

    def _origin(self, origin: Origin, batch: Intake) -> KnownOrigin:
        payload = _encode(origin)
        known = self.origins.get(payload)
        if known is None:
            self.last_origin += 1
            dimensions = Dimensions(self.dimensions, origin.resource) if self.dimensions else NO_DIMENSIONS
            known = self.origins[payload] = KnownOrigin(
                self.last_origin, origin.service, dimensions, release=origin.release
            )
            scope = {
                "name": origin.scope_name,
                "version": origin.scope_version,
                "schema_url": origin.scope_schema_url,
                "attributes": jsonable(origin.scope_attributes),
            }
            resource = _to_json(jsonable(origin.resource)).decode()
            batch.origins.append((known.id, origin.service, resource, _to_json(scope).decode()))
        return known

    def _operation(self, origin: KnownOrigin, name: str, kind: int, batch: Intake) -> Operation:
        self.last_operation += 1
        known_kind = kind if 0 <= kind <= max(SpanKind) else SpanKind.UNSPECIFIED
        operation = Operation(
            self.last_operation, origin.service, name, known_kind, origin.dimensions, release=origin.release
        )
        if len(origin.operations) >= _MAX_SHAPES:
            origin.operations.clear()
        origin.operations[name, kind] = operation
        batch.operations.append((operation.id, origin.id, name, known_kind))
        return operation

    def _shape(
        self,
        operation: Operation,
        layout: Layout,
        shared: tuple[Any, ...],
        own: dict[str, Any],
        *,
        status: int,
        batch: Intake,
    ) -> Shape:
        """The shape of a span that has none in its layout yet; what can't be shared goes to `own`."""
        pairs = tuple(zip(layout.shared_keys, shared, strict=True))
        full = len(self.sets) >= MAX_SETS
        kept = tuple(pair for pair in pairs if pair[0] in LABEL_KEYS or not (full or is_long(pair[1])))
        if len(kept) < len(pairs):
            own.update(pair for pair in pairs if pair not in kept)
        known_status = status if 0 <= status <= max(StatusCode) else StatusCode.UNSET
        text = _to_json(dict(kept)).decode()  # which tells true from 1
        whole = dict(pairs)
        labels = operation.dimensions.labels(whole) if operation.dimensions.names else ()
        peer = peer_of(operation.kind, whole)
        key = (text, labels, peer, known_status)
        shape = operation.shapes.get(key)
        if shape is None:
            if self.shape_count >= _MAX_SHAPES:
                self._forget_shapes()
            number = self._set(text, batch) if kept else None
            shape = Shape(operation, dict(kept), number, known_status, dimensions=labels, peer=peer)
            operation.shapes[key] = shape
            self.shape_count += 1
        if len(kept) == len(pairs):
            layout.shapes[shared, status] = shape
        return shape

    def _set(self, text: str, batch: Intake) -> int:
        number = self.sets.get(text)
        if number is None:
            self.last_set += 1
            number = self.sets[text] = self.last_set
            batch.sets.append((number, text))
        return number

    def _forget_shapes(self) -> None:
        for origin in self.origins.values():
            for operation in origin.operations.values():
                operation.shapes.clear()
                operation.leaders.clear()
                operation.layouts.clear()
        self.templates.clear()
        self._journals.clear()
        self.shape_count = 0


def _details(span: AnySpan, extra: Extra | None) -> str | None:
    details: dict[str, Any] = {}
    if span.message is not None:
        details["message"] = span.message
    if span.flags & REMOTE_PARENT:
        details["remote"] = True
    if extra is not None:
        if extra.trace_state:
            details["state"] = extra.trace_state
        if extra.events:
            details["events"] = [[e.time, e.name, jsonable(e.attributes)] for e in extra.events]
        if extra.links:
            details["links"] = [[i.trace_id.hex(), f"{i.span_id:016x}", jsonable(i.attributes)] for i in extra.links]
        dropped = {"attributes": extra.dropped_attributes, "events": extra.dropped_events, "links": extra.dropped_links}
        dropped["truncated"] = extra.truncated
        if any(dropped.values()):
            details["dropped"] = {key: count for key, count in dropped.items() if count}
    return _to_json(details).decode() if details else None


def _sane_times(start: int, end: int) -> tuple[int, int]:
    """Clocks jump: a span that ends before it starts has no duration, and no time is outside 64 bits."""
    start = min(max(start, 0), _MAX_TIME)
    return start, min(max(end, start), _MAX_TIME)


def decode_command(payload: bytes) -> Command:
    """A journaled command.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _decode_command(payload)
