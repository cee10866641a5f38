"""The documents that `/monitoring/errors` answers with, built from the store's views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..storage import Command, ErrorGroup, ErrorStats, ErrorView, Page
from .responses import like, rfc3339


class Error(msgspec.Struct, frozen=True):
    """One retained error. `severity` is `operational` (expected, answered) or `critical`."""

    id: str
    time: str
    service: str
    release: str | None
    type: str
    message: str
    stacktrace: str | None
    group: str | None
    operational: bool
    severity: str
    trace_id: str | None
    span_id: str | None
    operation: str
    attributes: Mapping[str, Any]

    @classmethod
    def of(cls, error: ErrorView) -> Error:
        """From the store's view."""
        severity = "operational" if error.operational else "critical"
        return like(cls, error, time=rfc3339(error.time_ns), severity=severity)


class Stats(msgspec.Struct, frozen=True):
    """Counts of all retained errors that are not cleared, whatever the page's filters."""

    total: int
    last_hour: int
    last_24_hours: int
    operational: int
    critical: int


class Errors(msgspec.Struct, frozen=True):
    """A page of errors, newest first. `next` is the cursor of the page after it."""

    errors: Sequence[Error]
    stats: Stats
    next: str | None
    degraded: bool

    @classmethod
    def of(cls, page: Page[ErrorView], stats: ErrorStats) -> Errors:
        """From the store's views."""
        errors = [Error.of(error) for error in page.items]
        return cls(errors, like(Stats, stats), page.cursor, page.degraded)


class Cleared(msgspec.Struct, frozen=True):
    """What became of a request to clear the errors; `cleared` is null until it is applied."""

    id: str
    cleared: int | None


class GroupRelease(msgspec.Struct, frozen=True):
    """How often a group has been met in a release; `release` is empty where services name none."""

    release: str
    count: int
    first_seen: str
    last_seen: str


class GroupHour(msgspec.Struct, frozen=True):
    """How often a group has been met in the hour from `start` on."""

    start: str
    count: int


class GroupSample(msgspec.Struct, frozen=True):
    """An error of a group, by its span."""

    trace_id: str
    span_id: str
    time: str


class Group(msgspec.Struct, frozen=True):
    """All errors with one fingerprint. `message`, `operational` and `severity` are those of the newest."""

    id: str
    type: str
    message: str
    culprit: str
    services: Sequence[str]
    state: str
    state_changed: str | None
    regressions: int
    regressed: str | None
    operational: bool
    severity: str
    count: int
    first_seen: str
    last_seen: str
    newest_trace_id: str | None

    @classmethod
    def of(cls, group: ErrorGroup) -> Group:
        """From the store's view."""
        return like(cls, group, **_told(group))


class GroupDetails(Group, frozen=True):
    """A group with its last hours, its newest releases, and traces of the newest errors and the first."""

    fingerprint_version: int
    hours: Sequence[GroupHour]
    releases: Sequence[GroupRelease]
    samples: Sequence[GroupSample]

    @classmethod
    def of(cls, group: ErrorGroup) -> GroupDetails:
        """From the store's view."""
        return like(
            cls,
            group,
            **_told(group),
            fingerprint_version=group.version,
            hours=[GroupHour(rfc3339(hour.start_ns), hour.count) for hour in group.hours],
            releases=[
                GroupRelease(each.release, each.count, rfc3339(each.first_seen_ns), rfc3339(each.last_seen_ns))
                for each in group.releases
            ],
            samples=[GroupSample(each.trace_id, each.span_id, rfc3339(each.time_ns)) for each in group.samples],
        )


def _told(group: ErrorGroup) -> dict[str, Any]:
    return {
        "severity": "operational" if group.operational else "critical",
        "state_changed": rfc3339(group.state_changed_ns) if group.state_changed_ns is not None else None,
        "regressed": rfc3339(group.regressed_ns) if group.regressed_ns is not None else None,
        "first_seen": rfc3339(group.first_seen_ns),
        "last_seen": rfc3339(group.last_seen_ns),
        "newest_trace_id": group.samples[0].trace_id if group.samples else None,
    }


class Groups(msgspec.Struct, frozen=True):
    """A page of groups. `next` is the cursor of the page after it."""

    groups: Sequence[Group]
    next: str | None

    @classmethod
    def of(cls, page: Page[ErrorGroup]) -> Groups:
        """From the store's view."""
        return cls([Group.of(group) for group in page.items], page.cursor)


class Transition(msgspec.Struct, frozen=True):
    """What became of a request to change a group's state.

    `state` is null until it is applied. It is `open` after a request to resolve where a newer error had come already.
    """

    id: str
    group: str
    state: str | None

    @classmethod
    def of(cls, group: str, command: Command) -> Transition:
        """From the store's view."""
        return cls(command.id, group, command.result.get("state") if command.applied else None)
