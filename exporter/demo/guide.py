"""What the demo tells whoever started it: what to open, then how it goes."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from .load import Load, Visit, fetch

if TYPE_CHECKING:
    from pathlib import Path

_READY_WAIT_S = 60.0  # first start on a cold machine; usual is 2 s
_TRACE_WAIT_S = 3.0  # the customers order about ten times a second, unless told not to
_STATUS_EVERY_S = 5.0
_OBSERVABILITY = "/observability"
_SPANS = f"{_OBSERVABILITY}/monitoring/spans"
_ORDERS = urlencode({"name": "POST /orders", "limit": 1})  # they have several spans


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo was asked to do."""

    host: str
    port: int
    folder: Path
    workers: int
    rate: float

    @property
    def url(self) -> str:
        """Where the shop answers."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Guide:
    """Waits for the shop to open, sends the customers in and talks, from a thread of its own."""

    def __init__(self, plan: Plan, load: Load) -> None:
        self._plan, self._load = plan, load
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-guide", daemon=True)

    def start(self) -> None:
        """Begin to wait for the shop."""
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more, send no more customers; bounded."""
        self._stop.set()
        self._load.stop()
        self._thread.join(timeout=0.5)

    def farewell(self) -> None:
        """Say how it went."""
        if self._load.sent:
            say(f"Stopped after {self._load.sent:,} requests. Start it again: the totals go on.")

    def _run(self) -> None:
        if self._wait_for("/products", _READY_WAIT_S) is None or self._stop.is_set():
            return
        self._load.start()
        say(_welcome(self._plan, self._recent_trace()))
        if sys.stdout.isatty():
            while not self._stop.wait(_STATUS_EVERY_S):
                say(self._status())

    def _wait_for(self, path: str, bound: float, pattern: str = "") -> re.Match[str] | None:
        """Ask for `path` until the answer matches, the guide is stopped, or the bound is reached."""
        deadline = time.monotonic() + bound
        while time.monotonic() < deadline and not self._stop.wait(0.1):
            if (body := self._get(path)) is not None and (found := re.search(pattern, body)):
                return found
        return None

    def _get(self, path: str) -> str | None:
        with suppress(OSError):
            answer = asyncio.run(fetch(self._plan.host, self._plan.port, Visit("GET", path)))
            return answer.body.decode(errors="replace") if answer.status == 200 else None
        return None

    def _recent_trace(self) -> str:
        """Give the path of an order's trace; of the list of spans while there is none."""
        found = self._wait_for(f"{_SPANS}?{_ORDERS}", _TRACE_WAIT_S, r"\b[0-9a-f]{32}\b")
        return f"{_OBSERVABILITY}/monitoring/traces/{found[0]}" if found else _SPANS

    def _status(self) -> str:
        total = _server_spans(self._get(f"{_OBSERVABILITY}/metrics") or "")
        load = self._load
        skipped = f", {load.skipped:,} skipped because the shop was busy" if load.skipped else ""
        return f"{load.sent:,} requests sent, {load.failed:,} failed{skipped}; {total:,} on /metrics"


def say(text: str) -> None:
    """Print; whoever read it may have gone, and the demo goes on."""
    with suppress(OSError, ValueError):
        print(text, flush=True)  # noqa: T201  # the command's own output


def _welcome(plan: Plan, trace: str) -> str:
    pages = {
        "totals": f"{_OBSERVABILITY}/metrics",
        "errors": f"{_OBSERVABILITY}/monitoring/errors",
        "performance": f"{_OBSERVABILITY}/monitoring/performance",
        "a trace": trace,
        "accounting": f"{_OBSERVABILITY}/monitoring/accounting",
        "health": f"{_OBSERVABILITY}/health",
    }
    links = "\n".join(f"  {name:<12} {plan.url}{path}" for name, path in pages.items())
    return f"""
The demo shop is open at {plan.url}: {plan.workers} workers, {plan.rate:g} requests/s of its own.

{links}

Its data is in {plan.folder}
Ctrl-C stops it, and so does: kill -9 {os.getpid()}
Start it again with the same command: the totals go on.
"""


def _server_spans(exposition: str) -> int:
    """Sum the requests that `/metrics` has counted, over every run of the demo."""
    wanted = r'^traces_spanmetrics_calls_total\{[^\n]*"SPAN_KIND_SERVER"[^\n]*\} (\S+)'
    return sum(int(float(value)) for value in re.findall(wanted, exposition, flags=re.MULTILINE))
