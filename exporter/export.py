"""`/monitoring/spans/export`: all spans that match, streamed, however many they are.

A page at a time is read in short transactions, encoded, and sent before the next one is read: memory is bounded by a
page, and a client that reads slowly holds nothing open. Where it goes away, no further page is read. The deadline is
each page's, as it is for `/monitoring/spans`; what fails in the middle ends the answer without its last chunk, so
that no client takes a part for the whole.

OTLP/JSON lines: https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/, which `otlpjsonfilereceiver` reads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..storage import Page, SpanView, Store
from .described import Content, described
from .offload import QUERIES, ask, query
from .otlp_encoding import OTLP_JSON, resource_spans
from .params import choice, read, require_order, whole
from .responses import Span, encode
from .traces import FILTERS, LONGEST, SHORTEST
from .windows import SINCE, UNTIL

_PAGE = 500
"""Spans at a time: about a MB."""
_NDJSON = "application/x-ndjson"

EXPORT = (
    choice("format", "ndjson", "otlp", default="ndjson", about="A span to a line, or OTLP/JSON, a batch to a line."),
    whole("limit", low=1, high=100_000_000, default=1_000_000, about="The most that are given, the newest ones."),
    *FILTERS,
)


@described([Content(_NDJSON, str)], params=EXPORT, tag="traces")
async def export(request: Request) -> Response:
    """`GET /monitoring/spans/export`: all retained spans that match, newest first, streamed.

    What is recorded while it goes on is not in it; what retention drops meanwhile may be missing.
    """
    values = read(request, EXPORT)
    require_order(request, values, SINCE, UNTIL)
    require_order(request, values, SHORTEST, LONGEST, or_equal=True)
    lines, left = _FORMATS[values.pop("format")], values.pop("limit")
    first = await query(request, partial(_page, values=values, limit=min(_PAGE, left), lines=lines))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if first[1].degraded:
        headers["X-Tracekeep-Degraded"] = "true"
    return StreamingResponse(_stream(request, first, values, left, lines), headers=headers, media_type=_NDJSON)


Lines = Callable[[Sequence[SpanView]], bytes]
"""Spans as lines."""
_Part = tuple[bytes, Page[SpanView], int]
"""What is sent, the page that it was made of, and of how many spans."""


async def _stream(
    request: Request, part: _Part, values: Mapping[str, Any], left: int, lines: Lines
) -> AsyncIterator[bytes]:
    while True:
        body, page, count = part
        if body:
            yield body
        left -= count
        if page.cursor is None or left <= 0 or await request.is_disconnected():
            return
        more = {**values, "cursor": page.cursor}
        part = await ask(request, QUERIES, partial(_page, values=more, limit=min(_PAGE, left), lines=lines))


def _page(store: Store, values: Mapping[str, Any], limit: int, lines: Lines) -> _Part:
    """Read and encoded off the event loop; the spans themselves are let go."""
    page = store.spans(limit=limit, **values)
    return lines(page.items), msgspec.structs.replace(page, items=()), len(page.items)


def _ndjson(spans: Sequence[SpanView]) -> bytes:
    return b"".join(encode(Span.of(span)) + b"\n" for span in spans)


def _otlp(spans: Sequence[SpanView]) -> bytes:
    return msgspec.json.encode({"resourceSpans": resource_spans(spans, OTLP_JSON)}) + b"\n" if spans else b""


_FORMATS: dict[str, Lines] = {"ndjson": _ndjson, "otlp": _otlp}
