"""What the benchmarks share: rounds, traffic, recording, and the processes that drain."""

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import msgspec
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from tracekeep.instrumentation.convert import encode_origin
from tracekeep.storage import Store
from tracekeep.storage.locks import FileLock
from tracekeep.storage.records import FrameType, SpanRecord
from tracekeep.storage.state import read_state

ROOT = Path(__file__).parents[2]
MILLISECOND = 1_000_000  # ns
MIB = 1 << 20
GIB = 1 << 30
_APPLY_SECONDS = 300.0  # after which a writer that has not applied a journal is taken for broken


T = TypeVar("T")
Figures = dict[str, list[float]]


# --- rounds -------------------------------------------------------------------------------------------------------


def alternate(sides: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure all sides in every round, each time beginning with another one, so that a slow moment hits them alike."""
    figures: dict[str, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            figures[name].append(sides[name]())
    return figures


def added(side: list[float], base: list[float]) -> list[float]:
    """What a side takes more than the base, round by round."""
    return [value - bare for value, bare in zip(side, base, strict=True)]


def in_child(module: str, *arguments: object) -> dict:
    """What `python -m tests.benchmarks.MODULE ARGUMENTS` prints on its last line, as JSON."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def medians(figures: Iterable[dict[str, float]]) -> dict[str, float]:
    """The median of each key over several findings."""
    gathered: dict[str, list[float]] = {}
    for found in figures:
        for key, value in found.items():
            gathered.setdefault(key, []).append(value)
    return {key: median(values) for key, values in gathered.items()}


# --- traffic ------------------------------------------------------------------------------------------------------

_ROUTES = [
    (method, f"/api/v1/{thing}{rest}")
    for thing in ("orders", "customers", "products", "carts", "payments")
    for method, rest in (("GET", "/{id}"), ("GET", ""), ("POST", ""), ("PUT", "/{id}"))
]
_AGENTS = [
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in (139, 140, 141)
]


@dataclass(frozen=True, slots=True)
class Request:
    """A request to be recorded: a server span with 10 attributes."""

    name: str
    attributes: dict[str, str | int]
    duration: int
    failed: bool


def traffic(count: int, *, clients: int = 40, seed: int = 1) -> list[Request]:
    """Requests to 20 routes of a service behind a proxy, one in a hundred of them failing.

    Path and client port differ with nearly every request. A client has one address and one user agent.
    """
    rng = random.Random(seed)
    return [_request(rng, rng.randrange(clients)) for _ in range(count)]


def _request(rng: random.Random, client: int) -> Request:
    method, route = rng.choice(_ROUTES)
    failed = rng.random() < 0.01
    status = 500 if failed else rng.choice((200,) * 18 + (304, 404))
    attributes = {
        "http.request.method": method,
        "url.scheme": "https",
        "url.path": route.replace("{id}", str(rng.randrange(1_000_000))),
        "server.address": "shop.example.com",
        "server.port": 443,
        "client.address": f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}",
        "client.port": rng.randrange(32_768, 61_000),
        "user_agent.original": _AGENTS[client % len(_AGENTS)],
        "http.route": route,
        "http.response.status_code": status,
    }
    return Request(f"{method} {route}", attributes, round(rng.lognormvariate(2.5, 1.0) * MILLISECOND), failed)


# --- recording ----------------------------------------------------------------------------------------------------


def provider(*processors: SpanProcessor) -> TracerProvider:
    made = TracerProvider(resource=Resource.create({"service.name": "shop", "service.version": "1.2.3"}))
    for processor in processors:
        made.add_span_processor(processor)
    return made


def tracer_of(made: TracerProvider) -> Tracer:
    return made.get_tracer("tracekeep.benchmarks", "1")


def record(tracer: Tracer, requests: Iterable[Request]) -> None:
    """Start and end spans, as fast as it goes. This is the loop that the span benchmarks time."""
    start = tracer.start_span
    for request in requests:
        start(request.name, None, SpanKind.SERVER, request.attributes).end()


def record_history(tracer: Tracer, requests: list[Request]) -> None:
    """Record spans with durations, failures and exceptions, a millisecond apart, the last one now."""
    end = time.time_ns() - len(requests) * MILLISECOND
    for request in requests:
        end += MILLISECOND
        span = tracer.start_span(
            request.name, None, SpanKind.SERVER, request.attributes, None, end - request.duration
        )
        if request.failed:
            span.record_exception(ValueError("the other side hung up"), timestamp=end)
            span.set_status(Status(StatusCode.ERROR, "ValueError: the other side hung up"))
        span.end(end)


class Refill:
    """Journals records of the same traffic without the SDK, which would take most of the time to make them.

    Args:
        store: where to; opened with `writer="none"`.
    """

    def __init__(self, store: Store, requests: list[Request]) -> None:
        self._journal = store.journal
        made = provider()
        self._origin = self._journal.define(encode_origin(made.resource, InstrumentationScope("tracekeep.benchmarks")))
        self._requests = requests

    def __call__(self, count: int) -> None:
        encode, append, bits = msgspec.msgpack.Encoder().encode, self._journal.append, random.getrandbits
        end = time.time_ns() - count * MILLISECOND
        for index in range(count):
            request = self._requests[index % len(self._requests)]
            end += MILLISECOND
            record = SpanRecord(
                random.randbytes(16), bits(64), 0, 1, self._origin, request.name, 2, end - request.duration, end,
                2 if request.failed else 0, None, request.attributes, None,
            )  # fmt: skip
            append(FrameType.SPAN, encode(record), self._origin)


class Discard(SpanExporter):
    """The cheapest exporter: it does nothing."""

    def export(self, spans):  # noqa: ARG002  # the interface's
        return SpanExportResult.SUCCESS


class Encode(SpanExporter):
    """Makes the OTLP request that an exporter would send, and sends nothing."""

    def export(self, spans):
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def batching(exporter: SpanExporter) -> BatchSpanProcessor:
    """A BatchSpanProcessor with a queue that no round fills: a dropped span would cost it nothing."""
    return BatchSpanProcessor(exporter, max_queue_size=1 << 17)


# --- data directories and writers ---------------------------------------------------------------------------------


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the run, on the disk that `TMPDIR` says."""
    with tempfile.TemporaryDirectory(prefix="tracekeep-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


class Drainer:
    """A process of its own that holds the writer's role of a data directory from `go` to the end of the `with`."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self._command = [sys.executable, "-m", "tests.benchmarks.drainer", str(data_dir), json.dumps(settings)]

    def __enter__(self) -> "Drainer":
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._process.stdout.readline()  # everything is imported
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self) -> None:
        """Open the store: from now on it drains."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()


def applied(data_dir: Path, journal: str) -> int:
    """Sequence number up to which a journal is committed."""
    return read_state(data_dir / "writer.state").marks.get(journal, 0)


def wait_applied(data_dir: Path, journal: str, sequence: int) -> None:
    until = time.monotonic() + _APPLY_SECONDS
    while applied(data_dir, journal) < sequence:
        if time.monotonic() > until:
            raise TimeoutError(f"{data_dir}: {journal} was not applied up to {sequence}")
        time.sleep(0.002)


def time_drain(data_dir: Path, journal: str, sequence: int, **settings: object) -> float:
    """Seconds from when a fresh writer opens the directory until all is committed."""
    with Drainer(data_dir, **settings) as drainer:
        started = time.perf_counter()
        drainer.go()
        wait_applied(data_dir, journal, sequence)
        return time.perf_counter() - started


@contextmanager
def copied_journal(source: Path, target: Path, journal: str) -> Iterator[None]:
    """A journal once more under another data directory, locked as if its process lived."""
    directory = target / "journal" / journal
    shutil.copytree(source / "journal" / journal, directory)
    lock = FileLock.acquire(directory / "lock")
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def clean_environment() -> None:
    """Take out what would give one of the sides other settings."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "TRACEKEEP_", "LOGFIRE_"))]:
        del os.environ[name]
