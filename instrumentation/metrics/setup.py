"""Puts the recorder together: imported only where metrics are recorded, as it loads what they are made with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from prometheus_client import REGISTRY

from ...storage import Store
from ..settings import InstrumentSettings
from .prometheus import RegistrySource
from .recorder import MetricsRecorder


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
    sources = [RegistrySource(registry) for registry in (registries if registries is not None else [REGISTRY])]
    return MetricsRecorder(store, sources, interval=settings.metrics_interval, policies=settings.gauge_policies).start()
