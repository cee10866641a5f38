"""`instrument()`: everything that a service needs to be recorded, once for each process."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Any, TypeVar, cast

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from ..storage import Store, open_store
from .asgi import TracingMiddleware
from .json_errors import JsonErrorMiddleware, install_json_errors
from .processor import RetainingSpanProcessor
from .settings import InstrumentSettings, is_disabled, resolve_instrument_settings
from .shutdown import at_shutdown

_logger = logging.getLogger("tracekeep")
App = TypeVar("App")

EXIT_SECONDS = 2.0
"""The most that leaving the process is held up; nothing is lost by leaving earlier."""

_SHUTDOWN_SECONDS = 1.0
"""The most that the shutdown of an application is held up for its metrics."""

_MARK = "_tracekeep_instrumented"
_lock = threading.Lock()
_done: list[tuple[Store, InstrumentSettings]] = []
_at_end: list[Callable[[], object]] = []
"""What is to be done when an application shuts down."""


def instrument(
    app: App | None = None,
    *,
    data_dir: str | PathLike[str] | None = None,
    service_name: str | None = None,
    service_version: str | None = None,
    json_errors: bool | None = None,
    record_own_routes: bool | None = None,
    record_logged_errors: bool | None = None,
    metrics: bool | None = None,
    metrics_interval: float | None = None,
    translation_strategy: str | None = None,
    scope_info: bool | None = None,
    gauge_policies: Mapping[str, str] | None = None,
    registries: Sequence[Any] | None = None,
    **store_settings: Any,
) -> App:
    """Record an application: spans of its requests, all that OpenTelemetry's API makes inside them, and its metrics.

    Recording is set up once for each process; a second call changes no setting and says so in the log, but
    an application that isn't instrumented yet is. SDK providers that are there already are used.

    Args:
        app: any ASGI application, or None to set up tracing alone.
        data_dir: where to keep everything; default `TRACEKEEP_DATA_DIR`, else `./tracekeep-data`.
        service_name: `service.name`; default `TRACEKEEP_SERVICE_NAME`, then `OTEL_SERVICE_NAME`.
        service_version: `service.version`; default `TRACEKEEP_SERVICE_VERSION`.
        json_errors: answer unhandled exceptions with a problem document that hides unexpected messages.
        record_own_routes: record requests to the exporter's routes too.
        record_logged_errors: record exceptions that are logged, by Python's `logging` or OpenTelemetry's (the default).
        metrics: record what the application counts with OpenTelemetry's API or prometheus_client.
        metrics_interval: seconds between two looks at that; what a `kill -9` can lose of it.
        translation_strategy: how OpenTelemetry's names become Prometheus's; one of the specification's four.
        scope_info: label OpenTelemetry's metrics with the name and version of their scope.
        gauge_policies: how the gauges of several processes become one, by name of the metric: `sum`, `max`,
            `min`, `mostrecent` or `worker`.
        registries: of prometheus_client, to be recorded; default its own one.
        store_settings: see `tracekeep.storage.StoreSettings`, e.g. `writer="none"`.

    Returns:
        The application to serve: the same object for Starlette and FastAPI, a wrapper for others.

    Raises:
        SettingError: a setting has a value that it can't have.
    """
    settings = resolve_instrument_settings(
        {
            "service_name": service_name,
            "service_version": service_version,
            "json_errors": json_errors,
            "record_own_routes": record_own_routes,
            "record_logged_errors": record_logged_errors,
            "metrics": metrics,
            "metrics_interval": metrics_interval,
            "translation_strategy": translation_strategy,
            "scope_info": scope_info,
            "gauge_policies": gauge_policies,
        }
    )
    if is_disabled():
        return _answer_errors(app, settings) if app is not None else cast("App", None)
    with _lock:
        if _done:
            _logger.warning(
                "tracekeep: instrument() has been called before in this process; its settings stay (data in %s)",
                _done[0][0].data_dir,
            )
            settings = _done[0][1]
        else:
            store = open_store(data_dir, **store_settings)
            _set_up(store, settings, registries)
            _done.append((store, settings))
    return _wrap(_answer_errors(app, settings), settings) if app is not None else cast("App", None)


def _set_up(store: Store, settings: InstrumentSettings, registries: Sequence[Any] | None) -> None:
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(resource=_resource(settings))
        trace.set_tracer_provider(provider)
    provider.add_span_processor(RetainingSpanProcessor(store))
    if settings.record_logged_errors:
        from .logs import set_up_logs  # noqa: PLC0415  # the SDK for logs, for who wants it

        set_up_logs(store, provider.resource)
    atexit.register(store.close, EXIT_SECONDS)
    if settings.metrics:
        _set_up_metrics(store, settings, registries, provider.resource)


def _set_up_metrics(
    store: Store, settings: InstrumentSettings, registries: Sequence[Any] | None, resource: Resource
) -> None:
    """What the application counts: a fault in it must not keep the application from starting."""
    try:
        from .metrics.setup import start_recorder  # noqa: PLC0415  # prometheus_client and the metrics SDK

        recorder = start_recorder(store, settings, registries, resource)
    except Exception:
        _logger.warning("tracekeep: metrics of the application are not recorded", exc_info=True)
        return
    _at_end.append(partial(recorder.flush, _SHUTDOWN_SECONDS))
    atexit.register(recorder.close)


def _resource(settings: InstrumentSettings) -> Resource:
    given = {"service.name": settings.service_name, "service.version": settings.service_version}
    return Resource.create({key: value for key, value in given.items() if value is not None})


def _answer_errors(app: App, settings: InstrumentSettings) -> App:
    if not settings.json_errors or getattr(app, _MARK, False):
        return app
    if hasattr(app, "add_exception_handler"):
        install_json_errors(cast("Any", app))
        return app
    return cast("App", JsonErrorMiddleware(cast("Any", app)))


def _wrap(app: App, settings: InstrumentSettings) -> App:
    if isinstance(app, TracingMiddleware) or getattr(app, _MARK, False):
        return app
    for action in _at_end:
        app = at_shutdown(app, action)
    if hasattr(app, "build_middleware_stack") and hasattr(app, "middleware_stack"):
        _wrap_stack(app, settings)
        return app
    return cast("App", TracingMiddleware(cast("Any", app), record_own_routes=settings.record_own_routes))


def _wrap_stack(app: Any, settings: InstrumentSettings) -> None:
    """Starlette and FastAPI: stand outside of all their middleware, so that what that does is recorded too."""

    def outside(stack: Any) -> TracingMiddleware:
        return TracingMiddleware(stack, record_own_routes=settings.record_own_routes)

    telemetry = getattr(app, "_telemetry", None)
    if isinstance(telemetry, dict):
        telemetry["tracing"] = False  # FastAPI's own, outside of its middleware: each request would count twice
    build: Callable[[], Any] = app.build_middleware_stack
    app.build_middleware_stack = lambda: outside(build())
    if app.middleware_stack is not None:
        app.middleware_stack = outside(app.middleware_stack)
    setattr(app, _MARK, True)
