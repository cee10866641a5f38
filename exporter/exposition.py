"""The exposition of committed totals: from values to the bytes of a page.

Text 0.0.4 and 1.0.0: https://prometheus.io/docs/instrumenting/exposition_formats/
OpenMetrics 1.0:      https://prometheus.io/docs/specs/om/open_metrics_spec/

`le` values are written alike in all formats: a scraper that changes format must not begin new series.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from ..storage.views import Family
from .groups import Group, plan
from .negotiation import Exposition, Format
from .writing import GroupWriter, Key, Pass

# The text of 10,000 series of histograms; those past it are made anew for each page, at 10 µs each.
KEPT_BYTES = 32 << 20
# Small enough to be joined, compressed and sent without holding anything up.
_CHUNK_BYTES = 128 << 10


def render(families: Iterable[Family], exposition: Exposition, *, created: bool = False) -> bytes:
    """A page, made without anything kept from before."""
    return b"".join(Renderer(exposition, created=created).render(list(families)))


class Renderer:
    """Writes pages of one format, one after the other, each time only what has changed. Safe in several threads.

    Args:
        exposition: the format.
        created: whether start times are told.
        kept_bytes: how much text is kept, with what Python needs beside it.
    """

    def __init__(self, exposition: Exposition, *, created: bool = False, kept_bytes: int = KEPT_BYTES) -> None:
        self._exposition = exposition
        self._created = created
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._identities: list[tuple[object, ...]] = []
        self._writers: list[GroupWriter] = []

    def render(self, families: Sequence[Family], names: frozenset[str] = frozenset()) -> list[bytes]:
        """The page in chunks: families by name, series in the order given.

        What UTF-8 cannot hold (lone surrogates) becomes `?`.

        Args:
            families: whose series to write.
            names: of families or samples, as recorded or as exposed; only these are written, if any are given.
        """
        with self._lock:
            self._arrange(families)
            shared = Pass(self._kept_bytes)
            pieces = chain.from_iterable(writer.write(families, names, shared) for writer in self._writers)
            end = ((b"# EOF\n",),) if self._exposition.format is Format.OPENMETRICS else ()
            return list(_chunks(chain(pieces, end)))

    def _arrange(self, families: Sequence[Family]) -> None:
        """Find out who is written under which name, where the families aren't those of last time."""
        identities: list[tuple[object, ...]] = [
            (family.name, family.type, family.bounds, family.help, family.unit) for family in families
        ]
        if identities == self._identities:
            return
        known = {writer.key: writer for writer in self._writers}
        groups = plan(families, self._exposition, created=self._created)
        self._writers = [self._writer(group, known) for group in groups]
        self._identities = identities

    def _writer(self, group: Group, known: Mapping[Key, GroupWriter]) -> GroupWriter:
        fresh = GroupWriter(group, self._exposition, created=self._created)
        writer = known.get(fresh.key, fresh)
        writer.group = group  # the same families may stand at other places
        return writer


def _chunks(pieces: Iterable[Sequence[bytes]]) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered += piece
        size += sum(map(len, piece))
        if size >= _CHUNK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)
