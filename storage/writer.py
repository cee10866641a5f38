"""The writer: the one consumer that moves all journals of a data directory into SQLite.

It runs where the role is held: in a thread of one of the app's processes, or in `tracekeep serve`. When the
holder dies, the next process goes on from the marks.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from . import engine
from .aggregates import Aggregates
from .batch import Batch, Databases, build, count_quiet, finish
from .change import Change
from .complaints import Complaints, describe
from .errors import TracekeepError
from .gather import Gatherer, Part, join_part
from .layout import partition_files
from .partitions import History
from .reader import Position
from .rebuild import rebucket, refold, restore
from .role import Role
from .settings import StoreSettings
from .state import WriterState

_logger = logging.getLogger("tracekeep")

BATCH_RECORDS = 5000
BATCH_BYTES = 16 << 20
BATCH_SECONDS = 0.05
_POLL = 0.02  # s between two looks at journals that had nothing
_ELECTION = 0.25  # s between two tries for the role
_UPKEEP = 1.0  # s between two checks of files, durability and state
_RETENTION = 30.0
_BACKOFF = 0.25  # s before a failed commit is tried again
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
        self._role = Role(data_dir, dedicated=settings.dedicated)
        self._complaints = Complaints()
        self._gatherer: Gatherer | None = None
        self._bases: Databases | None = None
        self._partitions: frozenset[int] = frozenset()
        self._verified: dict[str, Position] = {}
        self._refolding: Generator[Change, None, None] | None = None
        self._refolded: frozenset[tuple[int, int]] = frozenset()
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
        """Wait until this writer has committed a journal up to a record."""
        self._wake.set()
        with self._applied:
            return self._applied.wait_for(lambda: self._marks.get(name, 0) >= sequence, timeout)

    def abandon_after_fork(self) -> None:
        """In a forked child: close the inherited locks. Connections are left alone: closing would hurt the parent's."""
        self._role.release_inherited()
        if self._gatherer is not None:
            self._gatherer.release_inherited()

    # --- the role --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._role.take():
                    self._complaints.clear("writer")
                    self._serve()
                else:
                    self._stopping.wait(_ELECTION)
            except OSError as error:
                self._complaints.note("writer", f"the data directory {self._data_dir} can't be used: {error.strerror}")
                self._stopping.wait(_ELECTION)
            except RoleLostError:
                continue
            except Exception:  # the role passes on; this process tries again
                self._complaints.note("writer", "an unexpected error; it begins anew", exc_info=True)
                self._stopping.wait(1.0)
            finally:
                self._close_files()
                self._role.give_back()
        self._role.leave()

    def _close_files(self) -> None:
        for closable in (self._refolding, self._gatherer, self._bases):
            if closable is not None:
                with suppress(*Failures):
                    closable.close()
        self._refolding = self._gatherer = self._bases = None

    # --- the work --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Work until the role is wanted elsewhere or the store closes."""
        self._due = {}
        if not self._until(self._open) or not self._until(self._withdraw_dead):
            return
        while True:
            if self._is_due("upkeep", _UPKEEP):
                self._until(self._keep_up)
                if self._role.is_claimed():
                    return
            if self._refolding is not None:
                self._until(self._refold_some)
            if self._is_due("discover", _ELECTION):
                self._gather.discover()
                self._until(self._withdraw_dead)
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
            with self._blaming("aggregates"):
                self._restore(aggregates, history)
            self._bases = Databases(aggregates, history)
        self._gatherer = Gatherer(self._data_dir / "journal", self._bases.start_of, self._own)
        self._gather.discover()
        self._verified = self._bases.common_marks()
        self._partitions = frozenset()
        self._announce()

    @staticmethod
    def _restore(aggregates: Aggregates, history: History) -> None:
        """Fill an `aggregates.db` that is new; from the history, where that is not."""
        if aggregates.is_new and (count := restore(history.directory, aggregates, history.marks)):
            _logger.warning(
                "tracekeep: %s was lost; its totals were counted again from %d spans", aggregates.path, count
            )

    @property
    def _gather(self) -> Gatherer:
        assert self._gatherer is not None
        return self._gatherer

    @property
    def _databases(self) -> Databases:
        assert self._bases is not None
        return self._bases

    def _keep_role(self) -> None:
        """Go on only as the one writer: before each commit, and while one is tried again.

        Raises:
            RoleLostError: another process has the role.
        """
        if self._role.is_claimed() or not self._role.keep():
            raise RoleLostError

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
        first, count, size = time.monotonic(), 0, 0
        while count < BATCH_RECORDS and size < BATCH_BYTES:
            got = self._gather.read(BATCH_RECORDS - count)
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
        bases = self._databases
        self._keep_role()
        self._notice_replaced()
        if not pending or pending[0].dictionary is not bases.history.dictionary:
            with self._blaming("aggregates"):
                try:
                    pending[:] = [build(parts, bases.history, bases.aggregates, self._gather.dead())]
                except BaseException:
                    bases.history.dictionary = bases.history.dictionary.renewed()  # what it numbered was never stored
                    raise
        batch = pending[0]
        with self._blaming("history"):
            bases.history.apply(batch.intake, batch.marks)
            self._notice_replaced()  # a file deleted during the commit has not kept it
            for command in batch.commands:
                batch.run(command, bases)
        with self._blaming("aggregates"):
            bases.aggregates.count_groups(batch.change)
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
        self._notice_replaced()
        self._make_durable()
        self._count_without_records()
        self._finish_dead()
        self._rebucket()
        self._tend_exemplars()
        if self._is_due("retention", _RETENTION):
            with self._blaming("history"):
                expired = self._databases.history.expired(time.time_ns())
            self._tend_exemplars(expired)
            with self._blaming("history"):
                for path in expired:
                    engine.remove(path)
            with self._blaming("aggregates"):
                self._databases.aggregates.prune(time.time())

    def _make_durable(self) -> None:
        """Checkpoint both databases; then the journals need no longer keep what they hold.

        Looked at first: a checkpoint would put a good first page over what somebody has broken.
        """
        self._notice_damaged()
        bases = self._databases
        self._verified = bases.common_marks()
        with self._blaming("history"):
            bases.history.make_durable()
        with self._blaming("aggregates"):
            bases.aggregates.make_durable()
        self._gather.remove_applied(self._verified)

    def _roll(self) -> None:
        with self._blaming("history"):
            self._databases.history.roll()

    def _tend_exemplars(self, leaving: Collection[Path] = ()) -> None:
        """Drop exemplars that lead nowhere, or will when some partitions leave; confirm those that lead somewhere."""
        aggregates, history = self._databases.aggregates, self._databases.history
        with self._blaming("history"):
            held = frozenset(opened for path, opened in history.present().items() if path not in leaving)
            change = aggregates.begin()
            change.exemplars = aggregates.metrics.candidates.confirm(history.holds, history.opened, change.time)
        with self._blaming("aggregates"):
            if held != self._partitions:
                aggregates.metrics.keep_exemplars(change, held)
            if change.exemplars:
                aggregates.apply(change)
                self._announce()
            self._partitions = held

    def _rebucket(self) -> None:
        """Count histograms anew whose bounds the settings have changed, once the totals have all of the history."""
        bases = self._databases
        if not bases.aggregates.metrics.outdated or not bases.is_folded():
            return
        names = ", ".join(bases.aggregates.metrics.outdated)
        _logger.info("tracekeep: %s: counted anew from the history, as the settings give other buckets", names)
        with self._blaming("aggregates"):
            rebucket(bases.history.directory, bases.aggregates)
        self._announce()

    def _count_without_records(self) -> None:
        """Take in what no record brings: the own counters of processes that say nothing else, and that time passes."""
        aggregates = self._databases.aggregates
        with self._blaming("aggregates"):
            change = aggregates.begin()
            for name, reader in self._gather.readers.items():
                count_quiet(change, name, reader.state(), aggregates)
            aggregates.edges.expire(change, self._caught_up)
            if not (change.accounting or change.graph):
                return
            aggregates.apply(change)
        self._announce()

    def _withdraw_dead(self) -> None:
        """Take back at once what dead processes said of themselves, however much they left to be read."""
        aggregates = self._databases.aggregates
        gone = [name for name in aggregates.metrics.givers() if name in self._gather.dead()]
        if gone:
            change = aggregates.begin()
            for name in gone:
                aggregates.metrics.withdraw(change, name)
            with self._blaming("aggregates"):
                aggregates.apply(change)

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
                for name in done:
                    bases.aggregates.metrics.withdraw(forgetting, name)
                bases.aggregates.apply(forgetting)
            with self._blaming("history"):
                bases.history.forget(done)
            self._announce()
        self._gather.forget_missing()

    def _notice_replaced(self) -> None:
        """Make anew what was deleted or replaced under us."""
        for part, base in (("aggregates", self._databases.aggregates), ("history", self._databases.history)):
            with self._blaming(part):
                if base.is_replaced():
                    self._renew(part)

    def _notice_damaged(self) -> None:
        """Make anew what was overwritten under us: SQLite would find out only when it needs the page."""
        for part, base in (("aggregates", self._databases.aggregates), ("history", self._databases.history)):
            with self._blaming(part):
                if base.is_damaged():
                    self._renew(part)

    def _renew(self, part: str) -> None:
        """Begin a new file. Totals come from memory; spans, as far as they go back, from the journals."""
        bases = self._databases
        base = bases.aggregates if part == "aggregates" else bases.history
        broken = not base.is_replaced() or (base.path.exists() and base.is_damaged())
        _logger.warning(
            "tracekeep: %s was %s; a new one is begun", base.path, "broken" if broken else "deleted or replaced"
        )
        if base is bases.aggregates:
            base.renew(broken=broken)
            if self._refolding is not None:
                self._refolding.close()
            self._refolding, self._refolded = (
                refold(bases.history.directory, base, base.fold_rollups),
                base.recent_rollups(),
            )
            return
        bases.history.marks = {name: self._verified.get(name, Position()) for name in bases.history.marks}
        bases.history.renew(broken=broken)
        self._gather.rewind()
        self._gather.discover()
        raise _Rewound

    def _refold_some(self) -> None:
        """One step of counting old rollups again; totals need none, memory had them."""
        with self._blaming("aggregates"):
            step = next(self._refolding, None) if self._refolding is not None else None
            if step is None:
                self._refolding = None
            else:
                self._databases.aggregates.apply_rollups(step, keep=self._refolded)

    # --- failures --------------------------------------------------------------------------------------------------

    @contextmanager
    def _blaming(self, part: str, opening: Callable[[], Path] | None = None) -> Iterator[None]:
        """Lay a failure inside to a part: say so, set a broken file aside, and have it tried again."""
        try:
            yield
        except Failures as error:
            self._complaints.note(part, describe(error))
            if engine.is_corruption(error):
                with suppress(*Failures, IndexError):
                    if opening is not None:
                        engine.set_aside(opening())
                    else:
                        self._renew(part)
            raise _Again from error
        self._complaints.clear(part)

    def _until(self, action: Callable[[], None]) -> bool:
        """Try until it works; False where the store closes and its bound has passed, or where it must begin again."""
        while True:
            try:
                action()
            except _Again:
                self._publish()
            except _Rewound:
                return False
            else:
                return True
            if self._stopping.is_set() and time.monotonic() + _BACKOFF > self._drain_until:
                return False
            time.sleep(_BACKOFF)
            self._keep_role()

    # --- what others see -------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        state = WriterState(
            pid=os.getpid(),
            updated=time.time_ns(),
            commit=self._bases.aggregates.commit if self._bases else 0,
            committed=self._committed,
            lag=time.monotonic() - self._caught_up if self._waiting else 0.0,
            degraded=self._complaints.listed(),
            marks=self._marks,
            rows={name: mark.sequence for name, mark in self._bases.history.marks.items()} if self._bases else {},
        )
        if not self._role.publish(msgspec.msgpack.encode(state)):
            state.marks = state.rows = {}  # so many journals that the page can't hold them: readers ask the database
            self._role.publish(msgspec.msgpack.encode(state))


class _Again(Exception):  # noqa: N818  # control flow, never seen outside
    """The failure has been dealt with as far as it can be; try again."""


class _Rewound(Exception):  # noqa: N818  # control flow, never seen outside
    """The history begins again at an earlier mark: what was read is dropped and read anew."""


class RoleLostError(TracekeepError):
    """The writer's role was given away in the middle of a failure; the next holder goes on from the marks."""
