"""The demo's customers: a fixed rate of requests, a bounded number at a time.

An open loop: a slow shop gets no fewer requests, up to the bound; those past it are skipped and counted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE = 32  # at 50 requests/s and 1.2 s for the slowest route about 5 are under way
_TIMEOUT_S = 10.0  # far over the slowest route; what hangs longer counts as failed
_LARGEST_ANSWER = 32 << 20  # an answer is read whole; more than this is not ours


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a customer."""

    method: str
    path: str
    body: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that was received whole."""

    status: int
    body: bytes


_HOUR: Final = [
    *[Visit("GET", "/products")] * 14,
    *[Visit("GET", f"/products/{number}") for number in (1, 2, 3, 4, 5, 6)] * 3,
    *[Visit("POST", "/orders", {"product_id": number, "quantity": number}) for number in (1, 2, 3, 4, 5)] * 2,
    Visit("GET", "/products/404"),
    Visit("POST", "/orders", {"product_id": 6, "quantity": 1}),
    Visit("POST", "/orders", {"product_id": 1, "quantity": 99}),
    Visit("POST", "/orders", {"product_id": 3, "quantity": 1, "card": "unreachable"}),
    *[Visit("GET", "/orders.csv")] * 2,
    Visit("GET", "/reports/sales?days=7"),
    Visit("GET", "/reports/sales?days=30"),
]
_STRIDE = 7  # has no common factor with the length: the kinds are mixed, and each comes once a round


def customers() -> Iterator[Visit]:
    """The requests of the customers, for ever: the same mixture each time."""
    return (_HOUR[step * _STRIDE % len(_HOUR)] for step in itertools.count())


async def fetch(host: str, port: int, visit: Visit) -> Answer:
    """Send one request on a connection of its own and read the answer whole.

    Raises:
        OSError: No connection, an answer cut short, or none in time (`TimeoutError`).
    """
    async with asyncio.timeout(_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port, limit=_LARGEST_ANSWER)
        try:
            writer.write(_request(host, port, visit))
            return await _answer(reader)
        except (LookupError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError(f"no whole answer to {visit.method} {visit.path}") from error
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def _request(host: str, port: int, visit: Visit) -> bytes:
    body = b"" if visit.body is None else json.dumps(visit.body).encode()
    named = f"[{host}]" if ":" in host else host
    head = [f"{visit.method} {visit.path} HTTP/1.1", f"host: {named}:{port}", "connection: close"]
    if body:
        head += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("ascii") + body


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    status = int(head[0].split()[1])
    fields = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    if fields.get("transfer-encoding") == "chunked":
        return Answer(status, await _chunks(reader))
    return Answer(status, await reader.readexactly(int(fields["content-length"])))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return bytes(body)


class Load:
    """Sends the customers' requests from a thread of its own until stopped."""

    def __init__(self, host: str, port: int, rate: float) -> None:
        self.sent = 0
        self.failed = 0
        """Answered with a 5xx status, which the customers do provoke, or not answered."""
        self.skipped = 0
        self._host, self._port, self._rate = host, port, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-load", daemon=True)

    def start(self) -> None:
        """Let the first customer in."""
        if self._rate > 0:
            self._thread.start()

    def stop(self) -> None:
        """Send nothing more and drop what is under way; bounded."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._serve_customers())

    async def _serve_customers(self) -> None:
        loop, under_way = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        due = loop.time()
        for visit in customers():
            if self._stop.is_set():
                break
            if len(under_way) < _AT_ONCE:
                task = loop.create_task(self._visit(visit))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            else:
                self.skipped += 1
            due = max(due + 1 / self._rate, loop.time() - 1)  # after a pause of the machine: no burst
            await asyncio.sleep(due - loop.time())
        for task in list(under_way):
            task.cancel()

    async def _visit(self, visit: Visit) -> None:
        self.sent += 1
        try:
            answer = await fetch(self._host, self._port, visit)
        except OSError:
            self.failed += 1
        else:
            self.failed += answer.status >= 500
