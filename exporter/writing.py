"""The text of a group's series, kept from one page to the next."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import is_

from ..storage.views import Family, Series
from .blocks import Block, blocks
from .groups import Group, exposed_type, state_label
from .merging import agreeing, merged
from .names import Labels, exposed_labels, is_plain, label_text, quoted
from .negotiation import Exposition

# Between two looks at the clock; of histograms this is some 30 KiB of text.
_SERIES_A_PIECE = 16
# After this long the interpreter is offered to the event loop; by itself it would be after 5 ms.
_STRETCH_SECONDS = 0.002
_PAUSE_SECONDS = 5e-5
# What Python keeps beside the text of a series.
_OVERHEAD_BYTES = 700
# Labels that a type needs for itself, and what others of that name are called.
_RESERVED = {
    "histogram": {"le": "exported_le"},
    "gaugehistogram": {"le": "exported_le"},
    "summary": {"quantile": "exported_quantile"},
}

Key = tuple[str, str, tuple[float, ...], str, str, tuple[str, ...]]
"""What a group's text depends on, but for its series."""


class Pass:
    """What the writing of one page shares: how much may be kept, and when to let others run."""

    def __init__(self, kept_bytes: int) -> None:
        self.left = kept_bytes
        self._began = time.perf_counter()

    def breathe(self) -> None:
        """Give the interpreter away for a moment, if it was held for long."""
        if time.perf_counter() - self._began > _STRETCH_SECONDS:
            time.sleep(_PAUSE_SECONDS)
            self._began = time.perf_counter()


class _Entry:
    """A series as it was written last: one text for each block."""

    __slots__ = ("identity", "inner", "labels", "series", "texts")

    def __init__(self, labels: Labels, inner: bytes, identity: int, blocks: int) -> None:
        self.labels = labels
        self.inner = inner
        self.identity = identity
        self.series: Series | None = None
        self.texts = [b""] * blocks

    @property
    def size(self) -> int:
        return sum(map(len, self.texts)) + _OVERHEAD_BYTES


class GroupWriter:
    """Writes one group's part of each page."""

    def __init__(self, group: Group, exposition: Exposition, *, created: bool) -> None:
        self.group = group
        self.key: Key = (group.name, group.type, group.bounds, group.help, group.unit, group.recorded)
        self._blocks = blocks(group, exposition, created=created)
        self._escaping = exposition.escaping
        self._renamed = _RESERVED.get(group.type, {})
        self._needed = ""
        if group.type == "stateset":
            state = state_label(group, exposition.escaping)
            self._renamed = dict.fromkeys(group.recorded, state)
            self._needed = state if exposed_type(group, exposition) == "stateset" else ""
        self._merging = len(group.members) > 1
        self._entries: dict[Labels, _Entry] = {}
        self._last: tuple[Sequence[Series], list[_Entry], int] = ((), [], 0)

    def write(self, families: Sequence[Family], names: frozenset[str], shared: Pass) -> Iterator[Sequence[bytes]]:
        """The group's part in pieces, each of several texts."""
        wanted = [self._wanted(block, names) for block in self._blocks]
        if not any(wanted):
            return
        entries = self._up_to_date(families, shared)
        for number, (block, samples) in enumerate(zip(self._blocks, wanted, strict=True)):
            if samples and (number == 0 or any(entry.texts[number] for entry in entries)):
                only = _beginnings(samples) if len(samples) < len(block.names) else ()
                yield (block.head.encode("utf-8", "replace"),)
                yield from _pieces(entries, number, only)

    def _wanted(self, block: Block, names: frozenset[str]) -> tuple[str, ...]:
        """Which samples of a block are asked for."""
        if not names or not names.isdisjoint((self.group.name, *self.group.recorded)):
            return block.names
        start = len(self.group.name)
        return tuple(
            name
            for name in block.names
            if not names.isdisjoint((name, *[f"{recorded}{name[start:]}" for recorded in self.group.recorded]))
        )

    def _up_to_date(self, families: Sequence[Family], shared: Pass) -> list[_Entry]:
        """The entries of all series, with the text of each."""
        series = self._series(families)
        before, known, size = self._last
        if series is before:
            shared.left -= size
            return known
        found = self._matched(series, known)
        others = found is not known
        if others and not self._merging and len({entry.identity for entry in found}) < len(found):
            self._merging = True
            return self._up_to_date(families, shared)
        self._rewrite(series, found, shared)
        self._keep(series, found, shared, others=others)
        return found

    def _matched(self, series: Sequence[Series], before: list[_Entry]) -> list[_Entry]:
        """An entry for each series. Mostly they are those of last time, in the same order, and `before` itself."""
        labels = [each.labels for each in series]
        if len(labels) == len(before) and all(map(is_, labels, [entry.labels for entry in before])):
            return before
        found = [self._entries.get(each) or self._admitted(each) for each in labels]
        for entry, each in zip(found, labels, strict=True):
            entry.labels = each  # equal, but next time it shall be the same
        return found

    def _rewrite(self, series: Sequence[Series], entries: list[_Entry], shared: Pass) -> None:
        """Write the series that have changed."""
        changed = [
            (entry, each)
            for entry, each in zip(entries, series, strict=True)
            if entry.series is not each and entry.series != each
        ]
        for start in range(0, len(changed), _SERIES_A_PIECE):
            piece = changed[start : start + _SERIES_A_PIECE]
            members, inners = tuple([each for _, each in piece]), tuple([entry.inner for entry, _ in piece])
            for number, block in enumerate(self._blocks):
                for (entry, each), text in zip(piece, block.write(members, inners), strict=True):
                    entry.series, entry.texts[number] = each, text
            shared.breathe()

    def _keep(self, series: Sequence[Series], found: list[_Entry], shared: Pass, *, others: bool) -> None:
        """Hold on to as much text as there is room for."""
        size = sum([len(text) for entry in found for text in entry.texts]) + _OVERHEAD_BYTES * len(found)
        if size <= shared.left:
            shared.left -= size
            self._last = (series, found, size)
            if others:
                self._entries = {entry.labels: entry for entry in found}
            return
        self._last, self._entries = ((), [], 0), {}
        for entry in found:
            shared.left -= entry.size
            if shared.left < 0:
                break
            self._entries[entry.labels] = entry

    def _series(self, families: Sequence[Family]) -> Sequence[Series]:
        members = [families[number].series for number in self.group.members]
        series = members[0] if len(members) == 1 else list(chain.from_iterable(members))
        if self.group.is_target:
            return agreeing(series)
        if self._needed:
            series = [each for each in series if any(name == self._needed for name, _ in self._exposed(each.labels))]
        if self._merging:
            return merged(series, self.group.type, lambda each: _canonical(self._exposed(each.labels)))
        return series

    def _exposed(self, labels: Labels) -> Labels:
        return exposed_labels(labels, self._escaping, self._renamed)

    def _admitted(self, recorded: Labels) -> _Entry:
        labels = self._exposed(recorded)
        inner = label_text(labels).replace("%", "%%").encode("utf-8", "replace")
        return _Entry(recorded, inner, hash(_canonical(labels)), len(self._blocks))


def _canonical(labels: Labels) -> Labels:
    """What makes a series for Prometheus: labels in any order, those without a value not being there."""
    return tuple(sorted(pair for pair in labels if pair[1]))


def _pieces(entries: list[_Entry], number: int, only: tuple[bytes, ...]) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(entries), _SERIES_A_PIECE):
        piece = [entry.texts[number] for entry in entries[start : start + _SERIES_A_PIECE]]
        yield [_filtered(text, only) for text in piece] if only else piece


def _beginnings(samples: Sequence[str]) -> tuple[bytes, ...]:
    """How the lines of samples begin."""
    found = [f"{name}{after}" for name in samples if is_plain(name) for after in "{ "]
    found += [f"{{{quoted(name)}{after}" for name in samples if not is_plain(name) for after in ",}"]
    return tuple(each.encode("utf-8", "replace") for each in found)


def _filtered(text: bytes, only: tuple[bytes, ...]) -> bytes:
    lines = [line for line in text.split(b"\n") if line.startswith(only)]
    return b"".join([line + b"\n" for line in lines])
