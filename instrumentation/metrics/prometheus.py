"""Metrics of prometheus_client: its own classes and anybody's collectors, in any registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, values
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from .children import read_children
from .faults import Faults
from .reading import FaultError, Reading
from .samples import SampleParser

_BY_WORKER = (ProcessCollector, GCCollector)


class RegistrySource:
    """A registry of prometheus_client.

    Args:
        registry: one of its `CollectorRegistry`, or anything else with `collect()`.
        skip: says which collectors are read in another way.
    """

    is_additive = False

    def __init__(self, registry: CollectorRegistry, skip: Any = lambda _collector: False) -> None:
        self._registry = registry
        self._skip = skip

    def collectors(self) -> Sequence[PrometheusCollector]:
        """Each collector by itself; where the registry doesn't tell them, all as one."""
        found = self._registered()
        if found is None:
            return [PrometheusCollector(self._registry)]
        chosen = [each for each in found if not isinstance(each, MultiProcessCollector) and not self._skip(each)]
        target = [_TargetInfo(self._registry)] if _target_info(self._registry) else []
        return [PrometheusCollector(each) for each in (*target, *chosen)]

    def _registered(self) -> list[Any] | None:
        """What is registered. Nothing public tells it apart from collecting all in one go."""
        try:
            with self._registry._lock:
                return list(self._registry._collector_to_names)
        except Exception:
            return None

    def read_at_fork(self, faults: Faults) -> Iterator[Reading]:
        """prometheus_client's own classes, where a child begins with its parent's values.

        With `PROMETHEUS_MULTIPROC_DIR` it doesn't: there it begins at 0.
        """
        if getattr(values.ValueClass, "_multiprocess", False):
            return
        for collector in self.collectors():
            if collector.is_safe:
                yield from collector.read(faults)


class PrometheusCollector:
    """One collector of a registry."""

    is_additive = False

    def __init__(self, collector: Any) -> None:
        self._collector = collector
        self.key = collector

    @property
    def name(self) -> str:
        """Of the metric, or of the class."""
        own = getattr(self._collector, "_name", None) if isinstance(self._collector, MetricWrapperBase) else None
        return own if isinstance(own, str) else type(self._collector).__qualname__

    @property
    def is_safe(self) -> bool:
        """True for what is neither derived with a `collect` of its own nor a gauge, which may call functions."""
        return (
            isinstance(self._collector, MetricWrapperBase)
            and not isinstance(self._collector, Gauge)
            and type(self._collector).collect is MetricWrapperBase.collect
        )

    def read(self, faults: Faults) -> Iterator[Reading]:
        """Its metrics; a metric or a series that can't be taken is left out and counted."""
        quick = read_children(self._collector)
        if quick is not None:
            yield quick
            return
        policy = _policy(self._collector)
        for metric in self._collector.collect():
            try:
                yield SampleParser(metric, policy, self.name, faults).reading()
            except FaultError as fault:
                faults.count(self.name, fault.reason, fault)
            except Exception as error:
                faults.count(self.name, "invalid", error)


def _policy(collector: Any) -> str | None:
    """How gauges of several processes become one; None: as the type says.

    `multiprocess_mode="all"` is prometheus_client's default: whether somebody chose it can't be told.
    """
    if isinstance(collector, _BY_WORKER):
        return "worker"
    if isinstance(collector, PlatformCollector):
        return "max"
    mode = str(getattr(collector, "_multiprocess_mode", "all"))
    if mode == "liveall":
        return "worker"
    mode = mode.removeprefix("live")
    return mode if mode in {"max", "min", "mostrecent"} else None


def _target_info(registry: Any) -> Any:
    try:
        return registry.get_target_info()
    except Exception:
        return None


class _TargetInfo:
    """A registry's target info as a collector."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> list[Metric]:
        """The one metric."""
        metric = Metric("target", "Target metadata", "info")
        metric.add_sample("target_info", dict(self._registry.get_target_info() or {}), 1)
        return [metric]
