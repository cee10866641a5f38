"""What became of a request, for its answer."""

from __future__ import annotations

from typing import NamedTuple


class Taken(NamedTuple):
    """How much of a request was not taken, and why; what was taken is in the journal.

    OTLP calls this a partial success (https://opentelemetry.io/docs/specs/otlp/#partial-success-1).
    """

    rejected: int = 0
    """Spans, log records or metric points."""
    reason: str = ""
    """For whoever reads the sender's log; empty where nothing was rejected."""
