"""What the benchmarks of storage share: data directories, journals to drain, and the processes that drain them."""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from tracekeep.instrumentation.convert import make_origin
from tracekeep.storage import Store
from tracekeep.storage.locks import FileLock
from tracekeep.storage.records import CompactSpan, FrameType, Template
from tracekeep.storage.state import read_state

from .rounds import ROOT
from .traffic import MILLISECOND, Request, provider

MIB = 1 << 20
GIB = 1 << 30
_APPLY_SECONDS = 300.0  # after which a writer that has not applied a journal is taken for broken


class Refill:
    """Journals records of the same traffic without the SDK, which would take most of the time to make them.

    Args:
        store: where to; opened with `writer="none"`.
    """

    def __init__(self, store: Store, requests: list[Request]) -> None:
        self._journal = store.journal
        self._origin = make_origin(provider().resource, InstrumentationScope("tracekeep.benchmarks"))
        self._requests = requests
        self._templates: dict[str, int] = {}

    def __call__(self, count: int, *, until: int | None = None, step: int = MILLISECOND) -> None:
        """Spans that end one step (ns) after another, the last one at `until` (ns since the epoch; now)."""
        encode, append, bits = msgspec.msgpack.Encoder().encode, self._journal.append, random.getrandbits
        end = (time.time_ns() if until is None else until) - count * step
        for index in range(count):
            request = self._requests[index % len(self._requests)]
            end += step
            template = self._templates.get(request.name) or self._template(request)
            span = CompactSpan(
                random.randbytes(16), bits(64), 0, 1, template, end - request.duration, end,
                2 if request.failed else 0, None, list(request.attributes.values()),
            )  # fmt: skip
            append(FrameType.SPAN, encode(span), template)

    def _template(self, request: Request) -> int:
        template = Template(self._origin, request.name, 2, list(request.attributes))
        number = self._templates[request.name] = self._journal.define(msgspec.msgpack.encode(template))
        return number


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for the run, on the disk that `TMPDIR` says."""
    with tempfile.TemporaryDirectory(prefix="tracekeep-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


class Drainer:
    """A process of its own that holds the writer's role of a data directory from `go` to the end of the `with`."""

    def __init__(self, data_dir: Path, **settings: object) -> None:
        self._command = [sys.executable, "-m", "tests.benchmarks.drainer", str(data_dir), json.dumps(settings)]

    def __enter__(self) -> Self:
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
        time.sleep(0.01)


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
