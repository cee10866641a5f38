"""What the journals hold and the databases don't have yet: the answer while a database can't take it.

Nothing is kept for this on the request path: the journals are the memory. At most the newest 1,000
spans are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from . import segments
from .exceptions import ErrorRow
from .frames import scan_all
from .intake import Dictionary, Intake
from .records import FrameType
from .segments import FIRST_FRAME
from .span_pages import span_view
from .views import ErrorFilter, ErrorView, SpanFilter, SpanView

LIMIT = 1000


class Recent:
    """Pending spans and errors, newest first."""

    def __init__(self, spans: list[SpanView], errors: list[ErrorView]) -> None:
        self._spans = spans
        self._errors = errors

    def spans(self, wanted: SpanFilter) -> list[SpanView]:
        """Those that a filter finds."""
        return [span for span in self._spans if _matches(span, wanted)]

    def errors(self, wanted: ErrorFilter) -> list[ErrorView]:
        """Those that a filter finds."""
        return [
            error
            for error in self._errors
            if error.time_ns > wanted.cleared_ns
            and wanted.service in (None, error.service)
            and wanted.type in (None, error.type)
            and (wanted.since_ns is None or error.time_ns >= wanted.since_ns)
            and (wanted.until_ns is None or error.time_ns < wanted.until_ns)
            and wanted.group in (None, error.group)
            and wanted.operational in (None, error.operational)
            and (wanted.groups is None or error.group in wanted.groups)
        ]


def read_recent(root: Path, marks: Mapping[str, int]) -> Recent:
    """Look at the end of every journal, past what has been applied.

    Args:
        root: `journal/`.
        marks: sequence number of the last applied record, by journal.
    """
    spans: list[SpanView] = []
    errors: list[ErrorView] = []
    for directory in segments.directories(root):
        with suppress(OSError, ValueError):
            payloads, logs, origins = _tail(directory, marks.get(directory.name, 0))
            intake = Intake()
            dictionary = Dictionary()
            dictionary.take_logs(logs, origins, intake)
            dictionary.take_spans(payloads, origins, intake)
            spans += _span_views(intake)
            errors += [_error_view(row) for row in intake.errors]
    spans.sort(key=lambda span: -(span.start_ns + span.duration_ns))
    errors.sort(key=lambda error: -error.time_ns)
    return Recent(spans[:LIMIT], errors[:LIMIT])


def _tail(directory: Path, applied: int) -> tuple[list[bytes], list[bytes], dict[int, bytes]]:
    """Payloads of the newest spans and log records, and the definitions that they refer to, from the last segments."""
    payloads: list[bytes] = []
    logs: list[bytes] = []
    origins: dict[int, bytes] = {}
    for number in segments.numbers(directory)[-3:]:
        data = (directory / f"{number:08d}.seg").read_bytes()[FIRST_FRAME:]
        for type_, sequence, payload in scan_all(data):
            if type_ == FrameType.DEFINITION:
                origins[int.from_bytes(payload[:4], "little")] = payload[4:]
            elif type_ == FrameType.SPAN and sequence > applied:
                payloads.append(payload)
            elif type_ == FrameType.LOG and sequence > applied:
                logs.append(payload)
    return payloads[-LIMIT:], logs[-LIMIT:], origins


class _Row(NamedTuple):
    """As `intake.py` makes them, and as the history would store them."""

    trace_id: bytes
    span_id: int
    parent_id: int | None
    operation: int
    attribute_set: int | None
    start: int
    duration: int
    status: int
    attributes: str | None
    details: str | None


def _span_views(intake: Intake) -> list[SpanView]:
    origins = {row[0]: row[1:] for row in intake.origins}
    operations = {row[0]: row[1:] for row in intake.operations}
    sets = {row[0]: row[1] for row in intake.sets}
    views = []
    for row in map(_Row._make, intake.spans):
        origin, name, kind = operations[row.operation]
        shared = sets[row.attribute_set] if row.attribute_set is not None else None
        views.append(span_view(row, origins[origin], (name, kind), shared))
    return views


def _error_view(row: ErrorRow) -> ErrorView:
    return ErrorView(
        id=f"pending-{row.trace_id.hex()}-{row.span_id:016x}-{row.time}",
        time_ns=row.time,
        service=row.service,
        type=row.type,
        message=row.message,
        stacktrace=row.stacktrace,
        operational=row.operational,
        trace_id=row.trace_id.hex() or None,
        span_id=f"{row.span_id:016x}" if row.trace_id else None,
        operation=row.operation,
        attributes=row.attributes,
        release=row.release or None,
        group=row.group,
    )


def _matches(span: SpanView, wanted: SpanFilter) -> bool:
    duration, start = span.duration_ns, span.start_ns
    return (
        wanted.service in (None, span.service)
        and wanted.name in (None, span.name)
        and wanted.kind in (None, span.kind)
        and wanted.status in (None, span.status)
        and wanted.trace_id in (None, span.trace_id)
        and (wanted.min_duration_ns is None or duration >= wanted.min_duration_ns)
        and (wanted.max_duration_ns is None or duration <= wanted.max_duration_ns)
        and (wanted.since_ns is None or start >= wanted.since_ns)
        and (wanted.until_ns is None or start < wanted.until_ns)
        and all(_written(span.attributes.get(key)) == value for key, value in wanted.attributes.items())
    )


def _written(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
