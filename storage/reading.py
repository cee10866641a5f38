"""Read-only connections, kept open by file and let go when the file is replaced."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from . import engine
from .errors import QueryTimeout, Unavailable
from .gate import FORK_SECONDS, Gate

_MAX_OPEN = 64
NARROW = "The query passed its deadline: ask for a shorter window, or filter by service and name."
_PROGRESS_STEPS = 2000  # virtual machine steps between two looks at the deadline: about 20 µs


class Readers:
    """Pools of read-only connections by path."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._engines: dict[Path, tuple[tuple[int, int], Engine]] = {}
        self._gate = Gate()
        self._fork_at = math.inf

    def deadline(self) -> float:
        """When a query that begins now must have ended (monotonic)."""
        return time.monotonic() + self._timeout

    @contextmanager
    def connect(self, path: Path, until: float) -> Iterator[Connection]:
        """A short read transaction, stopped at a monotonic time.

        Raises:
            QueryTimeout: the deadline passed.
            Unavailable: the file is missing, locked or broken.
        """
        try:
            with (
                self._gate.entered(),
                self._engine(path).connect() as connection,
                _deadline(connection, lambda: time.monotonic() > min(until, self._fork_at)),
            ):
                raw: Any = connection.connection.driver_connection
                raw.execute("BEGIN")  # SQLAlchemy's own way takes a tenth of a ms; the pool rolls back
                yield connection
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            if "interrupted" in str(error):
                raise QueryTimeout(NARROW) from error
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            raise Unavailable(f"{path.name} can't be read just now: {cause}") from error

    def _engine(self, path: Path) -> Engine:
        identity = engine.identity(path)
        if identity is None:
            raise FileNotFoundError(2, "no such database (yet)", str(path))
        with self._lock:
            known = self._engines.get(path)
            if known is not None and known[0] == identity:
                return known[1]
            if known is not None:
                known[1].dispose()
            if len(self._engines) >= _MAX_OPEN:
                self._engines.pop(next(iter(self._engines)))[1].dispose()
            fresh = _open(path)
            self._engines[path] = (identity, fresh)
            return fresh

    def close(self) -> None:
        """Close all connections that are not in use."""
        with self._lock:
            for _identity, pool in self._engines.values():
                pool.dispose()
            self._engines.clear()

    def before_fork(self, until: float) -> None:
        """Close all connections; a question that is still being answered after half of the bound is given up."""
        self._fork_at = time.monotonic() + FORK_SECONDS / 2
        if self._gate.close(until):
            self.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._fork_at = math.inf
        self._gate.open()

    def abandon_after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        self._lock = threading.Lock()
        for _identity, pool in self._engines.values():
            pool.dispose(close=False)
        self._engines = {}


def _open(path: Path) -> Engine:
    """A pool of read-only connections to one file."""
    return create_engine(
        "sqlite+pysqlite://",
        creator=lambda: _connect(path),
        poolclass=QueuePool,
        pool_size=2,
        max_overflow=6,
        pool_timeout=5,
    )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout=500")
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA cache_size=-4000")
    return connection


@contextmanager
def _deadline(connection: Any, is_over: Callable[[], bool]) -> Iterator[None]:
    """Stop the statements of a SQLAlchemy connection when time is over.

    Raises:
        QueryTimeout: it was.
    """
    raw = connection.connection.driver_connection
    raw.set_progress_handler(is_over, _PROGRESS_STEPS)
    try:
        yield
    except Exception as error:
        if "interrupted" in str(error):
            raise QueryTimeout(NARROW) from error
        raise
    finally:
        raw.set_progress_handler(None, 0)
