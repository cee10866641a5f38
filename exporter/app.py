"""The application as a table of contents. It holds no state: a store is asked for each answer."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from ..storage import Store, reads  # noqa: F401  # reads: SQLAlchemy now, not in the thread of the first request
from . import docs, errors, export, health, monitoring, openapi, performance, scrape, tempo, traces
from .guard import Guard
from .problems import HANDLERS

ROUTES = (
    Route("/metrics", scrape.metrics),
    Route("/health", health.health),
    Route("/ready", health.ready),
    Route("/monitoring/errors", errors.errors),
    Route("/monitoring/errors/clear", errors.clear, methods=["POST"]),
    Route("/monitoring/errors/groups", errors.groups),
    Route("/monitoring/errors/groups/{group_id}", errors.group),
    Route("/monitoring/errors/groups/{group_id}/resolve", errors.resolve, methods=["POST"]),
    Route("/monitoring/errors/groups/{group_id}/mute", errors.mute, methods=["POST"]),
    Route("/monitoring/errors/groups/{group_id}/reopen", errors.reopen, methods=["POST"]),
    Route("/monitoring/performance", performance.performance),
    Route("/monitoring/performance/series", performance.series),
    Route("/monitoring/performance/compare", performance.compare),
    Route("/monitoring/spans", traces.spans),
    Route("/monitoring/spans/export", export.export),
    Route("/monitoring/traces/{trace_id}", traces.trace),
    Route("/monitoring/accounting", monitoring.accounting),
    Route("/openapi.json", openapi.openapi),
    Route("/docs", docs.docs),
    *tempo.ROUTES,
)


def create_app(store: Store | None = None, *, created_samples: bool | None = None) -> Starlette:
    """The exporter as an ASGI application, to serve alone or to mount under any path.

    Args:
        store: the store that answers. Without one, each request asks the store most recently
            opened in this process; where there is none, `open_store()` opens one.
        created_samples: whether `/metrics` has a `_created` sample for each series, with its start time. Without
            one `TRACEKEEP_CREATED_SAMPLES` decides, else there are none.

    Raises:
        SettingError: the environment variable is neither true nor false.
    """
    app = Starlette(routes=ROUTES, middleware=[Middleware(Guard)], exception_handlers=HANDLERS)
    app.state.store = store
    app.state.created_samples = scrape.resolve_created_samples(given=created_samples)
    return app
