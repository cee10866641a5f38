"""The databases in the writer's hands: opened, watched, made durable, and made anew where somebody destroys them.

What goes wrong inside `blaming` is laid to a part, shown as a degradation, mended as far as it can be, and tried again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import engine
from .aggregates import Aggregates
from .batch import Databases
from .change import Change
from .complaints import Complaints, describe
from .errors import TracekeepError
from .gather import Gatherer
from .layout import own_partitions
from .partitions import History
from .reader import Position
from .rebuild import refold, restore
from .settings import StoreSettings

_logger = logging.getLogger("tracekeep")

Failures = (sqlite3.Error, OSError, TracekeepError)


class Again(Exception):  # noqa: N818  # control flow, never seen outside
    """The failure has been dealt with as far as it can be; try again."""


class Rewound(Exception):  # noqa: N818  # control flow, never seen outside
    """The history begins again at an earlier mark: what was read is dropped and read anew."""


class Custody:
    """Both databases and all journals, while this process is the writer.

    Args:
        data_dir: the data directory.
        settings: of the store.
        own: name of this process's journal.
        complaints: where failures are shown.

    Attributes:
        bases: both databases; None until `open` has worked.
    """

    def __init__(self, data_dir: Path, settings: StoreSettings, own: Callable[[], str], complaints: Complaints) -> None:
        self.data_dir = data_dir
        self._settings = settings
        self._own = own
        self._complaints = complaints
        self.bases: Databases | None = None
        self._gatherer: Gatherer | None = None
        self._verified: dict[str, Position] = {}
        self._refolding: Generator[Change, None, None] | None = None
        self._refolded: frozenset[tuple[int, int]] = frozenset()

    @property
    def gather(self) -> Gatherer:
        """All journals."""
        assert self._gatherer is not None
        return self._gatherer

    @property
    def databases(self) -> Databases:
        """Both databases, once they are open."""
        assert self.bases is not None
        return self.bases

    def open(self) -> None:
        """Open both databases and begin at their marks."""
        if self.bases is None:
            path = self.data_dir / "aggregates.db"
            with self.blaming("aggregates", lambda: path):
                aggregates = Aggregates(path, self._settings)
            directory = self.data_dir / "history"
            try:
                with self.blaming("history", lambda: own_partitions(directory)[-1]):
                    history = History(directory, self._settings)
            except BaseException:
                aggregates.close()
                raise
            with self.blaming("aggregates"):
                self._restore(aggregates, history)
            self.bases = Databases(aggregates, history)
        self._gatherer = Gatherer(self.data_dir / "journal", self.bases.start_of, self._own)
        self.gather.discover()
        self._verified = self.bases.common_marks()

    @staticmethod
    def _restore(aggregates: Aggregates, history: History) -> None:
        """Fill an `aggregates.db` that is new; from the history, where that is not."""
        if aggregates.is_new and (count := restore(history.directory, aggregates, history.marks)):
            _logger.warning(
                "tracekeep: %s was lost; its totals were counted again from %d spans", aggregates.path, count
            )

    def close(self) -> None:
        """Close everything; also in the middle of a failure."""
        for closable in (self._refolding, self._gatherer, self.bases):
            if closable is not None:
                with suppress(*Failures):
                    closable.close()
        self._refolding = self._gatherer = self.bases = None

    def release_inherited(self) -> None:
        """In a forked child: close the copies of adopted locks."""
        if self._gatherer is not None:
            self._gatherer.release_inherited()

    def make_durable(self) -> None:
        """Checkpoint both databases; then the journals need no longer keep what they hold.

        Looked at first: a checkpoint would put a good first page over what somebody has broken.
        """
        self._notice_damaged()
        bases = self.databases
        self._verified = bases.common_marks()
        with self.blaming("history"):
            bases.history.make_durable()
        with self.blaming("aggregates"):
            bases.aggregates.make_durable()
        self.gather.remove_applied(self._verified)

    def log_bytes(self) -> int:
        """Size of the longer one of the logs."""
        return max(engine.log_bytes(base.path) for base in (self.databases.aggregates, self.databases.history))

    def notice_replaced(self) -> None:
        """Make anew what was deleted or replaced under us."""
        for part, base in (("aggregates", self.databases.aggregates), ("history", self.databases.history)):
            with self.blaming(part):
                if base.is_replaced():
                    self._renew(part)

    def _notice_damaged(self) -> None:
        """Make anew what was overwritten under us: SQLite would find out only when it needs the page."""
        for part, base in (("aggregates", self.databases.aggregates), ("history", self.databases.history)):
            with self.blaming(part):
                if base.is_damaged():
                    self._renew(part)

    def _renew(self, part: str) -> None:
        """Begin a new file. Totals come from memory; spans, as far as they go back, from the journals."""
        bases = self.databases
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
        self.gather.rewind()
        self.gather.discover()
        raise Rewound

    @property
    def is_refolding(self) -> bool:
        """Whether old rollups are being counted again."""
        return self._refolding is not None

    def refold_some(self) -> None:
        """One step of counting old rollups again; totals need none, memory had them."""
        with self.blaming("aggregates"):
            step = next(self._refolding, None) if self._refolding is not None else None
            if step is None:
                self._refolding = None
            else:
                self.databases.aggregates.apply_rollups(step, keep=self._refolded)

    @contextmanager
    def blaming(self, part: str, opening: Callable[[], Path] | None = None) -> Iterator[None]:
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
            raise Again from error
        self._complaints.clear(part)
