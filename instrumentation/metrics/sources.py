"""Where metrics come from: what a source and a collector are to the recorder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from .faults import Faults
from .reading import Reading


class Collector(Protocol):
    """One thing that is read by itself: what is wrong with it leaves the others alone."""

    @property
    def name(self) -> str:
        """As faults call it."""

    @property
    def key(self) -> object:
        """The same for the same collector in each look."""

    @property
    def is_safe(self) -> bool:
        """Whether reading it runs no code but the metric library's own: at a fork only these can be read."""

    @property
    def is_additive(self) -> bool:
        """Whether series of several of its metrics that come out the same are added up."""

    def read(self, faults: Faults) -> Iterable[Reading]:
        """Its metrics as they are now. May raise anything, and may hang."""


class Source(Protocol):
    """A registry or a reader."""

    is_additive: bool
    """As of its collectors."""

    def collectors(self) -> Sequence[Collector]:
        """All that it has now, in the order in which they were registered."""

    def read_at_fork(self, faults: Faults) -> Iterable[Reading]:
        """What can be read without running anybody's code. Called by the process that is about to fork."""
