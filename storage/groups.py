"""Error groups: what is known of each bug, in `aggregates.db` in the transaction of the errors that it comes with.

All groups are in memory, as many as the limit allows, so that a file that is lost is written anew. A commit replaces
the groups that it changes; memory changes only once it has succeeded.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from .exceptions import ErrorRow
from .families import bounded
from .fingerprint import OVERFLOW, VERSION
from .records import MUTE, REOPEN, RESOLVE, Command

OPEN, RESOLVED, MUTED = "open", "resolved", "muted"
STATES = (OPEN, RESOLVED, MUTED)
_COMMANDS = {RESOLVE: RESOLVED, MUTE: MUTED, REOPEN: OPEN}

HOUR = 3_600_000_000_000
MAX_HOURS = 168
"""Hours of a group with a count each: a week of them, the newest."""
MAX_SAMPLES = 5
"""Traces of the newest errors; the first one is kept beside them."""
MAX_SERVICES = 20
MAX_RELEASES = 20
MAX_MESSAGE = 1000

Sample = tuple[str, str, int]
"""Trace id and span id in hex, time (ns)."""

_COLUMNS = (
    "id, version, type, message, culprit, services, first_seen, last_seen, count, operational, state, changed, "
    "regressions, regressed, releases, samples, hours"
)
_UPSERT = f"INSERT OR REPLACE INTO error_groups({_COLUMNS}) VALUES ({','.join('?' * 17)})"
_to_json = msgspec.json.Encoder().encode
_to_msgpack = msgspec.msgpack.Encoder().encode
_from_hours = msgspec.msgpack.Decoder(dict[int, int]).decode


@dataclass(slots=True)
class Group:
    """One group. Times in ns."""

    id: str
    type: str
    culprit: str
    first_seen: int
    last_seen: int = 0
    version: int = VERSION
    message: str = ""
    services: list[str] = field(default_factory=list)
    count: int = 0
    operational: bool = False
    state: str = OPEN
    changed: int = 0
    regressions: int = 0
    regressed: int = 0
    releases: dict[str, list[int]] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    hours: dict[int, int] = field(default_factory=dict)

    def copy(self) -> Group:
        """Another one that can be changed."""
        return replace(
            self,
            services=list(self.services),
            releases={release: list(seen) for release, seen in self.releases.items()},
            samples=list(self.samples),
            hours=dict(self.hours),
        )

    def add(self, row: ErrorRow, time: int) -> None:
        """Take in an error that happened at a time."""
        self.count += 1
        self.first_seen = min(self.first_seen, time)
        if row.service not in self.services and len(self.services) < MAX_SERVICES:
            self.services.append(row.service)
        if time >= self.last_seen:
            self.last_seen, self.operational = time, row.operational
            self.message = row.message[:MAX_MESSAGE]
        seen = self.releases.setdefault(row.release, [time, time, 0])
        seen[:] = min(seen[0], time), max(seen[1], time), seen[2] + 1
        if len(self.releases) > MAX_RELEASES:
            del self.releases[min(self.releases, key=lambda release: self.releases[release][1])]
        self.hours[time // HOUR] = self.hours.get(time // HOUR, 0) + 1
        if len(self.hours) > MAX_HOURS:
            del self.hours[min(self.hours)]
        if row.trace_id:
            self._show((row.trace_id.hex(), f"{row.span_id:016x}", time))

    def _show(self, sample: Sample) -> None:
        """Keep the trace of the first error and those of the newest, by time."""
        others = [each for each in self.samples if each[0] != sample[0]]
        known = next((each for each in self.samples if each[0] == sample[0]), sample)
        samples = sorted([*others, min(known, sample, key=_when)], key=_when)
        self.samples = samples if len(samples) <= MAX_SAMPLES + 1 else [samples[0], *samples[-MAX_SAMPLES:]]

    def kept_traces(self) -> list[str]:
        """Traces that outlive their partition: of its first and newest error, while it is open."""
        if self.state != OPEN or not self.samples:
            return []
        return list(dict.fromkeys([self.samples[-1][0], self.samples[0][0]]))


def _when(sample: Sample) -> int:
    return sample[2]


@dataclass(slots=True)
class GroupChange:
    """What one commit does to groups."""

    changed: dict[str, Group] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    new: dict[str, int] = field(default_factory=dict)
    """Groups that are met for the first time, by service."""
    regressed: dict[str, int] = field(default_factory=dict)
    """Groups that have come back, by service."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


class Groups:
    """All groups of a data directory.

    Args:
        limit: how many; errors past it go to the group `OVERFLOW`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.known: dict[str, Group] = {}

    def load(self, connection: sqlite3.Connection) -> None:
        """Take in what the database has."""
        self.known = {row[0]: _group_of(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM error_groups")}

    # --- computing a change ----------------------------------------------------------------------------------------

    def fold(self, change: GroupChange, rows: Iterable[ErrorRow], now: int) -> None:
        """Add errors that are new to a change.

        Args:
            change: to add to.
            rows: the errors.
            now: a time that none of them can be after, whatever clocks say (ns).
        """
        for row in rows:
            time = min(row.time, now)
            group = self._take(change, row, time)
            if group.state == RESOLVED and time > group.changed:
                self._regress(change, group, row.service, time)
            group.add(row, time)

    def _take(self, change: GroupChange, row: ErrorRow, time: int) -> Group:
        """The group of an error, to be changed; past the limit the overflow group."""
        group = self.changing(change, row.group)
        if group is None:
            new = sum(id_ not in self.known and id_ != OVERFLOW for id_ in change.changed)
            if len(self.known) - (OVERFLOW in self.known) + new >= self._limit:
                group = self.changing(change, OVERFLOW)
                if group is None:
                    group = change.changed[OVERFLOW] = Group(OVERFLOW, "", "", time)
                return group
            group = change.changed[row.group] = Group(row.group, row.type, row.culprit, time)
            service = bounded(row.service)
            change.new[service] = change.new.get(service, 0) + 1
        return group

    def changing(self, change: GroupChange, id_: str) -> Group | None:
        """A group as a change leaves it, to be changed further; None where there is none."""
        group = change.changed.get(id_)
        if group is None and (known := self.known.get(id_)) is not None:
            group = change.changed[id_] = known.copy()
        return group

    @staticmethod
    def _regress(change: GroupChange, group: Group, service: str, time: int) -> None:
        group.state, group.changed, group.regressed = OPEN, 0, time
        group.regressions += 1
        label = bounded(service)
        change.regressed[label] = change.regressed.get(label, 0) + 1

    def settle(self, change: GroupChange, rows: Iterable[ErrorRow]) -> None:
        """Take in that errors which had been counted have turned out to be operational, or not to be."""
        for row in rows:
            known = change.changed.get(row.group) or self.known.get(row.group)
            if known is not None and row.time == known.last_seen and row.operational != known.operational:
                group = self.changing(change, row.group)
                assert group is not None
                group.operational = row.operational

    def run(self, change: GroupChange, command: Command) -> dict[str, Any]:
        """Carry out a command of a group; what became of it.

        One that was resolved before its newest error has come back already.
        """
        wanted = _COMMANDS[command.name]
        id_ = command.arguments.get("group")
        group = self.changing(change, id_) if isinstance(id_, str) else None
        if group is None:
            return {"found": False}
        if group.state != wanted:
            group.state, group.changed, group.regressed = wanted, command.time, 0
            if wanted == RESOLVED and group.last_seen > command.time:
                self._regress(change, group, group.services[-1] if group.services else "", group.last_seen)
        return {"found": True, "state": group.state}

    def expire(self, change: GroupChange, before: int) -> None:
        """Have a change remove the groups that were last seen before a time (ns)."""
        change.removed = [group.id for group in self.known.values() if group.last_seen < before]

    # --- committing ------------------------------------------------------------------------------------------------

    @staticmethod
    def write(connection: sqlite3.Connection, change: GroupChange) -> None:
        """Write what a change does."""
        connection.executemany(_UPSERT, [_row_of(group) for group in change.changed.values()])
        connection.executemany("DELETE FROM error_groups WHERE id=?", [(id_,) for id_ in change.removed])

    def take(self, change: GroupChange) -> None:
        """Take in what a committed change did."""
        self.known.update(change.changed)
        for id_ in change.removed:
            self.known.pop(id_, None)

    def everything(self) -> GroupChange:
        """A change that writes all groups to a file that was made anew."""
        return GroupChange(changed=dict(self.known))

    def kept_traces(self) -> list[bytes]:
        """Traces that outlive their partition, of the groups that were met last first."""
        groups = sorted(self.known.values(), key=lambda group: -group.last_seen)
        traces = [bytes.fromhex(trace) for group in groups for trace in group.kept_traces()]
        return list(dict.fromkeys(traces))


def is_group_command(command: Command) -> bool:
    """Whether a command is one of a group's."""
    return command.name in _COMMANDS


def _row_of(group: Group) -> tuple[Any, ...]:
    return (
        group.id, group.version, group.type, group.message, group.culprit, _json(group.services), group.first_seen,
        group.last_seen, group.count, int(group.operational), group.state, group.changed, group.regressions,
        group.regressed, _json(group.releases), _json(group.samples), _to_msgpack(group.hours),
    )  # fmt: skip


def _group_of(row: tuple[Any, ...]) -> Group:
    return Group(
        id=row[0],
        version=row[1],
        type=row[2],
        message=row[3],
        culprit=row[4],
        services=msgspec.json.decode(row[5]),
        first_seen=row[6],
        last_seen=row[7],
        count=row[8],
        operational=bool(row[9]),
        state=row[10],
        changed=row[11],
        regressions=row[12],
        regressed=row[13],
        releases=msgspec.json.decode(row[14]),
        samples=msgspec.json.decode(row[15], type=list[Sample]),
        hours=_from_hours(row[16]),
    )


def _json(value: list[Any] | Mapping[str, Any]) -> str:
    return _to_json(value).decode()
