"""Where blocking calls of the store run: on threads of our own, never on the event loop.

Of our own, so that slow queries can't take the threads that the host's synchronous
endpoints run on; in lanes, so that they can't hold up a scrape or a health check either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request

from ..storage import Store, Unavailable, current_store, open_store

T = TypeVar("T")

# As for a scrape: long enough for the writer's 50 ms, short enough not to be noticed.
_FLUSH_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Lane:
    """Threads for one kind of request, and how many requests may wait for them."""

    name: str
    threads: int
    waiting: int
    _limiter: RunVar[CapacityLimiter] = field(default_factory=lambda: RunVar("tracekeep_lane"))

    async def run(self, func: Callable[[], T]) -> T:
        """The function's result, from one of the lane's threads.

        Raises:
            Unavailable: too many are waiting already.
        """
        limiter = self._of_this_loop()
        if limiter.statistics().tasks_waiting >= self.waiting:
            raise Unavailable(f"{self.waiting} {self.name} requests are waiting already.")
        return await to_thread.run_sync(func, limiter=limiter)

    def _of_this_loop(self) -> CapacityLimiter:
        limiter = self._limiter.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self.threads)
            self._limiter.set(limiter)
        return limiter


# A query has a deadline in the store; four at a time leave the processor to the host.
QUERIES = Lane("query", threads=4, waiting=64)
# Scrapers come one or two at a time; a few dozen at once are still answered, more is a mistake or an attack.
SCRAPES = Lane("scrape", threads=2, waiting=32)
# Answered from memory: one would do.
PROBES = Lane("health", threads=2, waiting=64)


async def ask(request: Request, lane: Lane, question: Callable[[Store], T]) -> T:
    """What a question put to the app's store yields, on a thread of the lane."""
    return await lane.run(partial(_ask, request.app.state.store, question))


async def query(request: Request, question: Callable[[Store], T]) -> T:
    """The same for a query of the history: what this process recorded before is seen by it, bounded."""

    def flushed(store: Store) -> T:
        store.flush(_FLUSH_SECONDS)
        return question(store)

    return await ask(request, QUERIES, flushed)


def _ask(given: Store | None, question: Callable[[Store], T]) -> T:
    return question(given or current_store() or open_store())
