"""Error groups from the reading side."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, and_, exists, func, or_, select

from .errors import InvalidCursor
from .groups import HOUR
from .schema import error_groups
from .views import ErrorGroup, GroupFilter, HourCount, Page, Release, Sample

SORTS = ("last_seen", "first_seen", "count")
_ID_BYTES = 8
_from_json = msgspec.json.decode


def read_group(connection: Connection, group: str) -> ErrorGroup | None:
    """One group, or None."""
    row = connection.execute(select(error_groups).where(error_groups.c.id == group)).one_or_none()
    return _view(row) if row is not None else None


def read_group_ids(connection: Connection, state: str) -> list[str]:
    """Ids of the groups in a state."""
    return list(connection.scalars(select(error_groups.c.id).where(error_groups.c.state == state)))


def read_groups(
    connection: Connection, wanted: GroupFilter, sort: str, limit: int, cursor: str | None
) -> Page[ErrorGroup]:
    """A page of groups, by one of `SORTS`, the highest first.

    Raises:
        InvalidCursor: it is not one of this sort's.
    """
    column, key = error_groups.c[sort], error_groups.c.id
    query = _matching(wanted).order_by(column.desc(), key.desc()).limit(limit + 1)
    if cursor is not None:
        value, last = _decode_cursor(cursor, sort)
        query = query.where(or_(column < value, and_(column == value, key < last)))
    rows = connection.execute(query).all()
    end = rows[limit - 1] if len(rows) > limit else None
    following = _encode_cursor(sort, getattr(end, sort), end.id) if end is not None else None
    return Page([_view(row) for row in rows[:limit]], following)


def _matching(wanted: GroupFilter) -> Select[Any]:
    groups, conditions = error_groups.c, []
    if wanted.type is not None:
        conditions.append(groups.type == wanted.type)
    if wanted.state is not None:
        conditions.append(groups.state == wanted.state)
    if wanted.since_ns is not None:
        conditions.append(groups.last_seen >= wanted.since_ns)
    if wanted.until_ns is not None:
        conditions.append(groups.first_seen < wanted.until_ns)
    if wanted.service is not None:
        service = func.json_each(groups.services).table_valued("value")
        conditions.append(exists(select(1).select_from(service).where(service.c.value == wanted.service)))
    return select(error_groups).where(*conditions)


def _view(row: Any) -> ErrorGroup:
    releases = [Release(name, count, first, last) for name, (first, last, count) in _from_json(row.releases).items()]
    hours = msgspec.msgpack.decode(row.hours, type=dict[int, int])
    return ErrorGroup(
        id=row.id,
        version=row.version,
        type=row.type,
        message=row.message,
        culprit=row.culprit,
        services=_from_json(row.services),
        first_seen_ns=row.first_seen,
        last_seen_ns=row.last_seen,
        count=row.count,
        operational=bool(row.operational),
        state=row.state,
        state_changed_ns=row.changed or None,
        regressions=row.regressions,
        regressed_ns=row.regressed or None,
        releases=sorted(releases, key=lambda release: -release.last_seen_ns),
        samples=[Sample(*sample) for sample in reversed(_from_json(row.samples))],
        hours=[HourCount(hour * HOUR, hours[hour]) for hour in sorted(hours)],
    )


def _encode_cursor(sort: str, value: int, group: str) -> str:
    return base64.urlsafe_b64encode(f"{sort}:{value}:{group}".encode()).decode().rstrip("=")


def _decode_cursor(cursor: str, sort: str) -> tuple[int, str]:
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        name, value, group = plain.split(":")
        is_ours = len(bytes.fromhex(group)) == _ID_BYTES and 0 <= int(value) < 1 << 63
        if is_ours and name == sort and _encode_cursor(name, int(value), group) == cursor:
            return int(value), group
    except (ValueError, binascii.Error):
        pass
    raise InvalidCursor(f"{cursor!r} is not a cursor that this store gave out for this order")
