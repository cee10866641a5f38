"""`/docs`: a page that shows `/openapi.json` and tries its questions out. It needs no network but this application."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from .described import Content, described

# The page is one file of our own: nothing from elsewhere, nothing that others could frame.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@described([Content("text/html; charset=utf-8", str)], tag="operation")
async def docs(_request: Request) -> Response:
    """`GET /docs`: the schema as a page."""
    return Response(_page(), 200, _HEADERS, "text/html")


@cache
def _page() -> bytes:
    return (Path(__file__).parent / "pages" / "docs.html").read_bytes()
