"""`/tempo/api/traces` and `/tempo/api/v2/traces`: one trace by its id, as protobuf or as the same messages in JSON."""

from __future__ import annotations

import re
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from ...storage import Page, SpanView, Store
from .. import otlp_encoding as otlp
from ..offload import QUERIES, ask
from ..problems import ParameterError
from . import params, plain
from .params import Window
from .told import EITHER, told

_ID = re.compile(r"[0-9a-fA-F]{1,32}", re.ASCII)
_NOT_HEX = re.compile(r"[^0-9a-fA-F]", re.ASCII)
_DIGITS = 32
# Of TraceByIDResponse: https://github.com/grafana/tempo/blob/main/pkg/tempopb/tempo.proto
_TRACE, _STATUS, _MESSAGE = b"\x0a", b"\x18\x01", b"\x22"
_DEGRADED = "Some spans may be missing: the history can't be read completely just now (see /health)."
_SEVEN = 0x7F


@told(EITHER, "start", "end", path="trace_id", unknown=True)
@plain.plainly
async def trace(request: Request) -> Response:
    """`GET /tempo/api/traces/{trace_id}`: a `Trace`; 404 where none of its spans is retained."""
    return await _answer(request, _v1)


@told(EITHER, "start", "end", path="trace_id")
@plain.plainly
async def trace_v2(request: Request) -> Response:
    """`GET /tempo/api/v2/traces/{trace_id}`: a `TraceByIDResponse`, with an empty trace where none is retained."""
    return await _answer(request, _v2)


class _Render(Protocol):
    """Makes the answer of what was found of a trace."""

    def __call__(self, trace_id: str, found: Page[SpanView], /, *, as_protobuf: bool) -> Response: ...


async def _answer(request: Request, render: _Render) -> Response:
    trace_id, window, as_protobuf = _read_id(request), params.window(request), plain.wants_protobuf(request)

    def question(store: Store) -> Response:
        store.flush(plain.FLUSH_SECONDS)
        return render(trace_id, _within(store.trace(trace_id), window), as_protobuf=as_protobuf)

    return await ask(request, QUERIES, question)


def _within(found: Page[SpanView], window: Window | None) -> Page[SpanView]:
    """The whole trace where any of its spans touches the window; else none."""
    if window is None or any(
        span.start_ns < window.until_ns and span.start_ns + span.duration_ns >= window.since_ns for span in found.items
    ):
        return found
    return Page([], None, found.degraded)


def _v1(trace_id: str, found: Page[SpanView], *, as_protobuf: bool) -> Response:
    if not found.items:
        return plain.not_found(f"trace {trace_id} not found")
    if as_protobuf:
        return plain.protobuf(otlp.encode_traces(found.items), degraded=found.degraded)
    return plain.json({"batches": otlp.resource_spans(found.items, otlp.PROTO_JSON)}, degraded=found.degraded)


def _v2(_trace_id: str, found: Page[SpanView], *, as_protobuf: bool) -> Response:
    return plain.protobuf(_response(found)) if as_protobuf else plain.json(_document(found))


def _response(found: Page[SpanView]) -> bytes:
    """A `TraceByIDResponse`. The trace stands even when it is empty: Grafana reads it unasked."""
    message = _DEGRADED.encode()
    partial_status = _STATUS + _MESSAGE + _varint(len(message)) + message if found.degraded else b""
    content = otlp.encode_traces(found.items)
    return _TRACE + _varint(len(content)) + content + partial_status


def _document(found: Page[SpanView]) -> dict[str, Any]:
    spans = otlp.resource_spans(found.items, otlp.PROTO_JSON)
    status = {"status": "PARTIAL", "message": _DEGRADED} if found.degraded else {}
    return {"trace": {"resourceSpans": spans} if spans else {}, **status}


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > _SEVEN:
        found.append(value & _SEVEN | 0x80)
        value >>= 7
    return bytes([*found, value])


def _read_id(request: Request) -> str:
    """The trace id of the path, as 32 digits; a short one is filled with zeros, as Tempo does.

    Raises:
        ParameterError: it is none.
    """
    text = request.path_params["trace_id"]
    if _ID.fullmatch(text):
        return str(text).lower().rjust(_DIGITS, "0")
    shown = f"invalid trace ID {text[:100]!r}"
    if odd := _NOT_HEX.search(text):
        raise ParameterError("trace_id", text, f"{shown}: {odd[0]!r} at position {odd.start() + 1} is no hex digit")
    raise ParameterError("trace_id", text, f"{shown}: longer than {_DIGITS} hex digits")
