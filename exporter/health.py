"""`/health` and `/ready`: whether the process lives, and whether the store answers.

Degraded is no reason to restart or to take traffic away: the store mends itself, and a
restart would lose what waits in memory. So both say so, and both stay at 200.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import msgspec
from starlette.requests import Request

from ..storage import Degradation, Status, Store, TracekeepError
from .described import described
from .offload import PROBES, ask
from .responses import Json, rfc3339

_VERSION = version("tracekeep")


class Part(msgspec.Struct, frozen=True):
    """A part that doesn't work as it should, and why."""

    part: str
    reason: str


class Health(msgspec.Struct, frozen=True):
    """The process answers; `status` is `ok` or `degraded`."""

    status: str
    degraded: Sequence[Part]
    version: str


class Writer(msgspec.Struct, frozen=True):
    """Who moves records into the databases, and how far behind it is."""

    pid: int | None
    lag_seconds: float
    last_commit: str | None


class Readiness(msgspec.Struct, frozen=True):
    """The store answers; `status` is `ready` or `degraded`."""

    status: str
    writer: Writer
    degraded: Sequence[Part]


@described(Health, tag="operation")
async def health(request: Request) -> Json:
    """`GET /health`: 200 whenever the process answers at all."""
    try:
        parts = _parts((await ask(request, PROBES, _status)).degraded)
    except TracekeepError as error:
        parts = [Part("store", str(error))]
    return Json(Health("degraded" if parts else "ok", parts, _VERSION))


@described(Readiness, tag="operation")
async def ready(request: Request) -> Json:
    """`GET /ready`: 200 when the store answers, degraded or not; 503 when none can be had."""
    status = await ask(request, PROBES, _status)
    last_commit = rfc3339(status.last_commit_ns) if status.last_commit_ns else None
    writer = Writer(status.writer_pid, status.lag_seconds, last_commit)
    return Json(Readiness("degraded" if status.degraded else "ready", writer, _parts(status.degraded)))


def _status(store: Store) -> Status:
    return store.status()


def _parts(degraded: Sequence[Degradation]) -> list[Part]:
    return [Part(each.part, each.reason) for each in degraded]
