"""Grafana's Tempo data source, answered from the store: https://grafana.com/docs/tempo/latest/api_docs/."""

from starlette.routing import Route

from . import metrics, search, status, tags, traces

ROUTES = (
    Route("/tempo/ready", status.ready),
    Route("/tempo/api/echo", status.echo),
    Route("/tempo/api/status/buildinfo", status.build_info),
    Route("/tempo/api/traces/{trace_id}", traces.trace),
    Route("/tempo/api/v2/traces/{trace_id}", traces.trace_v2),
    Route("/tempo/api/search", search.search),
    Route("/tempo/api/metrics/query_range", metrics.query_range),
    Route("/tempo/api/metrics/query", metrics.query),
    Route("/tempo/api/search/tags", tags.names),
    Route("/tempo/api/v2/search/tags", tags.names_v2),
    Route("/tempo/api/search/tag/{tag:path}/values", tags.values),
    Route("/tempo/api/v2/search/tag/{tag:path}/values", tags.values_v2),
)
