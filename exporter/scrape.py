"""`/metrics`: negotiate, flush, read the committed totals, render, compress."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from ..storage import QueryTimeout, SettingError, Store, Unavailable
from ..storage.settings import parse_boolean
from .compression import CODINGS, compressed
from .described import Content, described
from .exposition import Renderer
from .gauges import status_families
from .negotiation import Exposition, choose_coding, choose_exposition
from .offload import SCRAPES, ask
from .params import NAMES, read
from .problems import RETRY_AFTER, ParameterError

# What this process recorded just before is on the page, unless that takes longer.
_FLUSH_SECONDS = 0.25
# A store's pages are asked for in one format, two while a scraper is changed over.
_MOST_FORMATS = 2
_CREATED_SAMPLES = "TRACEKEEP_CREATED_SAMPLES"

METRICS = (NAMES,)


class Chunks(Response):
    """A response that is sent piece by piece, its length being known."""

    def __init__(self, chunks: Sequence[bytes], headers: dict[str, str]) -> None:
        super().__init__(headers=headers | {"Content-Length": str(sum(map(len, chunks)))})
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def resolve_created_samples(*, given: bool | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether start times are exposed: the argument, `TRACEKEEP_CREATED_SAMPLES`, or not.

    Raises:
        SettingError: the variable is neither true nor false.
    """
    text = environ.get(_CREATED_SAMPLES, "").strip()
    if given is not None or not text:
        return bool(given)
    return parse_boolean(_CREATED_SAMPLES, text)


@described(
    [Content("text/plain", str), Content("application/openmetrics-text", str)],
    params=METRICS,
    also={503: [Content("text/plain", str)]},
    tag="operation",
)
async def metrics(request: Request) -> Response:
    """`GET /metrics`: the totals for Prometheus, or 503 in words: never numbers that could go backwards."""
    names = _names(request)
    exposition = choose_exposition(", ".join(request.headers.getlist("accept")))
    coding = choose_coding(", ".join(request.headers.getlist("accept-encoding")), tuple(CODINGS))
    created = request.app.state.created_samples
    question = partial(_page, exposition=exposition, created=created, names=names, coding=coding)
    try:
        chunks = await ask(request, SCRAPES, question)
    except (QueryTimeout, SettingError, Unavailable) as error:
        return PlainTextResponse(f"The totals can't be read just now: {error}\n", 503, RETRY_AFTER)
    headers = {"Vary": "Accept, Accept-Encoding", "Content-Type": exposition.content_type}
    return Chunks(chunks, headers | ({"Content-Encoding": coding} if coding else {}))


def _names(request: Request) -> frozenset[str]:
    """What `name[]` asks for.

    Parameters that have nothing to do with it are left alone, as prometheus_client does: the `params` of a
    scrape configuration go to all its targets. What looks like a mistyped `name[]` would give another page than
    was meant, so it is a mistake.
    """
    for name, value in request.query_params.multi_items():
        if name != NAMES.name and name.lower().startswith("name"):
            detail = f"There is no parameter {name[:100]!r} here. {NAMES.name!r} chooses metrics, and may be repeated."
            raise ParameterError(name, value, detail)
    found = read(request, METRICS, others_ignored=True)
    return frozenset(found.get("names", ()))


def _page(
    store: Store, *, exposition: Exposition, created: bool, names: frozenset[str], coding: str | None
) -> list[bytes]:
    for hook in store.before_scrape:
        with suppress(Exception):  # whose fault it is counts it
            hook()
    store.flush(_FLUSH_SECONDS)
    families = [*store.totals().families, *status_families(store.status())]
    return compressed(_renderers.of(store, exposition, created=created).render(families, names), coding)


class _Renderers:
    """Text kept from one page to the next, as long as its store is there."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Keep none, as after a fork: the parent's threads may have held the locks."""
        self._lock = threading.Lock()
        self._found: WeakKeyDictionary[Store, dict[tuple[Exposition, bool], Renderer]] = WeakKeyDictionary()

    def of(self, store: Store, exposition: Exposition, *, created: bool) -> Renderer:
        """The renderer of a format; the one that was not asked for the longest goes where there are many."""
        with self._lock:
            known = self._found.setdefault(store, {})
            renderer = known.pop((exposition, created), None) or Renderer(exposition, created=created)
            known[exposition, created] = renderer
            while len(known) > _MOST_FORMATS:
                del known[next(iter(known))]
            return renderer


_renderers = _Renderers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renderers.begin_anew)
