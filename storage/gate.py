"""Who of this process is at work in SQLite, so that a fork finds nobody there.

A fork copies SQLite's mutexes as they are: one that another thread holds is never released in the child, whose next
call waits for ever. It also copies what SQLite knows of the process's locks, which the child doesn't have
(https://sqlite.org/howtocorrupt.html, section 2.6). So all connections are closed before a fork.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

FORK_SECONDS = 2.0
"""The most that a fork waits for all to come out."""


class Gate:
    """A gate that is closed while the process forks."""

    def __init__(self) -> None:
        self._state = threading.Condition(threading.Lock())
        self._own = threading.local()
        self._inside = self._forks = 0

    @property
    def is_closed(self) -> bool:
        """Whether the process is about to fork, or at it."""
        return self._forks > 0

    def try_enter(self) -> bool:
        """Go in unless the gate is closed; whether it was open."""
        with self._state:
            if self._forks:
                return False
            self._go_in()
            return True

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside; a fork that is under way is waited for, unless this thread is inside already."""
        with self._state:
            if not self._depth:
                self._state.wait_for(lambda: not self._forks, FORK_SECONDS)
            self._go_in()
        try:
            yield
        finally:
            self.leave()

    def leave(self) -> None:
        """Come out."""
        with self._state:
            self._inside -= 1
            self._own.depth -= 1
            self._state.notify_all()

    def close(self, until: float) -> bool:
        """Let nobody in any more, and wait for those inside up to a monotonic time; whether they have come out."""
        with self._state:
            self._forks += 1
            return self._state.wait_for(lambda: self._inside <= self._depth, until - time.monotonic())

    def open(self) -> None:
        """The fork is over."""
        with self._state:
            self._forks -= 1
            self._state.notify_all()

    def _go_in(self) -> None:
        self._inside += 1
        self._own.depth = self._depth + 1

    @property
    def _depth(self) -> int:
        """How often this very thread is inside."""
        return getattr(self._own, "depth", 0)
