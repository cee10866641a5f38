"""Puts the recorder together: imported only where metrics are recorded, as it loads what they are made with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from opentelemetry.metrics import get_meter_provider, set_meter_provider
from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY

from ...storage import Store
from ..settings import InstrumentSettings
from .names import Names
from .opentelemetry import OpenTelemetrySource, RetainingMetricReader, attach
from .prometheus import RegistrySource
from .recorder import MetricsRecorder
from .sources import Source

_logger = logging.getLogger("tracekeep")


def start_recorder(
    store: Store, settings: InstrumentSettings, registries: Sequence[Any] | None, resource: Resource
) -> MetricsRecorder:
    """Begin to record this process's metrics, and those of processes forked from it.

    Args:
        store: where to.
        settings: of `instrument()`.
        registries: of prometheus_client; None: its own one.
        resource: what the metrics are about.
    """
    own = _opentelemetry(store, settings, resource)
    skip = own.shares if own is not None else lambda _collector: False
    chosen = registries if registries is not None else [REGISTRY]
    sources: list[Source] = [RegistrySource(registry, skip) for registry in chosen]
    if own is not None:
        sources.insert(0, own)
    recorder = MetricsRecorder(
        store, sources, interval=settings.metrics_interval, policies=settings.gauge_policies
    ).start()
    if own is not None:
        own.reader.on_flush = recorder.flush
    return recorder


def _opentelemetry(store: Store, settings: InstrumentSettings, resource: Resource) -> OpenTelemetrySource | None:
    """A reader at the process's MeterProvider; None where it takes none, as the log says."""
    reader = RetainingMetricReader(store.settings.series_limit)
    try:
        provider = attach(reader, get_meter_provider(), resource)
        if provider is not None:
            set_meter_provider(provider)
    except Exception as error:
        _logger.warning("tracekeep: metrics made with OpenTelemetry are not recorded: %s", error)
        return None
    names = Names(settings.translation_strategy)
    return OpenTelemetrySource(reader, resource, names, scope_info=settings.scope_info)
