"""The writer: the one consumer that moves all journals of a data directory into SQLite.

It runs where the role is held: in a thread of one of the app's processes, or in `tracekeep serve`. When the
holder dies, the next process goes on from the marks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from . import engine
from .batch import Batch, build
from .complaints import Complaints
from .custody import Again, Custody, Rewound
from .errors import TracekeepError
from .gate import Gate
from .gather import Part, join_part
from .role import Role
from .settings import StoreSettings
from .state import WriterState
from .upkeep import Upkeep

BATCH_RECORDS = 10_000
BATCH_BYTES = 16 << 20
BATCH_SECONDS = 0.05
_POLL = 0.02  # s between two looks at journals that had nothing
_ELECTION = 0.25  # s between two tries for the role
_AFTER_A_FORK = 0.5  # s that the child has to take the role: whoever forks again then need not leave SQLite again
_UPKEEP = 1.0  # s between two checks of files, durability and state
_RETENTION = 30.0
_BACKOFF = 0.25  # s before a failed commit is tried again
_UNCHECKPOINTED = 25  # batches between two checkpoints under load ...
_BUSY_DURABLE = 5.0  # ... or s; a checkpoint costs as much as some batches


class Writer:
    """Holds the writer's role whenever it can get it, and does its work.

    Args:
        data_dir: the data directory.
        settings: of the store.
        own: name of this process's journal.
    """

    def __init__(self, data_dir: Path, settings: StoreSettings, own: Callable[[], str]) -> None:
        self._data_dir = data_dir
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._applied = threading.Condition()
        self._gate = Gate()
        self._stands_from = 0.0
        self._thread: threading.Thread | None = None
        self._role = Role(data_dir, dedicated=settings.dedicated)
        self._alone = settings.dedicated
        self._complaints = Complaints()
        self._custody = Custody(data_dir, settings, own, self._complaints)
        self._upkeep = Upkeep(self._custody, self._announce)
        self._marks: dict[str, int] = {}
        self._committed = 0
        self._caught_up = time.monotonic()
        self._waiting = self._has_caught_up = False
        self._batches = 0
        self._patience = settings.query_timeout + 1
        self._full_log = engine.FULL_LOG
        self._due: dict[str, float] = {}
        self._drain_until = 0.0

    # --- for the store -------------------------------------------------------------------------------------------

    @property
    def holds_role(self) -> bool:
        """Whether this process is the writer."""
        return self._role.is_held

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

    def hurry(self) -> None:
        """Commit what there is without waiting for more."""
        self._wake.set()

    def wait_applied(self, name: str, sequence: int, timeout: float) -> bool:
        """Wait until this writer has committed a journal up to a record; ended early where it gives the role back."""
        self._wake.set()
        with self._applied:
            self._applied.wait_for(lambda: self._marks.get(name, 0) >= sequence or not self.holds_role, timeout)
            return self._marks.get(name, 0) >= sequence

    # --- forks -----------------------------------------------------------------------------------------------------

    def before_fork(self, until: float) -> None:
        """Have both databases closed, so that the child inherits nothing of SQLite, and wait for it up to a bound."""
        self._wake.set()
        self._gate.close(until)

    def after_fork_in_parent(self) -> None:
        """Go on, but let the child stand for the role first."""
        self._stands_from = time.monotonic() + _AFTER_A_FORK
        self._gate.open()

    def abandon_after_fork(self) -> None:
        """In a forked child: close the inherited locks. Connections are left alone: closing would hurt the parent's."""
        self._role.release_inherited()
        self._custody.release_inherited()

    # --- the role --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            if not self._may_stand():
                continue
            pause = _ELECTION
            try:
                if self._role.take():
                    pause = 0.0
                    self._complaints.clear("writer")
                    self._serve()
            except OSError as error:
                self._complaints.note("writer", f"the data directory {self._data_dir} can't be used: {error.strerror}")
            except RoleLostError:
                pass
            except Exception:  # the role passes on; this process tries again
                self._complaints.note("writer", "an unexpected error; it begins anew", exc_info=True)
                pause = 1.0
            finally:
                self._leave()
            self._stopping.wait(pause)
        self._role.leave()

    def _may_stand(self) -> bool:
        """Whether this process has not just forked; it is through the gate then."""
        if time.monotonic() >= self._stands_from and self._gate.try_enter():
            return True
        self._stopping.wait(_POLL)
        return self._stopping.is_set() and self._gate.try_enter()

    def _leave(self) -> None:
        """Close both databases, give the role back and tell those who wait for this writer."""
        self._custody.close()
        self._role.give_back()
        self._gate.leave()
        with self._applied:
            self._applied.notify_all()

    # --- the work --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Work until the role is wanted elsewhere or the store closes."""
        self._due = {}
        if not self._until(self._open) or not self._until(self._upkeep.withdraw_dead):
            return
        while True:
            if self._is_due("upkeep", _UPKEEP):
                self._until(self._keep_up)
                if self._role.is_claimed():
                    return
            if self._gate.is_closed:
                return
            if self._custody.is_refolding:
                self._until(self._custody.refold_some)
            if self._is_due("discover", _ELECTION):
                self._custody.gather.discover()
                self._until(self._upkeep.withdraw_dead)
            worked = self._turn()
            if self._stopping.is_set() and (not worked or time.monotonic() > self._drain_until):
                self._until(self._custody.make_durable)
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
        self._custody.open()
        self._upkeep = Upkeep(self._custody, self._announce)
        self._has_caught_up = False
        self._announce()

    def _keep_role(self) -> None:
        """Go on only as the one writer: before each commit, and while one is tried again.

        Raises:
            RoleLostError: another process has the role.
        """
        if self._gate.is_closed or self._role.is_claimed() or not self._role.keep():
            raise RoleLostError

    # --- a batch ---------------------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Collect a batch and commit it; False where there was nothing."""
        parts, drained_at = self._collect()
        if not parts:
            self._caught_up = drained_at or time.monotonic()
            if self._waiting or not self._has_caught_up:
                self._waiting, self._has_caught_up = False, True
                self._publish()  # or else answers would be taken for late ones until the next upkeep
            return False
        self._waiting = True
        pending: list[Batch] = []
        if self._until(lambda: self._commit(parts, pending)):
            self._after_commit(drained_at)
        return True

    def _collect(self) -> tuple[list[Part], float | None]:
        """What the journals hold, up to a batch or until nothing has come for long enough; and when they ran dry."""
        parts: dict[str, Part] = {}
        first, count, size = time.monotonic(), 0, 0
        while count < BATCH_RECORDS and size < BATCH_BYTES:
            got = self._custody.gather.read(BATCH_RECORDS - count)
            for part in got:
                count += len(part.records)
                size += part.size
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
        bases = self._custody.databases
        self._keep_role()
        self._custody.notice_replaced()
        if not pending or pending[0].dictionary is not bases.history.dictionary:
            with self._custody.blaming("aggregates"):
                try:
                    pending[:] = [
                        build(parts, bases.history, bases.aggregates, self._custody.gather.dead(), alone=self._alone)
                    ]
                except BaseException:
                    bases.history.dictionary = bases.history.dictionary.renewed()  # what it numbered was never stored
                    raise
        batch = pending[0]
        with self._custody.blaming("history"):
            bases.history.apply(batch.intake, batch.marks)
            self._custody.notice_replaced()  # a file deleted during the commit has not kept it
            for command in batch.commands:
                batch.run(command, bases)
        with self._custody.blaming("aggregates"):
            bases.aggregates.count_groups(batch.change)
            bases.aggregates.apply(batch.change)

    def _after_commit(self, drained_at: float | None) -> None:
        self._batches += 1
        self._caught_up = drained_at or self._caught_up
        self._has_caught_up = self._has_caught_up or drained_at is not None
        self._announce()
        history = self._custody.databases.history
        if history.is_full(time.time_ns()):
            self._until(self._roll)
        length = self._custody.log_bytes()
        if self._batches % _UNCHECKPOINTED == 0 or length > engine.LONG_LOG:
            self._until(self._custody.make_durable)
        if length > self._full_log:
            self._let_readers_end()

    def _let_readers_end(self) -> None:
        """Commit nothing more while a log is full: it can be emptied as soon as those who read it now have ended.

        Every question ends by its deadline, and those that begin meanwhile don't need the log. The journals keep
        what comes. Somebody else may read without end: there is no more waiting then until the log is twice as long.
        """
        until = time.monotonic() + self._patience
        while (length := self._custody.log_bytes()) > engine.FULL_LOG:
            self._keep_role()
            if time.monotonic() > until or self._stopping.wait(_POLL):
                self._full_log = 2 * length
                return
            self._until(self._custody.make_durable)
            self._publish()
        self._full_log = engine.FULL_LOG

    def _announce(self) -> None:
        """Tell everybody what has been committed; those who have waited for it find it told."""
        marks = {name: mark.sequence for name, mark in self._custody.databases.aggregates.marks.items()}
        self._committed = time.time_ns()
        self._publish(marks)
        with self._applied:
            self._marks = marks
            self._applied.notify_all()

    # --- upkeep ----------------------------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        self._keep_role()
        self._publish()
        self._custody.notice_replaced()
        if not self._waiting or self._is_due("durable", _BUSY_DURABLE):
            self._custody.make_durable()
        self._upkeep.tend(self._caught_up)
        if self._is_due("retention", _RETENTION):
            self._upkeep.retire_old()

    def _roll(self) -> None:
        with self._custody.blaming("history"):
            self._custody.databases.history.roll()

    # --- failures --------------------------------------------------------------------------------------------------

    def _until(self, action: Callable[[], None]) -> bool:
        """Try until it works; False where the store closes and its bound has passed, or where it must begin again."""
        while True:
            try:
                action()
            except Again:
                self._publish()
            except Rewound:
                return False
            else:
                return True
            if self._stopping.is_set() and time.monotonic() + _BACKOFF > self._drain_until:
                return False
            time.sleep(_BACKOFF)
            self._keep_role()

    # --- what others see -------------------------------------------------------------------------------------------

    def _publish(self, marks: dict[str, int] | None = None) -> None:
        bases = self._custody.bases
        state = WriterState(
            pid=os.getpid(),
            updated=time.time_ns(),
            commit=bases.aggregates.commit if bases else 0,
            committed=self._committed,
            lag=time.monotonic() - self._caught_up if self._waiting else 0.0,
            degraded=self._complaints.listed(),
            marks=self._marks if marks is None else marks,
            rows={name: mark.sequence for name, mark in self._custody.bases.history.marks.items()}
            if self._custody.bases
            else {},
            caught_up=self._has_caught_up,
        )
        if not self._role.publish(msgspec.msgpack.encode(state)):
            state.marks = state.rows = {}  # so many journals that the page can't hold them: readers ask the database
            self._role.publish(msgspec.msgpack.encode(state))


class RoleLostError(TracekeepError):
    """The writer's role was given away in the middle of a failure; the next holder goes on from the marks."""
