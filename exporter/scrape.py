"""`/metrics`: negotiate, flush, read the committed totals, render, compress."""

from __future__ import annotations

import gzip
from functools import partial

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ..storage import QueryTimeout, SettingError, Store, Unavailable
from .described import Content, described
from .exposition import render, status_families
from .negotiation import Format, accepts_gzip, choose_format
from .offload import SCRAPES, ask
from .problems import RETRY_AFTER

# What this process recorded just before is on the page, unless that takes longer.
_FLUSH_SECONDS = 0.25
# 2.5 MB of text: level 1 takes 8 ms and leaves 63 kB, level 6 takes 20 ms and leaves 59 kB.
_GZIP_LEVEL = 1


@described(
    [Content(fmt.value, str) for fmt in Format],
    also={503: [Content("text/plain; charset=utf-8", str)]},
    tag="operation",
)
async def metrics(request: Request) -> Response:
    """`GET /metrics`: the totals for Prometheus, or 503 in words: never numbers that could go backwards."""
    fmt = choose_format(", ".join(request.headers.getlist("accept")))
    compress = accepts_gzip(", ".join(request.headers.getlist("accept-encoding")))
    try:
        body = await ask(request, SCRAPES, partial(_page, fmt=fmt, compress=compress))
    except (QueryTimeout, SettingError, Unavailable) as error:
        return PlainTextResponse(f"The totals can't be read just now: {error}\n", 503, RETRY_AFTER)
    headers = {"Vary": "Accept, Accept-Encoding", "Content-Type": fmt.value}
    return Response(body, headers=headers | ({"Content-Encoding": "gzip"} if compress else {}))


def _page(store: Store, fmt: Format, *, compress: bool) -> bytes:
    store.flush(_FLUSH_SECONDS)
    body = render(store.totals(), status_families(store.status()), fmt)
    return gzip.compress(body, _GZIP_LEVEL, mtime=0) if compress else body
