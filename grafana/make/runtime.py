"""Runtime: the worker processes, their memory, CPU and garbage collection."""

from __future__ import annotations

from .live import Live
from .page import Dashboard, Panels, choice, instances, page, sources
from .panels import Column, Line, lines, number, rows
from .queries import RATE, here, top

_WORKER = 'worker=~"$worker"'
_LEGEND = "{{instance}} {{worker}}"
_BY = "instance, worker"


def runtime_page(live: Live) -> Dashboard:
    """The processes that the services run in."""
    del live  # its names don't depend on settings
    workers = 'process_start_time_seconds{instance=~"$instance"}'
    return page(
        "runtime",
        "Runtime",
        "Worker processes: how many, how old, what they use, and how Python collects their garbage.",
        [*sources(), *instances(), choice("worker", "Worker", f"label_values({workers}, worker)")],
        [
            ("Workers", _workers()),
            ("Use", _use()),
            ("Garbage collection", _garbage()),
            ("The application's own, by worker", _own()),
            ("What runs", _runs()),
        ],
    )


def _of(metric: str, *matchers: str) -> str:
    return here(metric, _WORKER, *matchers)


def _sum(expression: str) -> str:
    return f"sum by ({_BY}) ({expression})"


def _workers() -> Panels:
    started = _of("process_start_time_seconds")
    files = f"max({_of('process_open_fds')} / {_of('process_max_fds')})"
    return [
        number("Workers", "Processes that tell of themselves.", "short", f"count({started})", decimals=0),
        number("Youngest", "Age of the worker that started last.", "s", f"min(time() - {started})"),
        number("Oldest", "Age of the worker that started first.", "s", f"max(time() - {started})"),
        number("Memory", "Resident memory of all workers.", "bytes", f"sum({_of('process_resident_memory_bytes')})"),
        number(
            "CPU", "CPUs that all workers use.", "none", f"sum(rate({_of('process_cpu_seconds_total')}[{RATE}]))",
            decimals=2,
        ),
        number(
            "Open files", "Share of the files that a worker may have open, of the one nearest to it.", "percentunit",
            files, limits=(0.7, 0.9),
        ),
        lines(
            "Workers over time",
            "Processes that tell of themselves, by instance. A saw: workers die and are replaced.",
            "short",
            Line(f"count by (instance) ({started})", "{{instance}}"),
        ),
        lines(
            "Age",
            "Since when a worker runs; the twenty youngest.",
            "s",
            Line(f"bottomk(20, time() - {started})", _LEGEND),
        ),
    ]  # fmt: skip


def _use() -> Panels:
    cpu = _sum(f"rate({_of('process_cpu_seconds_total')}[{RATE}])")
    return [
        lines(
            "CPU by worker",
            "CPUs used; the twenty busiest workers. At 1 a worker of one event loop has no time left.",
            "none",
            Line(top(20, cpu), _LEGEND),
            limits=(0.7, 0.9),
        ),
        lines(
            "Resident memory by worker",
            "Memory that a worker has in RAM; the twenty largest.",
            "bytes",
            Line(top(20, _sum(_of("process_resident_memory_bytes"))), _LEGEND),
        ),
        lines(
            "Virtual memory by worker",
            "Address space of a worker; the twenty largest. Mapped files are in it, so much of it costs nothing.",
            "bytes",
            Line(top(20, _sum(_of("process_virtual_memory_bytes"))), _LEGEND),
        ),
        lines(
            "Open files by worker",
            "Files, sockets and pipes that a worker has open; the twenty that have the most.",
            "short",
            Line(top(20, _sum(_of("process_open_fds"))), _LEGEND),
        ),
    ]


def _garbage() -> Panels:
    def by_generation(metric: str) -> str:
        return f"sum by (instance, generation) (rate({_of(metric)}[{RATE}]))"

    legend = "{{instance}} generation {{generation}}"
    return [
        lines(
            "Collections",
            "Runs of Python's garbage collector a second. Those of generation 2 look at everything and stop a worker "
            "the longest.",
            "ops",
            Line(by_generation("python_gc_collections_total"), legend),
            width=8,
        ),
        lines(
            "Collected",
            "Objects a second that only the collector could free: they were in cycles.",
            "ops",
            Line(by_generation("python_gc_objects_collected_total"), legend),
            width=8,
        ),
        lines(
            "Uncollectable",
            "Objects that the collector found and could not free, by instance: a leak.",
            "short",
            Line(f"sum by (instance) ({_of('python_gc_objects_uncollectable_total')})", "{{instance}}"),
            width=8,
        ),
    ]


def _own() -> Panels:
    others = _of("", '__name__!~"process_.+|python_.+"', 'worker!=""')
    return [
        lines(
            "Gauges by worker",
            "What the application itself tells by worker: its gauges with the policy `worker` (`liveall` of "
            "prometheus_client). The twenty largest; empty where it has none.",
            "short",
            Line(top(20, others), "{{__name__}} {{instance}} {{worker}}"),
            width=24,
        )
    ]


def _runs() -> Panels:
    python = "instance, implementation, version"
    resource = "instance, service_version, deployment_environment_name, telemetry_sdk_version"
    return [
        rows(
            "Python",
            "The interpreter of each instance, and how many workers tell so.",
            [Column("Is", f"max by ({python}) ({here('python_info')})", decimals=0)],
            sort="instance",
            width=12,
        ),
        rows(
            "Resources",
            "What the resource of each instance says, as far as all its processes agree.",
            [Column("Is", f"max by ({resource}) ({here('target_info')})", decimals=0)],
            sort="instance",
            width=12,
        ),
    ]
