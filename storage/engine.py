"""SQLite mechanics: opening, pragmas, transactions, durability. No meaning: it knows no table.

Only the writer opens a database for writing. SQLite before 3.51.3 (3.50.7, 3.44.6) can corrupt a WAL
database when two connections write or checkpoint at the same instant; with one writer none do.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import ddl
from .errors import ForeignFileError
from .layout import APPLICATION_ID

BUSY_MS = 200
"""How long the writer waits for a lock before it says so and lets the journal take over."""
LONG_LOG = 48 << 20
"""Bytes of a log past which a checkpoint waits a little for those who read it, so that it can be begun anew."""
FULL_LOG = 96 << 20
"""Bytes of a log past which the writer commits nothing more until that has been done, as far as its patience goes."""
_READERS_MS = 50  # that such a checkpoint waits

_WRITER_PRAGMAS = (
    f"busy_timeout={BUSY_MS}",
    "journal_mode=WAL",  # readers never wait for the writer, nor it for them
    "synchronous=NORMAL",  # the journal is the durable copy until a checkpoint has synced
    "wal_autocheckpoint=0",  # checkpoints are made between batches, not inside one
    "cache_size=-16000",  # KiB; holds the hot bucket of each index
    "temp_store=MEMORY",
    "mmap_size=0",  # an I/O error through a mapping would be a SIGBUS
    "journal_size_limit=4194304",  # a WAL that once grew long is cut back at the next reset
)


class OwnFile:
    """A database that this process writes to, as it was when it was opened."""

    path: Path
    identity: tuple[int, int] | None
    _connection: sqlite3.Connection

    def is_replaced(self) -> bool:
        """Whether the file was deleted, or another one put in its place."""
        return identity(self.path) != self.identity

    def is_damaged(self) -> bool:
        """Whether the first page, which a careless overwrite hits first, is not ours any more."""
        try:
            return (read_header(self.path) or (0, 0))[0] != APPLICATION_ID
        except sqlite3.Error:
            return False  # too many open files, no permission: that says nothing about the content

    def make_durable(self) -> None:
        """See `make_durable`."""
        make_durable(self._connection, self.path)

    def leave(self, *, broken: bool) -> None:
        """Let go of a file that is gone or broken; one that is broken is set aside.

        Raises:
            OSError: it can't be.
        """
        abandon(self._connection)
        if broken and self.path.exists():
            set_aside(self.path)
        remove_logs(self.path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def open_writer(path: Path, schema: str, migrations: tuple[str, ...]) -> sqlite3.Connection:
    """The writing connection, schema made or migrated.

    Raises:
        ForeignFileError: the file is another application's or a newer tracekeep's; it has not been touched.
        sqlite3.DatabaseError: locked, full, or corrupt.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        _refuse_foreign(path, len(migrations) + 1)
    else:
        _create(path, schema, migrations)
    return _connect_writer(path, schema, migrations)


def _create(path: Path, schema: str, migrations: tuple[str, ...]) -> None:
    """Make the file under a hidden name, so that no reader meets one without its tables."""
    hidden = path.with_name(f".new-{path.name}")
    remove(hidden)
    os.close(os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    _connect_writer(hidden, schema, migrations).close()
    remove_logs(path)
    hidden.rename(path)


def _connect_writer(path: Path, schema: str, migrations: tuple[str, ...]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for pragma in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if _migrate(connection, schema, migrations):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the file itself says at once whose it is
    except BaseException:
        connection.close()
        raise
    return connection


def remove(path: Path) -> None:
    """Unlink a database and its logs."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _refuse_foreign(path: Path, newest: int) -> None:
    """Look at the header before SQLite does: recovery of a stranger's WAL would already write."""
    header = read_header(path)
    if header is None:
        raise sqlite3.DatabaseError("file is not a database")
    application_id, version = header
    if application_id == 0 and version == 0 and _is_empty(path):
        return
    if application_id != APPLICATION_ID:
        raise ForeignFileError(
            str(path),
            f"belongs to another application (application id {application_id:#x})",
            "Choose another data directory.",
        )
    if version > newest:
        raise ForeignFileError(
            str(path),
            f"has schema version {version}, newer than this tracekeep's {newest}",
            "Upgrade tracekeep, or choose another data directory.",
        )


def read_header(path: Path) -> tuple[int, int] | None:
    """(application id, user version) as the file itself says, without its log; None where it is no database.

    Through SQLite, never by opening the file: closing any descriptor of it would drop all of this process's
    POSIX locks on it (https://sqlite.org/howtocorrupt.html, section 2.2), and with them what protects the log.

    Raises:
        sqlite3.Error: it can't be read just now.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        fetch = connection.execute
        return fetch("PRAGMA application_id").fetchone()[0], fetch("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        if is_corruption(error):
            return None
        raise
    finally:
        connection.close()


def _is_empty(path: Path) -> bool:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    finally:
        connection.close()


def _migrate(connection: sqlite3.Connection, schema: str, migrations: tuple[str, ...]) -> bool:
    """Make or bring up the schema in one transaction; whether there was anything to do."""
    newest = len(migrations) + 1
    if connection.execute("PRAGMA user_version").fetchone()[0] == newest:
        return False
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]  # another may have been quicker
        if version == 0:
            for statement in {"aggregates": ddl.AGGREGATES, "history": ddl.HISTORY}[schema]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        for script in migrations[version - 1 :] if version else ():
            for statement in script.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={newest}")
    return True


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A writing transaction: committed at the end, rolled back on any error.

    IMMEDIATE, because a read that becomes a write fails at once on a busy database whatever its timeout.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def make_durable(connection: sqlite3.Connection, path: Path) -> None:
    """Checkpoint what can be, and see to it that all that is committed survives the loss of power.

    A log that has grown long is emptied if those who read it end soon: SQLite itself begins it anew only where
    nobody happens to read it at the next commit, which under questions without end may be never.

    Raises:
        sqlite3.Error, OSError: it could not be.
    """
    _busy, logged, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if logged != done:  # a reader holds the rest back: the log itself must be safe then
        descriptor = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if log_bytes(path) > LONG_LOG:
        connection.execute(f"PRAGMA busy_timeout={_READERS_MS}")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def log_bytes(path: Path) -> int:
    """Size of a database's log; 0 where there is none."""
    try:
        return os.stat(f"{path}-wal").st_size  # noqa: PTH116  # after each batch: no object for it
    except OSError:
        return 0


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, to notice that a file was deleted or replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_corruption(error: BaseException) -> bool:
    """Whether the error says that the file's content is broken, not that it is busy or that the disk is full."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error)
    return code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}


def set_aside(path: Path) -> Path:
    """Rename a broken database and its log to `.corrupt-<time>`, so that nothing of it is lost."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    target = path.with_name(f"{path.name}.corrupt-{stamp}")
    while target.exists():
        target = target.with_name(target.name + "x")
    for suffix in ("", "-wal", "-shm"):
        source = Path(f"{path}{suffix}")
        if source.exists():
            source.rename(f"{target}{suffix}")
    return target


def abandon(connection: sqlite3.Connection) -> None:
    """Close a connection whose file is gone or broken: what it complains about is known already."""
    with suppress(sqlite3.Error):
        connection.close()


def remove_logs(path: Path) -> None:
    """Remove the logs of a database that is gone: SQLite would replay them into the new one."""
    if not path.exists():
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
