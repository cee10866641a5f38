"""The application as a table of contents. It holds no state: a store is asked for each answer."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from ..storage import Store, reads  # noqa: F401  # reads: SQLAlchemy now, not in the thread of the first request
from . import docs, export, health, monitoring, openapi, performance, scrape, traces
from .guard import Guard
from .problems import HANDLERS
from .tempo import metrics, schema, search, status, tags  # noqa: F401  # schema: says what these routes take
from .tempo import traces as tempo

ROUTES = (
    Route("/metrics", scrape.metrics),
    Route("/health", health.health),
    Route("/ready", health.ready),
    Route("/monitoring/errors", monitoring.errors),
    Route("/monitoring/errors/clear", monitoring.clear_errors, methods=["POST"]),
    Route("/monitoring/performance", performance.performance),
    Route("/monitoring/performance/series", performance.series),
    Route("/monitoring/performance/compare", performance.compare),
    Route("/monitoring/spans", traces.spans),
    Route("/monitoring/spans/export", export.export),
    Route("/monitoring/traces/{trace_id}", traces.trace),
    Route("/monitoring/accounting", monitoring.accounting),
    Route("/openapi.json", openapi.openapi),
    Route("/docs", docs.docs),
    Route("/tempo/ready", status.ready),
    Route("/tempo/api/echo", status.echo),
    Route("/tempo/api/status/buildinfo", status.build_info),
    Route("/tempo/api/traces/{trace_id}", tempo.trace),
    Route("/tempo/api/v2/traces/{trace_id}", tempo.trace_v2),
    Route("/tempo/api/search", search.search),
    Route("/tempo/api/metrics/query_range", metrics.query_range),
    Route("/tempo/api/metrics/query", metrics.query),
    Route("/tempo/api/search/tags", tags.names),
    Route("/tempo/api/v2/search/tags", tags.names_v2),
    Route("/tempo/api/search/tag/{tag:path}/values", tags.values),
    Route("/tempo/api/v2/search/tag/{tag:path}/values", tags.values_v2),
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
