"""One batch: from gathered records to what each database still lacks of them.

Each database skips what its own mark says it has. They differ only after a crash between the two
commits, or after one of them was lost: then a record may be new to the one and not to the other.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from time import sleep
from typing import Any

import msgspec

from .aggregates import Aggregates, dropped
from .change import Change
from .families import EXCEPTIONS, exception_labels
from .gather import Part, Record
from .gauges import started
from .groups import is_group_command
from .intake import Dictionary, Intake, decode_command
from .journal import DROP_REASONS, JournalState
from .partitions import History
from .reader import Position
from .records import CLEAR_ERRORS, Command, FrameType

LOST_REASONS = ("undecodable", "lost_in_memory", "journal_damaged")
"""Why the writer counts a record as dropped that its process had accepted."""
ALL_REASONS = (*DROP_REASONS, *LOST_REASONS)

_type, _sequence, _payload = itemgetter(0), itemgetter(1), itemgetter(2)
_SLICE = 256  # records between two offers of the interpreter to the app's threads


class Counted(msgspec.Struct, array_like=True):
    """What of a journal's own counters is in the accounting already."""

    dropped: dict[str, int] = {}
    truncated: int = 0
    unexplained: int = 0
    """Sequence numbers that never came and that nobody has accounted for yet; below 0: those that were accounted
    for before it showed that they didn't come."""
    finished: bool = False

    def take_gap(self, count: int) -> int:
        """Note that so many numbers didn't come; how many of them were accounted for before."""
        before = min(count, max(0, -self.unexplained))
        self.unexplained += count
        return before


@dataclass(slots=True)
class Batch:
    """Everything that one commit of each database takes."""

    parts: list[Part]
    dictionary: Dictionary
    intake: Intake
    change: Change
    before: dict[str, Position] = field(default_factory=dict)
    marks: dict[str, Position] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self, command: Command, bases: Databases) -> None:
        """Carry out a state change; its result is committed with the marks. Running it again changes nothing."""
        if command.id in self.results:
            return
        if command.name == CLEAR_ERRORS:
            result: dict[str, Any] = {"cleared": bases.history.clear_errors(command.time)}
            self.change.cleared = max(command.time, self.change.cleared or 0)
        elif is_group_command(command):
            result = bases.aggregates.run(self.change, command)
        else:
            return
        self.results[command.id] = result
        self.change.commands.append((command.id, command.time, msgspec.json.encode(result).decode()))


class Databases:
    """Both databases, opened for writing, and what they have of each journal."""

    def __init__(self, aggregates: Aggregates, history: History) -> None:
        self.aggregates = aggregates
        self.history = history

    def start_of(self, journal: str) -> Position:
        """Where a reader begins: behind what both have."""
        return min(
            self.aggregates.marks.get(journal, Position()),
            self.history.marks.get(journal, Position()),
            key=lambda position: (position.sequence, position.segment, position.offset),
        )

    def common_marks(self) -> dict[str, Position]:
        """Up to where both have each journal."""
        return {name: self.start_of(name) for name in self.aggregates.marks}

    def is_folded(self) -> bool:
        """Whether the totals have everything that the history has."""
        folded = self.aggregates.marks
        return all(folded.get(name, Position()).sequence >= mark.sequence for name, mark in self.history.marks.items())

    def orphaned_marks(self, root: Path) -> list[str]:
        """Journals that have marks but no directory any more."""
        try:
            present = {path.name for path in root.iterdir()}
        except OSError:
            return []  # not knowing is no reason to forget
        return [name for name in {*self.aggregates.marks, *self.history.marks} if name not in present]

    def close(self) -> None:
        """Close both."""
        self.aggregates.close()
        self.history.close()


def build(
    parts: list[Part],
    history: History,
    aggregates: Aggregates,
    dead: Container[str] = (),
    *,
    alone: bool = False,
) -> Batch:
    """Work out what the databases lack.

    Args:
        parts: what was read of the journals.
        history: the one database.
        aggregates: the other one, which alone takes in application metrics.
        dead: journals whose process is known to be dead.
        alone: whether the process has no threads of an app, which would like to run now and then.

    Raises:
        sqlite3.Error: a rollup or a series that the batch adds to can't be read.
    """
    batch = Batch(parts, history.dictionary, Intake(), aggregates.begin())
    replayed, refilled, scratch = Intake(), Intake(), Dictionary(dimensions=history.dictionary.dimensions)
    metrics: dict[str, list[bytes]] = {}
    _take_logs(batch, parts, history, aggregates, (refilled, replayed, scratch))
    for part in parts:
        name, definitions = part.reader.name, part.reader.definitions
        has_rows = history.marks.get(name, Position()).sequence
        has_fold = aggregates.marks.get(name, Position()).sequence
        types = set(map(_type, part.records))
        _account(batch, part, has_fold, aggregates)
        for both, rows_only, fold_only in _slices(part.records, has_rows, has_fold, alone=alone):
            history.dictionary.take_spans(_payloads(both, FrameType.SPAN, types), definitions, batch.intake)
            history.dictionary.take_spans(_payloads(rows_only, FrameType.SPAN, types), definitions, refilled)
            scratch.take_spans(_payloads(fold_only, FrameType.SPAN, types), definitions, replayed)
            batch.commands += _commands(_payloads(both + fold_only, FrameType.COMMAND, types))
            if new := _payloads(fold_only + both, FrameType.METRICS, types):
                metrics.setdefault(name, []).extend(new)
        batch.before.setdefault(name, part.before)
        batch.marks[name] = part.after
    for intake in (batch.intake, replayed):
        aggregates.fold(batch.change, intake.folds, history.opened)
        _count_exceptions(batch.change, intake, aggregates, history.opened)
        aggregates.fold_errors(batch.change, intake.errors, intake.changed_errors)
        _undecodable(batch.change, intake.undecodable)
    aggregates.edges.fold(batch.change, batch.intake.folds, replayed.folds)
    for name in sorted(metrics, key=lambda name: (name not in dead, started(name))):  # the newest definition last
        _undecodable(batch.change, aggregates.points.take(batch.change, name, metrics[name], dead))
    _join(batch.intake, refilled)
    batch.change.marks = batch.marks
    return batch


def _take_logs(
    batch: Batch,
    parts: list[Part],
    history: History,
    aggregates: Aggregates,
    others: tuple[Intake, Intake, Dictionary],
) -> None:
    """Take in the log records of a batch before all of its spans, so that requests in it have not ended yet."""
    refilled, replayed, scratch = others
    for part in parts:
        logs = [record for record in part.records if record[0] == FrameType.LOG]
        if not logs:
            continue
        name, definitions = part.reader.name, part.reader.definitions
        has_rows = history.marks.get(name, Position()).sequence
        has_fold = aggregates.marks.get(name, Position()).sequence
        for both, rows_only, fold_only in _slices(logs, has_rows, has_fold):
            history.dictionary.take_logs(list(map(_payload, both)), definitions, batch.intake)
            history.dictionary.take_logs(list(map(_payload, rows_only)), definitions, refilled)
            scratch.take_logs(list(map(_payload, fold_only)), definitions, replayed)
    for intake, dictionary in ((batch.intake, history.dictionary), (refilled, history.dictionary), (replayed, scratch)):
        for row in intake.late_errors:
            if row.trace_id in dictionary.errors.by_trace and (request := history.request_of(row.trace_id)):
                dictionary.errors.end(row.trace_id, *request, intake)


def _count_exceptions(change: Change, intake: Intake, aggregates: Aggregates, stored: int) -> None:
    newest = {(row.service, row.type): row for row in intake.errors}
    for (service, type_), count in intake.exceptions.items():
        row = newest[service, type_]
        exemplar = (row.trace_id, row.span_id, 1.0, min(row.time, change.time), stored)
        aggregates.count(change, EXCEPTIONS, exception_labels(service, type_), count, exemplar)


def _slices(
    records: list[Record], has_rows: int, has_fold: int, *, alone: bool = True
) -> Iterator[tuple[list[Record], list[Record], list[Record]]]:
    """Records new to both databases, to the history only, to the aggregates only; some at a time."""
    low, high = min(has_rows, has_fold), max(has_rows, has_fold)
    size = len(records) if alone else _SLICE
    for start in range(0, len(records), max(size, 1)):
        piece = records[start : start + size]
        if piece[0][1] > high:
            yield piece, [], []
        else:
            behind = [record for record in piece if low < record[1] <= high]
            rows_only, fold_only = ([], behind) if has_rows > has_fold else (behind, [])
            yield [record for record in piece if record[1] > high], rows_only, fold_only
        if not alone:
            sleep(0)


def _payloads(records: list[Record], wanted: FrameType, types: set[int]) -> list[bytes]:
    """Those of records of one type, where the types of all of them and more are known."""
    if wanted not in types:
        return []
    if len(types) == 1:
        return list(map(_payload, records))
    return [payload for type_, _, payload in records if type_ == wanted]


def _commands(payloads: list[bytes]) -> Iterator[Command]:
    for payload in payloads:
        with suppress(msgspec.MsgspecError):
            yield decode_command(payload)


def _join(into: Intake, other: Intake) -> None:
    for name in ("origins", "operations", "sets", "spans", "errors", "changed_errors"):
        getattr(into, name)[:0] = getattr(other, name)


# --- accounting ---------------------------------------------------------------------------------------------------


def _account(batch: Batch, part: Part, has_fold: int, aggregates: Aggregates) -> None:
    """Sequence numbers that came are stored; those that did not are explained by the process's own counters."""
    name = part.reader.name
    new = len(part.records) - bisect_right(part.records, has_fold, key=_sequence)
    advance = max(0, part.after.sequence - has_fold)
    counted = _counted(batch.change, name, aggregates)
    _add(batch.change, "accepted", advance - counted.take_gap(advance - new))
    _add(batch.change, "stored", new)
    _explain(batch.change, counted, part.reader.state())
    batch.change.counted[name] = msgspec.msgpack.encode(counted)


def count_quiet(change: Change, name: str, state: JournalState, aggregates: Aggregates) -> None:
    """Take in a process's own counters where no record comes that would bring them along."""
    counted = _counted(change, name, aggregates)
    if counted.finished:
        return
    before = msgspec.msgpack.encode(counted)
    _explain(change, counted, state)
    for reason, total in state.dropped.items():
        ahead = max(0, total - counted.dropped.get(reason, 0))
        if ahead:
            counted.dropped[reason] = total
            counted.unexplained -= ahead
            _add(change, "accepted", ahead)
            _add(change, f"dropped:{reason}", ahead)
    encoded = msgspec.msgpack.encode(counted)
    if encoded != before:
        change.counted[name] = encoded


def finish(change: Change, name: str, position: Position, state: JournalState, aggregates: Aggregates) -> None:
    """The last word about a dead process's journal: what it accepted and nobody will ever read; its gauges go."""
    aggregates.metrics.withdraw(change, name)
    counted = _counted(change, name, aggregates)
    if counted.finished:
        return
    tail = max(0, state.accepted - position.sequence)
    _add(change, "accepted", tail - counted.take_gap(tail))
    _explain(change, counted, state)
    in_memory = min(counted.unexplained, state.in_memory)
    _add(change, "dropped:lost_in_memory", in_memory)
    _add(change, "dropped:journal_damaged", counted.unexplained - in_memory)
    counted.unexplained, counted.finished = 0, True
    change.counted[name] = msgspec.msgpack.encode(counted)


def _counted(change: Change, name: str, aggregates: Aggregates) -> Counted:
    blob = change.counted.get(name) or aggregates.counted.get(name)
    return msgspec.msgpack.decode(blob, type=Counted) if blob else Counted()


def _explain(change: Change, counted: Counted, state: JournalState) -> None:
    for reason, total in state.dropped.items():
        explained = max(0, min(total - counted.dropped.get(reason, 0), counted.unexplained))
        if explained:
            counted.dropped[reason] = counted.dropped.get(reason, 0) + explained
            counted.unexplained -= explained
            _add(change, f"dropped:{reason}", explained)
    _add(change, "truncated", max(0, state.truncated - counted.truncated))
    counted.truncated = max(counted.truncated, state.truncated)


def _undecodable(change: Change, count: int) -> None:
    _add(change, "dropped:undecodable", count)
    _add(change, "stored", -count)


def _add(change: Change, name: str, amount: int) -> None:
    if amount:
        change.accounting[name] = change.accounting.get(name, 0) + amount


def drops(accounting: Mapping[str, int]) -> dict[str, int]:
    """Drops by reason, every reason listed."""
    return {**dict.fromkeys(ALL_REASONS, 0), **dropped(accounting)}
