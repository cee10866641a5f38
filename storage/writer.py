"""The writer: the one consumer that moves all journals of a data directory into SQLite.

It runs where `writer.lock` is held: in a thread of one of the app's processes, or in `tracekeep serve`,
which announces itself by `writer.claim` and is then given the role. When the holder dies, the kernel
drops the lock and the next process goes on from the marks.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from . import engine
from .aggregates import Aggregates
from .batch import Batch, Databases, build, finish
from .errors import TracekeepError
from .gather import Gatherer, Part, join_part
from .locks import FileLock, is_held
from .pages import SharedPage
from .partitions import History, partition_files
from .settings import StoreSettings
from .state import STATE_PAGE_BYTES, WriterState

_logger = logging.getLogger("tracekeep")

BATCH_RECORDS = 5000
BATCH_SECONDS = 0.05
_POLL = 0.02  # s between two looks at journals that had nothing
_ELECTION = 0.25  # s between two tries for the role
_UPKEEP = 1.0  # s between two checks of files, durability and state
_RETENTION = 30.0
_BACKOFF = 0.25  # s before a failed commit is tried again
_REPEAT = 20.0  # s before the same complaint is logged again
_UNCHECKPOINTED = 25  # batches between two checkpoints under load

Failures = (sqlite3.Error, OSError, TracekeepError)


class Writer:
    """Holds the writer's role whenever it can get it, and does its work.

    Args:
        data_dir: the data directory.
        settings: of the store.
        own: name of this process's journal.
    """

    def __init__(self, data_dir: Path, settings: StoreSettings, own: Callable[[], str]) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._own = own
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._applied = threading.Condition()
        self._thread: threading.Thread | None = None
        self._role: FileLock | None = None
        self._claim: FileLock | None = None
        self._page: SharedPage | None = None
        self._gatherer: Gatherer | None = None
        self._bases: Databases | None = None
        self._degraded: dict[str, str] = {}
        self._complained: dict[str, float] = {}
        self._marks: dict[str, int] = {}
        self._committed = 0
        self._caught_up = time.monotonic()
        self._waiting = False
        self._batches = 0
        self._due: dict[str, float] = {}
        self._drain_until = 0.0

    # --- for the store -------------------------------------------------------------------------------------------

    @property
    def holds_role(self) -> bool:
        """Whether this process is the writer."""
        return self._role is not None

    def start(self) -> None:
        """Begin to stand for the role."""
        self._thread = threading.Thread(target=self._run, name="tracekeep-writer", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Apply what is there, as far as it goes within the bound, and give the role back."""
        thread, self._thread = self._thread, None
        if thread is None or not thread.is_alive():
            return
        self._drain_until = time.monotonic() + timeout * 0.8
        self._stopping.set()
        self._wake.set()
        thread.join(timeout)

    def wait_applied(self, name: str, sequence: int, timeout: float) -> bool:
        """Wait until this writer has committed a journal up to a record."""
        self._wake.set()
        with self._applied:
            return self._applied.wait_for(lambda: self._marks.get(name, 0) >= sequence, timeout)

    def abandon_after_fork(self) -> None:
        """In a forked child: close the inherited locks. Connections are left alone: closing would hurt the parent's."""
        for lock in (self._role, self._claim):
            if lock is not None:
                lock.release()

    # --- the role --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._take_role():
                    self._serve()
                else:
                    self._stopping.wait(_ELECTION)
            except RoleLostError:
                continue
            except Exception:  # the role passes on; this process tries again
                self._complain("writer", "The writer met an unexpected error", exc_info=True)
                self._stopping.wait(1.0)
            finally:
                self._give_role_back()

    def _take_role(self) -> bool:
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._settings.dedicated and self._claim is None:
                self._claim = FileLock.acquire(self._data_dir / "writer.claim")
            elif not self._settings.dedicated and is_held(self._data_dir / "writer.claim"):
                return False
            self._role = FileLock.acquire(self._data_dir / "writer.lock")
            if self._role is not None and self._page is None:
                self._page = SharedPage(self._data_dir / "writer.state", STATE_PAGE_BYTES)
        except OSError as error:
            self._complain("writer", f"The data directory {self._data_dir} can't be used: {error.strerror}")
            if self._role is not None:
                self._role.release()
            self._role = None
        return self._role is not None

    def _give_role_back(self) -> None:
        for closable in (self._gatherer, self._bases):
            if closable is not None:
                with suppress(*Failures):
                    closable.close()
        self._gatherer = self._bases = None
        if self._page is not None:
            self._page.close()
            self._page = None
        if self._role is not None:
            self._role.release()
            self._role = None

    def _wanted_elsewhere(self) -> bool:
        """Whether the role should go: a dedicated process asks for it, or the lock file is not the one we hold."""
        with suppress(OSError):
            if not self._settings.dedicated and is_held(self._data_dir / "writer.claim"):
                return True
        return self._role is not None and not self._role.holds(self._data_dir / "writer.lock")

    # --- the work --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Work until the role is wanted elsewhere or the store closes."""
        self._due = {}
        self._degraded.pop("writer", None)
        if not self._until(self._open):
            return
        while True:
            if self._is_due("upkeep", _UPKEEP):
                self._until(self._keep_up)
                if self._wanted_elsewhere():
                    return
            if self._is_due("discover", _ELECTION):
                self._gather.discover()
            worked = self._turn()
            if self._stopping.is_set() and (not worked or time.monotonic() > self._drain_until):
                self._until(self._make_durable)
                self._publish()
                return
            if not worked:
                self._wake.wait(_POLL)
                self._wake.clear()

    def _is_due(self, task: str, interval: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(task, 0.0):
            return False
        self._due[task] = now + interval
        return True

    def _open(self) -> None:
        """Open both databases and begin at their marks."""
        if self._bases is None:
            path = self._data_dir / "aggregates.db"
            with self._blaming("aggregates", lambda: path):
                aggregates = Aggregates(path, self._settings)
            directory = self._data_dir / "history"
            try:
                with self._blaming("history", lambda: partition_files(directory)[-1]):
                    history = History(directory, self._settings)
            except BaseException:
                aggregates.close()
                raise
            self._bases = Databases(aggregates, history)
        self._gatherer = Gatherer(self._data_dir / "journal", self._bases.start_of, self._own)
        self._gather.discover()
        self._announce()

    @property
    def _gather(self) -> Gatherer:
        assert self._gatherer is not None
        return self._gatherer

    @property
    def _databases(self) -> Databases:
        assert self._bases is not None
        return self._bases

    # --- a batch ---------------------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Collect a batch and commit it; False where there was nothing."""
        parts, drained_at = self._collect()
        if not parts:
            self._caught_up = drained_at or time.monotonic()
            self._waiting = False
            return False
        self._waiting = True
        pending: list[Batch] = []
        if self._until(lambda: self._commit(parts, pending)):
            self._after_commit(drained_at)
        return True

    def _collect(self) -> tuple[list[Part], float | None]:
        """What the journals hold, up to a batch or until nothing has come for long enough; and when they ran dry."""
        parts: dict[str, Part] = {}
        first, count = time.monotonic(), 0
        while count < BATCH_RECORDS:
            got = self._gather.read(BATCH_RECORDS - count)
            for part in got:
                count += len(part.records)
                join_part(parts, part)
            if got:
                continue
            now = time.monotonic()
            if not parts or now - first >= BATCH_SECONDS or self._wake.is_set() or self._stopping.is_set():
                return list(parts.values()), now
            time.sleep(0.01)
        return list(parts.values()), None

    def _commit(self, parts: list[Part], pending: list[Batch]) -> None:
        """One attempt to commit a batch; what an earlier attempt has achieved is not repeated."""
        bases = self._databases
        self._check_files(pending)
        if not pending or pending[0].dictionary is not bases.history.dictionary:
            with self._blaming("aggregates"):
                pending[:] = [build(parts, bases.history, bases.aggregates)]
        batch = pending[0]
        with self._blaming("history"):
            bases.history.apply(batch.intake, batch.marks)
            self._check_files(pending)  # a file deleted during the commit has not kept it
            for command in batch.commands:
                batch.run(command, bases.history)
        with self._blaming("aggregates"):
            bases.aggregates.apply(batch.change)

    def _after_commit(self, drained_at: float | None) -> None:
        self._batches += 1
        self._caught_up = drained_at or self._caught_up
        self._announce()
        history = self._databases.history
        if history.is_full(time.time_ns()):
            self._until(self._roll)
        if self._batches % _UNCHECKPOINTED == 0:
            self._until(self._make_durable)

    def _announce(self) -> None:
        """Tell everybody what has been committed."""
        with self._applied:
            self._marks = {name: mark.sequence for name, mark in self._databases.aggregates.marks.items()}
            self._applied.notify_all()
        self._committed = time.time_ns()
        self._publish()

    # --- upkeep ----------------------------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        self._publish()
        self._check_files([])
        self._make_durable()
        self._finish_dead()
        if self._is_due("retention", _RETENTION):
            with self._blaming("history"):
                for path in self._databases.history.expired(time.time_ns()):
                    remove_partition(path)
            with self._blaming("aggregates"):
                self._databases.aggregates.prune(time.time())

    def _make_durable(self) -> None:
        """Checkpoint both databases; then the journals need no longer keep what they hold."""
        bases = self._databases
        positions = bases.common_marks()
        with self._blaming("history"):
            bases.history.make_durable()
        with self._blaming("aggregates"):
            bases.aggregates.make_durable()
        self._gather.remove_applied(positions)

    def _roll(self) -> None:
        with self._blaming("history"):
            self._databases.history.roll()

    def _finish_dead(self) -> None:
        """Account for dead processes' journals that are read to their end, and remove them."""
        bases = self._databases
        done = [name for name, reader in self._gather.readers.items() if reader.is_finished()]
        if done:
            change = bases.aggregates.begin()
            for name in done:
                reader = self._gather.readers[name]
                finish(change, name, reader.position, reader.state(), bases.aggregates)
                change.marks[name] = reader.position
            with self._blaming("aggregates"):
                bases.aggregates.apply(change)
            self._make_durable()
            done = [name for name in done if self._gather.remove_finished(name)]
        done += bases.orphaned_marks(self._data_dir / "journal")
        if done:
            with self._blaming("aggregates"):
                forgetting = bases.aggregates.begin()
                forgetting.finished = done
                bases.aggregates.apply(forgetting)
            with self._blaming("history"):
                bases.history.forget(done)
            self._announce()
        self._gather.forget_missing()

    def _check_files(self, pending: list[Batch]) -> None:
        """Make anew what was deleted, replaced or overwritten under us."""
        bases = self._databases
        with self._blaming("aggregates"):
            if bases.aggregates.is_replaced() or bases.aggregates.is_damaged():
                self._renew("aggregates")
        with self._blaming("history"):
            if bases.history.is_replaced() or bases.history.is_damaged():
                if pending:
                    bases.history.marks.update(pending[0].before)
                    pending.clear()
                self._renew("history")

    def _renew(self, part: str) -> None:
        base = self._databases.aggregates if part == "aggregates" else self._databases.history
        broken = base.is_damaged() or not base.is_replaced()
        _logger.warning(
            "tracekeep: %s was %s; a new one is begun", base.path, "broken" if broken else "deleted or replaced"
        )
        base.renew(broken=broken)

    # --- failures --------------------------------------------------------------------------------------------------

    @contextmanager
    def _blaming(self, part: str, opening: Callable[[], Path] | None = None) -> Iterator[None]:
        """Lay a failure inside to a part: say so, set a broken file aside, and have it tried again."""
        try:
            yield
        except Failures as error:
            self._degraded[part] = describe(error)
            self._complain(part, f"{part.capitalize()}: {describe(error)}; the journal takes everything meanwhile")
            if engine.is_corruption(error):
                with suppress(*Failures, IndexError):
                    engine.set_aside(opening()) if opening is not None else self._renew(part)
            raise _Again from error
        self._degraded.pop(part, None)

    def _until(self, action: Callable[[], None]) -> bool:
        """Try until it works, or the store closes and its bound has passed."""
        while True:
            try:
                action()
            except _Again:
                self._publish()
            else:
                return True
            if self._stopping.is_set() and time.monotonic() + _BACKOFF > self._drain_until:
                return False
            time.sleep(_BACKOFF)
            if self._wanted_elsewhere():
                raise RoleLostError

    def _complain(self, part: str, text: str, *, exc_info: bool = False) -> None:
        """Log, but not the same thing again and again."""
        self._degraded.setdefault(part, text)
        now = time.monotonic()
        if now - self._complained.get(part, -_REPEAT) >= _REPEAT:
            self._complained[part] = now
            _logger.warning("tracekeep: %s", text, exc_info=exc_info)

    # --- what others see -------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        if self._page is None:
            return
        state = WriterState(
            pid=os.getpid(),
            updated=time.time_ns(),
            commit=self._bases.aggregates.commit if self._bases else 0,
            committed=self._committed,
            lag=time.monotonic() - self._caught_up if self._waiting else 0.0,
            degraded=sorted(self._degraded.items()),
            marks=self._marks,
        )
        if not self._page.publish(msgspec.msgpack.encode(state)):
            state.marks = {}
            self._page.publish(msgspec.msgpack.encode(state))


class _Again(Exception):  # noqa: N818  # control flow, never seen outside
    """The failure has been dealt with as far as it can be; try again."""


class RoleLostError(TracekeepError):
    """The writer's role was given away in the middle of a failure; the next holder goes on from the marks."""


def remove_partition(path: Path) -> None:
    """Unlink a partition and its logs."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def describe(error: BaseException) -> str:
    """What an operator should know about a failure."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "the database is locked by another process"
    if name.startswith("SQLITE_FULL"):
        return "the disk is full"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return f"the database can't be written or opened ({error})"
    if engine.is_corruption(error):
        return f"the file is broken and has been set aside ({error})"
    return str(error) or type(error).__name__
